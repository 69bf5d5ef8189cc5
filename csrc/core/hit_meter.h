// How many cached blocks requests use per second, of late: what a block's place is worth.
#pragma once

#include <algorithm>
#include <cstdint>

namespace radixkv::detail {

class hit_meter {
 public:
  // A request that found so many blocks cached, at a time of the cache's clock.
  void count(std::int64_t blocks, double now) noexcept {
    const double since = started_ ? std::max(0.0, now - last_) : 0.0;
    started_ = true;
    last_ = now;
    hits_ = hits_ * memory + static_cast<double>(blocks);
    seconds_ = seconds_ * memory + since;
  }
  // 0 while nothing is known.
  [[nodiscard]] double per_second() const noexcept { return seconds_ > 0 ? hits_ / seconds_ : 0; }

 private:
  // The last few thousand requests: long enough to average over conversations, short enough to
  // follow the hour of the day.
  static constexpr double memory = 1 - 1.0 / 4096;

  bool started_ = false;
  double last_ = 0;
  double hits_ = 0;
  double seconds_ = 0;
};

}  // namespace radixkv::detail
