// Time in nanoseconds, cheap enough to bracket a single match; and medians.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "csrc/core/stage_timer.h"

namespace radixkv::bench {

// Length of a tick of detail::ticks_now(), measured once.
inline double nanoseconds_per_tick() {
  static const double length = [] {
    using clock = std::chrono::steady_clock;
    const clock::time_point begin = clock::now();
    const std::uint64_t first = detail::ticks_now();
    while (clock::now() - begin < std::chrono::milliseconds(50)) {
    }
    const std::uint64_t ticks = detail::ticks_now() - first;
    return std::chrono::duration<double, std::nano>(clock::now() - begin).count() /
           static_cast<double>(ticks);
  }();
  return length;
}

// Nanoseconds that `work` takes.
template <typename Work>
double time_of(Work&& work) {
  const std::uint64_t begin = detail::ticks_now();
  work();
  return static_cast<double>(detail::ticks_now() - begin) * nanoseconds_per_tick();
}

// The value below which `share` of the values lie. REQUIRES: not empty.
inline double quantile(std::vector<double>& values, double share) {
  const auto last = static_cast<double>(values.size() - 1);
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(share * last + 0.5);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}
inline double median(std::vector<double>& values) { return quantile(values, 0.5); }

// Keeps a result from being optimised away.
template <typename T>
void keep(const T& value) {
  asm volatile("" : : "g"(&value) : "memory");
}

}  // namespace radixkv::bench
