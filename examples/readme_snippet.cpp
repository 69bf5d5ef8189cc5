// The example of the README, as a program. The tests check that the README holds the marked lines.
#include <cstdio>
#include <vector>

// [readme]
#include <radixkv/host_executor.h>
#include <radixkv/kv_cache.h>

using namespace radixkv;

result<std::int64_t> serve(kv_cache& cache, host_executor& memory,
                           const std::vector<token_id>& prompt) {
  step_plan plan;                                      // bytes to move before the next pass
  auto opened = cache.open(prompt, "tenant-a", plan);  // finds the longest cached prefix
  if (!opened) return opened.error();                  // out_of_blocks: ordinary, retry later
  sequence& kv = *opened;
  if (auto ran = memory.run(plan); !ran) return ran.error();
  // … compute KV of tokens [kv.cached_tokens(), prompt.size()) into kv.block_table() …
  const auto tokens = static_cast<std::int64_t>(prompt.size());
  if (auto filled = kv.mark_filled(tokens); !filled) return filled.error();
  if (auto published = kv.commit(); !published) return published.error();
  return kv.cached_tokens();  // destroying kv releases its blocks
}
// [readme]

int main() {
  auto cache = kv_cache::create({.blocks = 1024, .block_tokens = 16});
  auto memory = host_executor::create(layout_nhd({.blocks = 1024, .head_bytes = 256}));
  if (!cache || !memory) return 1;
  const std::vector<token_id> prompt(100, 42);
  for (const std::int64_t expected : {0, 99}) {
    auto cached = serve(*cache, *memory, prompt);
    if (!cached || *cached != expected) return 1;
    std::printf("%lld of %zu tokens came from the cache\n", static_cast<long long>(*cached),
                prompt.size());
  }
  return 0;
}
