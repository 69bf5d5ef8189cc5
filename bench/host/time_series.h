// How long one thing takes, done over and over, with the core whole if that can be had.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bench/host/core_share.h"
#include "bench/host/stopwatch.h"

namespace radixkv::bench {

class time_series {
 public:
  // Times one. REQUIRES: within group().
  template <typename Work>
  void add(Work&& work) {
    times_.push_back(time_of(work));
  }
  // Runs `work`, which adds some, once the core is whole; looks whether it still is afterwards.
  template <typename Work>
  void group(Work&& work) {
    const std::size_t first = times_.size();
    {
      const on_whole_core alone;
      work();
    }
    if (core_share::of_thread().was_whole()) return;
    const auto begin = times_.begin() + static_cast<std::ptrdiff_t>(first);
    shared_.insert(shared_.end(), begin, times_.end());
    times_.erase(begin, times_.end());
  }
  // Runs `once`, which adds one, `count` times, at most `together` of them in a group.
  template <typename Once>
  void groups_of(std::int64_t together, std::int64_t count, Once&& once) {
    for (std::int64_t i = 0; i < count;) {
      group([&] {
        for (std::int64_t k = 0; k < together && i < count; ++k, ++i) once();
      });
    }
  }
  // A group of one.
  template <typename Work>
  void add_alone(Work&& work) {
    group([&] { add(work); });
  }
  // One that somebody has timed.
  void put(double nanoseconds, bool whole) { (whole ? times_ : shared_).push_back(nanoseconds); }
  // What another has found.
  void add_all(const time_series& other) {
    times_.insert(times_.end(), other.times_.begin(), other.times_.end());
    shared_.insert(shared_.end(), other.shared_.begin(), other.shared_.end());
  }

  // Nanoseconds, of those with the core whole, or, where these are few, of all. REQUIRES: there are
  // some.
  [[nodiscard]] double median() { return quantile(0.5); }
  [[nodiscard]] double quantile(double share) {
    constexpr std::size_t enough = 3;
    if (times_.size() < std::max(enough, shared_.size() / 3)) {
      times_.insert(times_.end(), shared_.begin(), shared_.end());
      shared_.clear();
    }
    return bench::quantile(times_, share);
  }

 private:
  std::vector<double> times_;
  std::vector<double> shared_;
};

}  // namespace radixkv::bench
