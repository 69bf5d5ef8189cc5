// What the model learns, and that only sound bytes are loaded.
#include "csrc/core/eviction/hazard_model.h"

#include <algorithm>
#include <array>
#include <limits>
#include <random>

#include <gtest/gtest.h>

namespace radixkv::detail {
namespace {

TEST(hazard_model, begins_with_hazards_that_rank_by_recency) {
  const hazard_model m;
  const run_features f;
  for (std::uint32_t b = 0; b + 1 < hazard_model::bins; ++b)
    EXPECT_GT(m.key(f, b), m.key(f, b + 1)) << b;
  // σ(logit(h)) must give h back: the vector arithmetic is right.
  for (std::uint32_t b = 0; b < hazard_model::bins; ++b) {
    const double width = hazard_model::edge(b + 1) - hazard_model::edge(b);
    EXPECT_NEAR(m.hazard(f, b), 0.3 * width / (hazard_model::edge(b + 1) + 8), 1e-5);
  }
}

TEST(hazard_model, learns_the_rate_at_which_runs_are_used) {
  hazard_model m;
  run_features often, rarely;
  often.set(run_features::turn, 1);
  rarely.set(run_features::turn, 2);
  std::mt19937 random(1);
  for (int i = 0; i < 60'000; ++i) {
    m.learn({often, 4, random() % 10 < 6, 2560});
    m.learn({rarely, 4, random() % 100 < 3, 2560});
  }
  EXPECT_NEAR(m.hazard(often, 4), 0.6, 0.1);
  EXPECT_NEAR(m.hazard(rarely, 4), 0.03, 0.02);
  m.prepare_keys();
  EXPECT_GT(m.key(often, 4), 4 * m.key(rarely, 4));
}

// The Gittins index by its definition, in double precision.
double key_of(const hazard_model& m, run_features f, std::uint32_t bin) {
  double alive = 1, uses = 0, held = 0, best = 0;
  for (std::uint32_t b = bin; b < hazard_model::bins; ++b) {
    const double h = m.hazard(f, b);
    uses += alive * h;
    held += alive * (1 - h / 2) * (hazard_model::edge(b + 1) - hazard_model::edge(b));
    alive *= 1 - h;
    best = std::max(best, uses / held);
  }
  return best;
}

TEST(hazard_model, keys_are_those_of_the_definition_four_at_a_time_too) {
  hazard_model m;
  std::mt19937 random(2);
  const auto some_features = [&] {
    run_features f;
    for (std::uint32_t i = 0; i < run_features::fields; ++i)
      f.set(static_cast<run_features::field>(i), random() % 5);
    return random() % 5 == 0 ? run_features::of_tail() : f;
  };
  for (int i = 0; i < 30'000; ++i)
    m.learn({some_features(), random() % 20, random() % 4 == 0, 16 + random() % 6000, 1 + i % 3});
  m.prepare_keys();
  for (int i = 0; i < 200; ++i) {
    std::array<std::uint32_t, 4> bins;
    for (std::uint32_t& b : bins) b = random() % hazard_model::bins;
    const std::array<run_features, 4> four{some_features(), some_features(), some_features(),
                                           some_features()};
    const std::array<float, 4> keys = m.keys(four, bins);
    for (std::uint32_t k = 0; k < 4; ++k) {
      const double expected = key_of(m, four[k], bins[k]);
      EXPECT_NEAR(keys[k], expected, 1e-4 * expected);
      EXPECT_EQ(m.key(four[k], bins[k]), keys[k]);
    }
  }
}

TEST(hazard_model, categories_have_their_edges) {
  const std::uint32_t uses[] = {0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 60'000};
  const std::uint32_t expected[] = {0, 1, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7};
  for (int i = 0; i < 13; ++i) EXPECT_EQ(run_features::uses_category(uses[i]), expected[i]);
  EXPECT_EQ(run_features::output_category(15), 0u);
  EXPECT_EQ(run_features::output_category(16), 1u);
  EXPECT_EQ(run_features::output_category(768), 7u);
  EXPECT_EQ(run_features::pause_category(14.9), 0u);
  EXPECT_EQ(run_features::pause_category(15), 1u);
  EXPECT_EQ(run_features::pause_category(960), 7u);
  EXPECT_EQ(run_features::pause_category(std::numeric_limits<double>::quiet_NaN()), 7u);
  EXPECT_EQ(run_features::depth_category(32), 3u);
  EXPECT_EQ(run_features::depth_category(33), 4u);
}

TEST(hazard_model, weights_come_back_as_they_were) {
  hazard_model m;
  run_features f;
  f.set(run_features::output, 3);
  for (int i = 0; i < 500; ++i) m.learn({f, i % 20, i % 3 == 0, 1536});
  m.prepare_keys();
  const std::vector<std::byte> saved = m.save();
  hazard_model loaded;
  ASSERT_TRUE(loaded.load(saved).ok());
  for (std::uint32_t b = 0; b < hazard_model::bins; ++b) EXPECT_EQ(loaded.key(f, b), m.key(f, b));
  EXPECT_EQ(loaded.save(), saved);
}

TEST(hazard_model, refuses_every_damaged_byte_and_length) {
  hazard_model m;
  m.learn({run_features(), 1, true, 512});
  const std::vector<std::byte> saved = m.save();
  hazard_model other;
  const std::vector<std::byte> before = other.save();
  for (std::size_t i = 0; i < saved.size(); ++i) {
    std::vector<std::byte> damaged = saved;
    damaged[i] ^= std::byte{1};
    const status s = other.load(damaged);
    ASSERT_FALSE(s.ok()) << "byte " << i;
    ASSERT_EQ(s.error().code, errc::corrupt);
  }
  for (const std::size_t n : {std::size_t{0}, std::size_t{7}, saved.size() - 1})
    EXPECT_FALSE(other.load(std::span(saved).first(n)).ok());
  EXPECT_EQ(other.save(), before);
}

}  // namespace
}  // namespace radixkv::detail
