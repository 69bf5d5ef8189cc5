// Keeps a learning policy from doing worse than LRU, by what a shadow says LRU would have hit.
//
// The bound. Let N be the blocks of the cache, L the hits of LRU, H those of the policy, and let
// `missing` be the blocks that LRU would hold and the cache does not. A policy that goes on as LRU
// loses at most one hit for each missing block, and `missing` then only falls: what is touched is
// cached again, and what LRU would not hold goes first. So a block that LRU would hold is evicted
// only while
//     debt + missing < N,   debt = L − H − tolerated_loss × L, but never below −N,
// and else what is least recent goes. This bounds L − H by tolerated_loss × L + N at any time, and
// over any stretch of requests by tolerated_loss × (its L) + 2 N. (To within the one turn that LRU
// would have evicted in part, and as far as histories reach back as far as LRU does.)
//
// The early reaction. Where a workload gives the model nothing to know (returns after memoryless
// pauses), its noise costs a few per cent against LRU, which may go on for long before it adds up
// to N. When the policy has lost more hits than chance explains, it evicts by recency for a while,
// then tries again, four times as long a while after every failure.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "csrc/core/eviction/reuse_index_options.h"

namespace radixkv::detail {

class lru_guard {
 public:
  explicit lru_guard(std::int64_t capacity_blocks = 0, const guard_options& options = {})
      : options_(options),
        memory_(1 - 1 / options.memory),
        capacity_(static_cast<double>(capacity_blocks)),
        penalty_(options.shortest_penalty) {}

  // A request that hit so many blocks, and would have under LRU. True if the mode changed.
  bool count(std::uint32_t hits, std::uint32_t lru_hits) {
    debt_ += (1 - options_.tolerated_loss) * lru_hits - hits;
    debt_ = std::max(debt_, -capacity_);
    ++requests_;
    if (by_recency_) {
      if (requests_ < penalty_) return false;
      begin(false);
      return true;
    }
    const double lost = static_cast<double>(lru_hits) - hits;
    lru_hits_ = lru_hits_ * memory_ + lru_hits;
    lost_ = lost_ * memory_ + lost;
    squares_ = squares_ * memory_ + lost * lost;
    if (requests_ == 4 * penalty_) penalty_ = options_.shortest_penalty;  // a success
    if (lost_ <= options_.tolerated_loss * lru_hits_ + options_.doubt * std::sqrt(squares_))
      return false;
    penalty_ = std::min(4 * penalty_, options_.longest_penalty);
    begin(true);
    return true;
  }
  [[nodiscard]] bool by_recency() const { return by_recency_; }
  // How many more of the blocks that LRU would hold may be evicted; may be negative.
  [[nodiscard]] std::int64_t allowance(std::int64_t missing) const {
    return static_cast<std::int64_t>(capacity_ - debt_) - missing;
  }

 private:
  void begin(bool by_recency) {
    by_recency_ = by_recency;
    requests_ = 0;
    lru_hits_ = lost_ = squares_ = 0;
  }

  guard_options options_;
  double memory_;    // what a request later is left of a sum
  double capacity_;  // blocks
  double debt_ = 0;  // hits
  bool by_recency_ = false;
  std::uint32_t requests_ = 0, penalty_;
  double lru_hits_ = 0, lost_ = 0, squares_ = 0;
};

}  // namespace radixkv::detail
