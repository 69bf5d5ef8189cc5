// A cache with an eviction policy of the application's own (sampled_lru.h).
#include <cstdio>
#include <memory>
#include <vector>

#include "examples/sampled_lru.h"
#include <radixkv/kv_cache.h>

using namespace radixkv;

int main() {
  cache_options options;
  options.blocks = 64;
  options.policy_factory = [] { return std::make_unique<sampled_lru>(); };
  result<kv_cache> cache = kv_cache::create(options);
  if (!cache) {
    std::fprintf(stderr, "create: %s\n", cache.error().message.c_str());
    return 1;
  }

  // One prompt comes again and again, the others once: they take turns in the rest of the pool.
  std::int64_t hits = 0;
  for (token_id i = 1; i <= 200; ++i) {
    std::vector<token_id> prompt(100, i % 2 == 0 ? 0 : i);
    step_plan plan;
    result<sequence> opened = cache->open(prompt, "", plan);
    if (!opened) {
      std::fprintf(stderr, "open: %s\n", opened.error().message.c_str());
      return 1;
    }
    hits += opened->cached_tokens() > 0;
    if (!opened->mark_filled(opened->tokens()) || !opened->commit()) return 1;
  }
  std::printf("%s: %lld of 200 requests hit\n", cache->options().policy.c_str(),
              static_cast<long long>(hits));
  return hits > 80 ? 0 : 1;
}
