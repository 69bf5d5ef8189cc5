// Exact latency statistics: every value is kept, percentiles come from sorting.
#pragma once

#include <cstddef>
#include <vector>

namespace radixkv::cli {

// Of microseconds, as a rule. A percentile p is the smallest recorded value that at least p of all
// values do not exceed (nearest rank). All 0 when nothing was recorded.
struct latency_summary {
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, p999 = 0, max = 0;
};

// Thread-safety: none; one per thread, merged at the end.
class latency_recorder {
 public:
  void reserve(std::size_t values) { values_.reserve(values); }
  void record(double value) { values_.push_back(value); }
  void merge(const latency_recorder& other);
  [[nodiscard]] std::size_t count() const noexcept { return values_.size(); }
  // Of the values times `scale`, for values in other units (ticks). REQUIRES: scale > 0.
  [[nodiscard]] latency_summary summary(double scale = 1) const;

 private:
  std::vector<double> values_;
};

}  // namespace radixkv::cli
