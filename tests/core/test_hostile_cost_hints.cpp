// What hints can make others' requests cost, however many there are (hostile_cost.h).
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/core/hostile_cost.h"

namespace radixkv::testing {
namespace {

#if defined(RADIXKV_DEBUG_CHECKS)

class hostile_cost_hints : public ::testing::TestWithParam<const char*> {
 protected:
  static constexpr std::size_t length = 14 * block_tokens;

  kv_cache make() {
    cache_options o;
    o.blocks = 100'000;
    o.block_tokens = block_tokens;
    o.policy = GetParam();
    o.clock = [this] { return now_; };
    return kv_cache::create(std::move(o)).value();
  }
  // Lines of one request that shares nothing.
  double cost_of_other(kv_cache& cache) {
    const tokens t = random_tokens(random_, length);
    const step_counts before = steps_of_thread();
    EXPECT_TRUE(publish(cache, t));
    return lines(before);
  }

  double now_ = 0;
  std::mt19937 random_{7};
};

// So many hints end at the same moment, or have ended one after another since the last request:
// the requests that follow end some of them each.
TEST_P(hostile_cost_hints, that_end_at_once) {
  constexpr int many = 20'000;
  constexpr int requests = many / 8;
  enum class hint { none, time_to_live, expected_return };
  double normal_mean = 0, normal_worst = 0;
  for (const hint of : {hint::none, hint::time_to_live, hint::expected_return}) {
    now_ = 0;
    kv_cache cache = make();
    for (int i = 0; i < many; ++i) {
      step_plan plan;
      sequence s = cache.open(random_tokens(random_, block_tokens), "", plan).value();
      ASSERT_TRUE(s.mark_filled(s.tokens()).ok() && s.commit().ok());
      if (of == hint::time_to_live) {
        ASSERT_TRUE(s.set_ttl(10).ok());
      } else if (of == hint::expected_return) {
        ASSERT_TRUE(s.expect_return(0.9, 1 + 1e-4 * i).ok());
      }
    }
    now_ = 100;
    double mean = 0, worst = 0;
    for (int i = 0; i < requests; ++i) {
      const double lines = cost_of_other(cache);
      mean += lines / requests;
      worst = std::max(worst, lines);
    }
    if (of == hint::none) {
      normal_mean = mean;
      normal_worst = worst;
    }
    std::printf("hints of kind %d over at once, %s: %.1f/%.1f lines, at most %.1f/%.1f\n",
                static_cast<int>(of), GetParam(), mean, normal_mean, worst, normal_worst);
    EXPECT_LE(mean, most_times * normal_mean);
    EXPECT_LE(worst, most_times * normal_worst);
    EXPECT_EQ(cache.check_invariants(), "");
    if (of != hint::time_to_live) continue;
    // All of them have come up by now: they go before anything else.
    EXPECT_EQ(cache.evict(many), many);
    EXPECT_EQ(cache.statistics().cached_prefixes, requests);
  }
}

INSTANTIATE_TEST_SUITE_P(policies, hostile_cost_hints,
                         ::testing::Values("lru", "fifo", "lfu", "slru", "s3fifo", "reuse_index"));

#else

TEST(hostile_cost_hints, counts_steps) { GTEST_SKIP() << "built without RADIXKV_DEBUG_CHECKS"; }

#endif

}  // namespace
}  // namespace radixkv::testing
