// Where the tree is bushy, a match looks up the ends of windows of blocks, and what lies between
// them not at all.
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/mix.h"
#include "csrc/core/path_hash.h"
#include "tests/core/hostile_cost.h"

namespace radixkv::testing {
namespace {

#if defined(RADIXKV_DEBUG_CHECKS)

// What a match takes of a path of `blocks` blocks, which has branches after `first` blocks and then
// after so many again and again.
step_counts steps_of(std::size_t blocks, std::size_t first, const std::vector<std::size_t>& runs) {
  const detail::fixed_secrets fixed(5);
  std::mt19937 random(7);
  kv_cache cache = make_cache(static_cast<std::int64_t>(2 * blocks), "lru");
  const tokens path = random_tokens(random, blocks * block_tokens);
  EXPECT_TRUE(publish(cache, path));
  for (std::size_t at = first, i = 0; at < blocks; at += runs[i++ % runs.size()]) {
    tokens branch(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(at * block_tokens));
    const tokens own = random_tokens(random, block_tokens);
    branch.insert(branch.end(), own.begin(), own.end());
    EXPECT_TRUE(publish(cache, branch));
  }
  const step_counts before = steps_of_thread();
  EXPECT_EQ(cache.match(path).tokens, static_cast<std::int64_t>(path.size()));
  step_counts steps;
  steps.lookups = steps_of_thread().lookups - before.lookups;
  steps.hashed = steps_of_thread().hashed - before.hashed;
  return steps;
}

TEST(path_scout, looks_up_windows_not_blocks) {
  constexpr std::uint64_t window = detail::path_hasher::window;
  // Before it is clear that the tree is bushy, and behind the last window that ends in the prompt.
  constexpr std::uint64_t others = 1 + (window - 1);
  for (const std::vector<std::size_t>& runs : std::vector<std::vector<std::size_t>>{
           {1}, {2}, {3}, {1, 2}, {2, 1, 1}, {1, 3}, {3, 1, 1, 1}}) {
    for (std::size_t first = 1; first <= 4; ++first) {
      for (std::size_t blocks = 400; blocks < 400 + window; ++blocks) {
        const step_counts steps = steps_of(blocks, first, runs);
        const std::string what = std::to_string(runs.size()) + " runs from " +
                                 std::to_string(first) + " on, " + std::to_string(blocks) +
                                 " blocks";
        EXPECT_LE(steps.lookups, blocks / window + others) << what;
        EXPECT_LE(steps.hashed, blocks) << what;
      }
    }
  }
}

#else

TEST(path_scout, looks_up_windows_not_blocks) {
  GTEST_SKIP() << "built without RADIXKV_DEBUG_CHECKS";
}

#endif

}  // namespace
}  // namespace radixkv::testing
