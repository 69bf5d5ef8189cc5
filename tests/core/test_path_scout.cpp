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

step_counts steps_of(kv_cache& cache, const tokens& prompt, std::size_t matches) {
  const step_counts before = steps_of_thread();
  EXPECT_EQ(cache.match(prompt).tokens, static_cast<std::int64_t>(matches));
  step_counts steps;
  steps.lookups = steps_of_thread().lookups - before.lookups;
  steps.hashed = steps_of_thread().hashed - before.hashed;
  return steps;
}

// What a match takes of a path of `blocks` blocks, which has branches after `first` blocks and then
// after so many again and again, and of `others` blocks that are not in the tree.
step_counts steps_of(std::size_t blocks, std::size_t first, const std::vector<std::size_t>& runs,
                     std::size_t others = 0) {
  const detail::fixed_secrets fixed(5);
  std::mt19937 random(7);
  kv_cache cache = make_cache(static_cast<std::int64_t>(2 * blocks), "lru");
  const tokens path = random_tokens(random, blocks * block_tokens);
  EXPECT_TRUE(publish(cache, path));
  for (std::size_t at = first, i = 0; at < blocks; at += runs[i++ % runs.size()]) {
    EXPECT_TRUE(publish_branch(cache, path, at, random));
  }
  tokens prompt = path;
  const tokens foreign = random_tokens(random, others * block_tokens);
  prompt.insert(prompt.end(), foreign.begin(), foreign.end());
  return steps_of(cache, prompt, path.size());
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

// Nodes behind the last window that ends on the prompt's way through the tree are found by no hash:
// they are not looked for again and again.
TEST(path_scout, starts_once_where_the_path_ends) {
  // Blocks that it looks ahead in vain: a group for each stage and what is begun, and two anew.
  constexpr std::size_t far =
      (1 + 1 + detail::path_hasher::window + 1 + 2) * detail::path_hasher::group;
  for (std::size_t blocks = 16; blocks < 24; ++blocks) {
    const step_counts steps = steps_of(blocks, 1, {1}, 200);
    EXPECT_LE(steps.hashed, blocks + far) << blocks << " blocks";
  }
}

// Among siblings whose first blocks part at every token, below `depth` blocks, the end of the
// window leads to the sibling, also where the window is in several nodes; at the root the first
// block does.
TEST(path_scout, finds_siblings_by_the_end_of_their_window) {
  constexpr std::size_t siblings = 2000;
  for (const std::size_t depth : {0u, 1u, 2u, 3u}) {
    const std::size_t length = depth == 0 ? 1 : detail::path_hasher::window;
    for (std::size_t parts = 1; parts + depth <= length; ++parts) {
      const detail::fixed_secrets fixed(5);
      std::mt19937 random(7);
      kv_cache cache = make_cache(static_cast<std::int64_t>(8 * siblings), "lru");
      const tokens shared(depth * block_tokens, 9);
      prompts all = siblings_parting_everywhere(0, siblings, length * block_tokens);
      for (tokens& t : all) {
        t.insert(t.begin(), shared.begin(), shared.end());
        EXPECT_TRUE(publish(cache, t));
      }
      tokens& t = all[siblings / 2];
      for (std::size_t i = 1; i < parts; ++i) {
        EXPECT_TRUE(publish_branch(cache, t, depth + i, random));
      }
      const step_counts steps = steps_of(cache, t, t.size());
      // The group of siblings, what leads to one, and a branch of each further node.
      EXPECT_LE(steps.lookups, 2 + (parts - 1)) << parts << " nodes below " << depth << " blocks";
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
