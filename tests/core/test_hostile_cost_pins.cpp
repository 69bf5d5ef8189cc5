// What requests cost beside many open sequences that use the same part of the index, wherever in it
// they end (hostile_cost.h).
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <random>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/core/hostile_cost.h"

namespace radixkv::testing {
namespace {

#if defined(RADIXKV_DEBUG_CHECKS)

constexpr std::size_t many = 4000;
constexpr std::size_t shared_blocks = 100;

// Where the sequences end that use a path.
enum class ends { same, spread, reverse };

class hostile_cost_pins : public ::testing::TestWithParam<const char*> {
 protected:
  [[nodiscard]] kv_cache make() const {
    cache_options o;
    o.blocks = 12'000;
    o.block_tokens = block_tokens;
    o.max_sequences = many + 10;
    o.policy = GetParam();
    return kv_cache::create(std::move(o)).value();
  }
  // So many that match whole blocks of the path, and have committed nothing of their own.
  static std::vector<sequence> open_on(const tokens& path, std::size_t n, ends where,
                                       kv_cache& cache) {
    step_plan plan;
    std::vector<sequence> held;
    while (held.size() < n) {
      std::size_t blocks = shared_blocks;
      if (where == ends::spread) blocks = 1 + held.size() * 37 % shared_blocks;
      if (where == ends::reverse) blocks = shared_blocks - held.size() % shared_blocks;
      tokens t(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(blocks * block_tokens));
      t.push_back(~path[t.size()]);
      held.push_back(cache.open(t, "", plan).value());
      EXPECT_EQ(held.back().cached_tokens(), static_cast<std::int64_t>(blocks * block_tokens));
    }
    return held;
  }
  std::mt19937 random_{3};
};

// Each request parts from the path a block above the one before it, and what it splits off goes.
TEST_P(hostile_cost_pins, the_lower_part_of_a_split_goes) {
  const auto of = [&](std::size_t open, ends where) {
    kv_cache cache = make();
    constexpr std::size_t requests = 200;
    const tokens path = random_tokens(random_, (shared_blocks + requests + 1) * block_tokens);
    EXPECT_TRUE(publish(cache, path));
    const std::vector<sequence> held = open_on(path, open, where, cache);
    const step_counts before = steps_of_thread();
    for (std::size_t blocks = shared_blocks + requests; blocks > shared_blocks; --blocks) {
      tokens t(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(blocks * block_tokens));
      const tokens own = random_tokens(random_, block_tokens);
      t.insert(t.end(), own.begin(), own.end());
      EXPECT_TRUE(publish(cache, t));
      EXPECT_EQ(cache.evict(2), 2);
    }
    const double cost = lines(before) / requests;
    EXPECT_EQ(cache.check_invariants(), "");
    return cost;
  };
  for (const ends where : {ends::same, ends::spread, ends::reverse}) {
    const double normal = of(1, where), beside = of(many, where);
    std::printf("split and evicted, %s: %.1f/%.1f lines a request\n", GetParam(), beside, normal);
    EXPECT_LE(beside, most_times * normal);
  }
}

// Requests that go on where all of the others end, or somewhere on the same path.
TEST_P(hostile_cost_pins, requests_of_the_same_path) {
  const auto of = [&](std::size_t open, ends where, std::size_t blocks) {
    kv_cache cache = make();
    const tokens path = random_tokens(random_, (shared_blocks + 1) * block_tokens);
    EXPECT_TRUE(publish(cache, path));
    std::vector<sequence> held = open_on(path, open, where, cache);
    step_counts before;
    constexpr int requests = 200;
    for (int i = -20; i < requests; ++i) {
      if (i == 0) before = steps_of_thread();
      tokens t(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(blocks * block_tokens));
      const tokens own = random_tokens(random_, block_tokens);
      t.insert(t.end(), own.begin(), own.end());
      EXPECT_TRUE(publish(cache, t));
    }
    const double cost = lines(before) / requests;
    EXPECT_EQ(cache.check_invariants(), "");
    double release = 0;
    std::shuffle(held.begin(), held.end(), random_);
    for (sequence& s : held) {
      before = steps_of_thread();
      s.release();
      release = std::max(release, lines(before));
    }
    return std::pair(cost, release);
  };
  for (const ends where : {ends::same, ends::spread, ends::reverse}) {
    for (const std::size_t blocks : {std::size_t{1}, std::size_t{20}, shared_blocks}) {
      const auto normal = of(1, where, blocks), beside = of(many, where, blocks);
      std::printf("%zu blocks of a path, %s: %.1f/%.1f lines a request, a release at most %.1f\n",
                  blocks, GetParam(), beside.first, normal.first, beside.second);
      EXPECT_LE(beside.first, most_times * normal.first);
      // None waits for what the others have left.
      if (blocks == shared_blocks) {
        EXPECT_LE(beside.second, most_times * normal.first);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(policies, hostile_cost_pins, ::testing::Values("lru", "reuse_index"));

#else

TEST(hostile_cost_pins, counts_steps) { GTEST_SKIP() << "built without RADIXKV_DEBUG_CHECKS"; }

#endif

}  // namespace
}  // namespace radixkv::testing
