// Keeps a learning policy from doing worse than LRU.
//
// Where a workload gives the model nothing to know (returns after memoryless pauses), its noise
// costs a few per cent against LRU. A shadow tells what LRU would have hit: when the policy has
// lost more hits against it than chance explains, it evicts by recency for a while, then tries
// again, four times as long a while after every failure. In all that costs a fraction of a per
// cent.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace radixkv::detail {

class lru_guard {
 public:
  // A request that hit so many blocks, and would have under LRU. True if the mode changed.
  bool count(std::uint32_t hits, std::uint32_t lru_hits) {
    ++requests_;
    if (by_recency_) {
      if (requests_ < penalty_) return false;
      begin(false);
      return true;
    }
    const double lost = static_cast<double>(lru_hits) - hits;
    lru_hits_ = lru_hits_ * memory + lru_hits;
    lost_ = lost_ * memory + lost;
    squares_ = squares_ * memory + lost * lost;
    if (requests_ == 4 * penalty_) penalty_ = shortest_penalty;  // a success
    if (lost_ <= tolerated_loss * lru_hits_ + doubt * std::sqrt(squares_)) return false;
    penalty_ = std::min(4 * penalty_, longest_penalty);
    begin(true);
    return true;
  }
  [[nodiscard]] bool by_recency() const { return by_recency_; }

 private:
  void begin(bool by_recency) {
    by_recency_ = by_recency;
    requests_ = 0;
    lru_hits_ = lost_ = squares_ = 0;
  }

  // Half of the 1 % that is to be kept.
  static constexpr double tolerated_loss = 0.005;
  // Standard deviations by which a loss may be chance.
  static constexpr double doubt = 1;
  // Longer than the oldest age bin, so that outcomes are judged and not moods.
  static constexpr double memory = 1 - 1.0 / 20'000;
  static constexpr std::uint32_t shortest_penalty = 250, longest_penalty = 1u << 16;

  bool by_recency_ = false;
  std::uint32_t requests_ = 0, penalty_ = shortest_penalty;
  double lru_hits_ = 0, lost_ = 0, squares_ = 0;
};

}  // namespace radixkv::detail
