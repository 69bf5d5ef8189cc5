#include <cmath>

#include <gtest/gtest.h>

#include "csrc/cli/latency_recorder.h"
#include "csrc/cli/random_source.h"

namespace radixkv::cli {
namespace {

// The definition, word for word: the smallest value that at least p of all do not exceed.
double percentile(const std::vector<double>& values, double p) {
  double best = INFINITY;
  for (const double v : values) {
    std::size_t within = 0;
    for (const double w : values) within += w <= v;
    if (static_cast<double>(within) >= p * static_cast<double>(values.size()) - 1e-9) {
      best = std::min(best, v);
    }
  }
  return best;
}

TEST(latency_recorder, agrees_with_the_definition) {
  random_source random(3);
  for (std::size_t count : {1u, 2u, 3u, 10u, 99u, 100u, 101u, 999u, 1000u, 1001u}) {
    latency_recorder a;
    latency_recorder b;
    std::vector<double> values;
    double sum = 0;
    for (std::size_t i = 0; i < count; ++i) {
      values.push_back(static_cast<double>(random.below(50)));
      sum += values.back();
      (i % 2 == 0 ? a : b).record(values.back());
    }
    a.merge(b);
    ASSERT_EQ(a.count(), count);
    const latency_summary s = a.summary();
    EXPECT_DOUBLE_EQ(s.mean, sum / static_cast<double>(count));
    EXPECT_EQ(s.p50, percentile(values, 0.5));
    EXPECT_EQ(s.p90, percentile(values, 0.9));
    EXPECT_EQ(s.p99, percentile(values, 0.99));
    EXPECT_EQ(s.p999, percentile(values, 0.999));
    EXPECT_EQ(s.max, percentile(values, 1));
  }
}

TEST(latency_recorder, nothing_recorded_is_all_zero) {
  const latency_summary s = latency_recorder().summary();
  EXPECT_EQ(s.mean, 0);
  EXPECT_EQ(s.max, 0);
}

}  // namespace
}  // namespace radixkv::cli
