// What requests of a namespace with a quota cost beside many open sequences, of others or its own,
// and what quotas of others cost (hostile_cost.h).
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/core/hostile_cost.h"

namespace radixkv::testing {
namespace {

#if defined(RADIXKV_DEBUG_CHECKS)

constexpr std::int64_t quota = 2000;

// So many sequences that share a prefix, go on with ends of their own and have committed a partial
// tail.
std::vector<sequence> open_behind(const tokens& shared, std::size_t open, kv_cache& cache,
                                  std::string_view space, std::mt19937& random) {
  step_plan plan;
  std::vector<sequence> held;
  while (held.size() < open) {
    tokens t = shared;
    const tokens own = random_tokens(random, block_tokens + 3);
    t.insert(t.end(), own.begin(), own.end());
    held.push_back(cache.open(t, space, plan).value());
    EXPECT_TRUE(held.back().mark_filled(held.back().tokens()).ok() && held.back().commit().ok());
  }
  return held;
}

// Lines per token of requests that have to evict under a quota, while so many sequences are open,
// which share a prefix, go on with ends of their own and have committed a partial tail.
double cost_beside(std::size_t open, std::string_view whose, const char* policy) {
  std::mt19937 random(3);
  kv_cache cache = make_cache(12'000, policy);
  EXPECT_TRUE(cache.set_quota("mine", quota).ok());
  const tokens shared = random_tokens(random, 100 * block_tokens);
  const std::vector<sequence> held = open_behind(shared, open, cache, whose, random);
  constexpr std::size_t length = 30 * block_tokens;
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(publish(cache, random_tokens(random, length), "mine"));
  }
  EXPECT_GT(cache.statistics().evicted_blocks, 0);
  const step_counts before = steps_of_thread();
  constexpr int requests = 300;
  for (int i = 0; i < requests; ++i) {
    EXPECT_TRUE(publish(cache, random_tokens(random, length), "mine"));
  }
  const double cost = lines(before) / requests / length;
  EXPECT_EQ(cache.check_invariants(), "");
  return cost;
}

class hostile_cost_quotas : public ::testing::TestWithParam<const char*> {};

TEST_P(hostile_cost_quotas, open_sequences) {
  const auto mean = [](std::size_t open, const char* whose) {
    return mean_over_secrets([=] { return cost_beside(open, whose, GetParam()); });
  };
  const double normal = mean(1, "theirs");
  const struct {
    std::size_t open;
    const char* whose;
    double times;
  } cases[] = {{500, "theirs", 1.05}, {2000, "theirs", 1.05}, {300, "mine", 1.5}, {800, "mine", 3}};
  for (const auto& c : cases) {
    const double many = mean(c.open, c.whose);
    std::printf("%zu open of %s, %s: %.3f/%.3f lines per token\n", c.open, c.whose, GetParam(),
                many, normal);
    EXPECT_LE(many, c.times * normal) << c.open << " of " << c.whose;
  }
}

// Lines per request that is refused, in a pool that open sequences have filled.
double cost_refused(std::size_t open, bool matches, const char* policy) {
  std::mt19937 random(3);
  constexpr std::size_t filled = 500;
  kv_cache cache = make_cache(static_cast<std::int64_t>(filled + 100 + 2 * open + 20), policy);
  step_plan plan;
  const sequence filler =
      cache.open(random_tokens(random, filled * block_tokens), "", plan).value();
  const tokens shared = random_tokens(random, 100 * block_tokens);
  const std::vector<sequence> held = open_behind(shared, open, cache, "", random);
  step_counts before = steps_of_thread();
  constexpr int requests = 100;
  for (int i = 0; i <= requests; ++i) {
    if (i == 1) before = steps_of_thread();  // the first one walks
    tokens t = random_tokens(random, 130 * block_tokens);
    if (matches) std::copy(shared.begin(), shared.end(), t.begin());
    EXPECT_FALSE(cache.open(t, "", plan).ok());
    EXPECT_FALSE(cache.can_allocate(30));
  }
  const double cost = lines(before) / requests;
  EXPECT_EQ(cache.check_invariants(), "");
  return cost;
}

TEST_P(hostile_cost_quotas, requests_refused_beside_open_sequences) {
  for (const bool matches : {false, true}) {
    const double normal = cost_refused(1, matches, GetParam());
    const double many = cost_refused(1000, matches, GetParam());
    std::printf("refused beside 1,000%s, %s: %.1f/%.1f lines\n", matches ? ", matched" : "",
                GetParam(), many, normal);
    EXPECT_LE(many, most_times * normal) << matches;
  }
}

INSTANTIATE_TEST_SUITE_P(policies, hostile_cost_quotas, ::testing::Values("lru", "reuse_index"));

#else

TEST(hostile_cost_quotas, counts_steps) { GTEST_SKIP() << "built without RADIXKV_DEBUG_CHECKS"; }

#endif

}  // namespace
}  // namespace radixkv::testing
