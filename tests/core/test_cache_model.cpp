// The façade against a model, with random options and operations.
#include <cstdlib>
#include <random>

#include <gtest/gtest.h>

#include "tests/support/cache_model.h"

namespace radixkv::testing {
namespace {

TEST(cache_model, random_operations_keep_every_token_and_invariant) {
  const char* more = std::getenv("RADIXKV_MODEL_SEEDS");
  const int seeds = more ? std::atoi(more) : 60;
  model_counts sum;
  std::int64_t evicted = 0;
  std::int64_t copied = 0;
  std::int64_t duplicates = 0;
  std::int64_t logits = 0;
  for (int seed = 0; seed < seeds; ++seed) {
    std::mt19937 random(static_cast<unsigned>(seed));
    cache_model model([&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); });
    for (int i = 0; i < 2000; ++i) {
      ASSERT_EQ(model.step(), "") << "seed " << seed << ", operation " << i;
      if (i % 8 != 0) continue;
      ASSERT_EQ(model.check_contents(), "") << "seed " << seed << ", operation " << i;
      ASSERT_EQ(model.cache().check_invariants(), "")
          << "seed " << seed << ", operation " << i << '\n'
          << model.cache().dump(60);
    }
    const cache_statistics s = model.cache().statistics();
    evicted += s.evicted_blocks;
    copied += s.copied_blocks;
    duplicates += s.duplicate_blocks;
    logits += s.logits_hits;
    ASSERT_EQ(model.finish(), "") << "seed " << seed;
    sum.opened += model.counts().opened;
    sum.refused += model.counts().refused;
  }
  // Everything that is interesting did happen.
  EXPECT_GT(sum.opened, 1000);
  EXPECT_GT(sum.refused, 0);
  EXPECT_GT(evicted, 1000);
  EXPECT_GT(copied, 1000);
  EXPECT_GT(duplicates, 0);
  EXPECT_GT(logits, 0);
}

}  // namespace
}  // namespace radixkv::testing
