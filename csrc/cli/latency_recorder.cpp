#include "csrc/cli/latency_recorder.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace radixkv::cli {

void latency_recorder::merge(const latency_recorder& other) {
  values_.insert(values_.end(), other.values_.begin(), other.values_.end());
}

latency_summary latency_recorder::summary(double scale) const {
  if (values_.empty()) return {};
  std::vector<double> sorted = values_;
  for (double& value : sorted) value *= scale;
  std::sort(sorted.begin(), sorted.end());
  const auto count = sorted.size();
  // In thousandths, so that ranks are computed without rounding.
  const auto rank = [&](std::size_t per_mille) {
    return sorted[std::max<std::size_t>(1, (count * per_mille + 999) / 1000) - 1];
  };
  return {std::accumulate(sorted.begin(), sorted.end(), 0.0) / static_cast<double>(count),
          rank(500),
          rank(900),
          rank(990),
          rank(999),
          sorted.back()};
}

}  // namespace radixkv::cli
