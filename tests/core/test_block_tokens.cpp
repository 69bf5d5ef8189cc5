// The tokens of a sequence: what was given, wherever in a block it begins.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"
#include "tests/core/kv_cache_cases.h"

namespace radixkv::testing {
namespace {

// Tokens are those that were given, wherever in a block they begin and end, and however the ids of
// its blocks lie: the pool is full of holes that other sequences have left.
TEST(block_tokens, tokens_are_written_from_any_place_in_a_block_on) {
  struct held {
    sequence handle;
    std::vector<token_id> tokens;
  };
  constexpr std::int64_t beyond_caches = 1 << 22;  // rows are written otherwise there
  for (const auto& [block, blocks] : {std::pair<std::uint32_t, std::int64_t>(1, 4000),
                                      {4, 1000},
                                      {8, 500},
                                      {16, 250},
                                      {16, beyond_caches},
                                      {32, 120},
                                      {64, 60},
                                      {64, beyond_caches / 4}}) {
    std::mt19937 random(block);
    const auto any = [&](std::uint32_t most) {
      std::vector<token_id> t(1 + random() % most);
      for (token_id& x : t) x = static_cast<token_id>(random() >> 1);
      return t;
    };
    kv_cache cache = make(blocks, block);
    std::vector<held> open;
    step_plan plan;
    int unaligned = 0;
    for (int step = 0; step < 4000; ++step) {
      plan.clear();
      if (open.size() < 12 && random() % 2 == 0) {
        std::vector<token_id> t = any(150);
        if (result<sequence> s = cache.open(t, {}, plan)) {
          open.push_back({std::move(*s), std::move(t)});
        }
      } else if (!open.empty()) {
        held& h = open[random() % open.size()];
        const std::size_t before = h.tokens.size();
        if (random() % 4 == 0 && before > 1) {
          h.tokens.resize(1 + random() % (before - 1));
          const auto left = static_cast<std::int64_t>(h.tokens.size());
          ASSERT_TRUE(h.handle.truncate(left).ok());
        } else {
          const std::vector<token_id> t = any(100);
          if (h.handle.append(t, plan)) {
            h.tokens.insert(h.tokens.end(), t.begin(), t.end());
            unaligned += before % block != 0 && t.size() > block;
          }
        }
        if (random() % 8 == 0) {
          std::swap(h, open.back());
          open.pop_back();
        }
      }
      for (const held& h : open) {
        std::vector<token_id> read(h.tokens.size());
        ASSERT_TRUE(h.handle.read_tokens(0, read).ok());
        ASSERT_EQ(read, h.tokens) << blocks << " blocks of " << block << ", step " << step;
      }
    }
    EXPECT_GT(unaligned, block == 1 ? -1 : 50);
  }
}

}  // namespace
}  // namespace radixkv::testing
