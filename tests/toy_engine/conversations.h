// The toy engine's test, for any executor: `Memory` as in toy_engine.h, constructed from a layout.
#pragma once

#include <iostream>

#include "tests/toy_engine/toy_engine.h"

namespace radixkv::toy {

struct conversation_case {
  const char* name;
  bool heads_outside;
  bool slab;
  std::int64_t blocks;
  std::uint32_t block_tokens;
  engine_options options;
};

template <typename Memory>
void run_conversations(const conversation_case& c) {
  SCOPED_TRACE(c.name);
  const layout_shape shape{.blocks = c.blocks,
                           .block_tokens = c.block_tokens,
                           .layers = layers,
                           .heads = heads,
                           .head_bytes = head_dim * sizeof(float),
                           .kv = 2,
                           .scale_bytes = 0};
  memory_layout layout = c.slab            ? layout_slab(shape)
                         : c.heads_outside ? layout_hnd(shape)
                                           : layout_nhd(shape);
  layout.logits_rows = 6;
  layout.vocabulary = vocabulary;
  cache_options options;
  options.blocks = c.blocks;
  options.block_tokens = c.block_tokens;
  options.min_prefix_tokens = 2;
  options.logits_rows = layout.logits_rows;
  auto cache = kv_cache::create(options);
  ASSERT_TRUE(cache.ok()) << cache.error().message;
  Memory memory(layout);
  engine<Memory> served(*cache, memory, layout, c.options);
  served.serve();
  if (::testing::Test::HasFatalFailure()) return;

  // The test is worth something only if all of this happened, and often.
  const engine_counts& n = served.counts();
  const cache_statistics s = cache->statistics();
  std::cout << c.name << ": " << n.finished << " requests, " << n.computed << " tokens computed, "
            << s.tokens_hit << " served; " << s.evicted_blocks << " blocks evicted, "
            << s.copied_blocks << " copied, " << s.duplicate_blocks << " duplicate; "
            << n.loaded_rows << " logits rows served; " << n.forks << " forks, " << n.truncations
            << " truncations, " << n.drafts_accepted << " drafts accepted, " << n.drafts_rejected
            << " rejected, " << n.preempted << " preempted, " << n.refused << " refused, "
            << n.chunks << " chunks, " << n.failures << " failed plans\n";
  const auto often = static_cast<std::int64_t>(c.options.requests / 20);
  const auto count = [](std::size_t v) { return static_cast<std::int64_t>(v); };
  EXPECT_GT(s.tokens_hit, often * 20);
  EXPECT_GT(s.evicted_blocks, often * 4);
  if (c.block_tokens > 1) {  // a block of one token is never shared in part
    EXPECT_GT(s.copied_blocks, often * 2);
  }
  EXPECT_GT(s.duplicate_blocks, 0);
  EXPECT_GT(count(n.loaded_rows), often / 4);
  EXPECT_GT(count(n.forks), often);
  EXPECT_GT(count(n.truncations), often);
  EXPECT_GT(count(n.drafts_accepted), often);
  EXPECT_GT(count(n.drafts_rejected), often);
  EXPECT_GT(count(n.preempted + n.refused), often);
  EXPECT_GT(count(n.chunks), often / 2);
  if (c.options.failures) {
    EXPECT_GT(count(n.failures), often / 4);
  }
  EXPECT_EQ(s.sequences, 0);
}

}  // namespace radixkv::toy
