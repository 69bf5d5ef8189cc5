// Embeds the installed package: opens, commits and finds a prompt again.
#include <cstdio>
#include <numeric>
#include <utility>
#include <vector>

#include "radixkv/kv_cache.h"

int main() {
  auto cache = radixkv::kv_cache::create({.blocks = 64, .block_tokens = 16});
  if (!cache) {
    std::fprintf(stderr, "create: %s\n", cache.error().message.c_str());
    return 1;
  }
  std::vector<radixkv::token_id> prompt(100);
  std::iota(prompt.begin(), prompt.end(), 1);
  for (const int expected : {0, 99}) {  // at most n-1 tokens are served without cached logits
    radixkv::step_plan plan;
    auto opened = cache->open(prompt, "tenant", plan);
    if (!opened) {
      std::fprintf(stderr, "open: %s\n", opened.error().message.c_str());
      return 1;
    }
    radixkv::sequence sequence = std::move(*opened);
    if (sequence.cached_tokens() != expected) {
      std::fprintf(stderr, "%d tokens were cached, expected %d\n",
                   static_cast<int>(sequence.cached_tokens()), expected);
      return 1;
    }
    if (const radixkv::status filled = sequence.mark_filled(sequence.tokens()); !filled) {
      std::fprintf(stderr, "mark_filled: %s\n", filled.error().message.c_str());
      return 1;
    }
    if (const auto done = sequence.commit(); !done) {
      std::fprintf(stderr, "commit: %s\n", done.error().message.c_str());
      return 1;
    }
  }
  std::printf("the installed package works\n");
  return 0;
}
