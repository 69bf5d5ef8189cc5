// The façade against a model, with random options and operations.
#include <cstdlib>
#include <random>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "tests/support/cache_model.h"

namespace radixkv::testing {
namespace {

struct sums {
  model_counts counted;
  std::int64_t evicted = 0;
  std::int64_t copied = 0;
  std::int64_t duplicates = 0;
  std::int64_t logits = 0;
};

void run_seed(unsigned seed, model_size size, bool watched, int steps, sums& sum) {
  std::mt19937 random(seed);
  cache_model model([&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); }, size,
                    watched);
  for (int i = 0; i < steps; ++i) {
    ASSERT_EQ(model.step(), "") << "seed " << seed << ", step " << i;
    if (i % 8 != 0) continue;
    ASSERT_EQ(model.check_contents(), "") << "seed " << seed << ", step " << i;
    ASSERT_EQ(model.cache().check_invariants(), "") << "seed " << seed << ", step " << i << '\n'
                                                    << model.cache().dump(60).value();
  }
  const cache_statistics s = model.cache().statistics();
  sum.evicted += s.evicted_blocks;
  sum.copied += s.copied_blocks;
  sum.duplicates += s.duplicate_blocks;
  sum.logits += s.logits_hits;
  ASSERT_EQ(model.finish(), "") << "seed " << seed;
  const model_counts& c = model.counts();
  sum.counted.opened += c.opened;
  sum.counted.refused += c.refused;
  sum.counted.failed_plans += c.failed_plans;
  sum.counted.misuses += c.misuses;
  sum.counted.exact_matches += c.exact_matches;
  sum.counted.hints += c.hints;
  sum.counted.stayed += c.stayed;
}

class cache_model_sizes : public ::testing::TestWithParam<std::pair<model_size, bool>> {};

TEST_P(cache_model_sizes, random_operations_keep_every_token_and_invariant) {
  const char* more = std::getenv("RADIXKV_MODEL_SEEDS");
  const int seeds = more ? std::atoi(more) : GetParam().first == model_size::wide ? 10 : 60;
  sums sum;
  for (int seed = 0; seed < seeds; ++seed) {
    const auto [size, watched] = GetParam();
    run_seed(static_cast<unsigned>(seed), size, watched, 2000, sum);
    if (HasFatalFailure()) return;
  }
  // Everything that is interesting did happen.
  EXPECT_GT(sum.counted.opened, 1000);
  EXPECT_GT(sum.counted.refused, 0);
  EXPECT_GT(sum.counted.failed_plans, 0);
  EXPECT_GT(sum.counted.misuses, 0);
  EXPECT_GT(sum.counted.exact_matches, 1000);
  EXPECT_GT(sum.evicted, 1000);
  EXPECT_GT(sum.copied, 1000);
  EXPECT_GT(sum.duplicates, 0);
  EXPECT_GT(sum.logits, 0);
  EXPECT_GT(sum.counted.hints, 1000);
  EXPECT_GT(sum.counted.stayed, 1000);
}

std::string name_of(const ::testing::TestParamInfo<std::pair<model_size, bool>>& info) {
  constexpr const char* sizes[] = {"mixed", "tiny", "wide"};
  return sizes[static_cast<int>(info.param.first)] +
         std::string(info.param.second ? "_watched" : "");
}

INSTANTIATE_TEST_SUITE_P(all, cache_model_sizes,
                         ::testing::Values(std::pair(model_size::mixed, false),
                                           std::pair(model_size::tiny, false),
                                           std::pair(model_size::tiny, true),
                                           std::pair(model_size::wide, true)),
                         name_of);

}  // namespace
}  // namespace radixkv::testing
