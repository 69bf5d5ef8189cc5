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
// Freedom by evidence. N can be many hits, and where a workload gives the model nothing to know
// (returns after memoryless pauses) its noise costs a few per cent. So it is believed as far as it
// has proved itself. The evidence is what it gained, H − (1 − tolerated_loss) L, in standard
// deviations of what chance gives, which is at least a prompt. While that is less than `caution`,
// the least recent goes first if its key lies less than the difference, in octaves, above the
// smallest. With no evidence that is near LRU, but the model has its way where it is sure, from
// which evidence comes; and what is tolerated is evidence, too, so that it never stays LRU for
// good. Where LRU hits `little`, little can be lost, and the model is free: else a loop, in which
// all keys are alike, would be left to LRU if now and then a prompt came twice. (A baseline's
// reward bounds what may be explored: Wu, Shariff, Lattimore and Szepesvari, "Conservative
// bandits", ICML 2016.) But a few prompts are a large share of little: as what is tolerated of all
// that LRU has hit since the start is lost, caution comes back.
//
// When more is lost than chance explains (`doubt`), or much for the cache (`most_debt`), eviction
// is by recency until what is tolerated has made up for it. The largest loss of one request is not
// counted: a long prompt alone is no evidence.
//
// Not thread-safe.
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
        capacity_(static_cast<double>(capacity_blocks)) {}

  // A request for so many blocks that hit so many, and would have under LRU.
  void count(std::uint32_t asked, std::uint32_t hits, std::uint32_t lru_hits) {
    const double lost = static_cast<double>(lru_hits) - hits;
    debt_ += lost - options_.tolerated_loss * lru_hits;
    debt_ = std::max(debt_, -capacity_);
    all_lost_ += lost;
    all_tolerated_ += options_.tolerated_loss * lru_hits;
    asked_ = asked_ * memory_ + asked;
    longest_ = std::max(longest_ * memory_, static_cast<double>(asked));
    lru_hits_ = lru_hits_ * memory_ + lru_hits;
    lost_ = lost_ * memory_ + lost;
    squares_ = squares_ * memory_ + lost * lost;
    largest_ = std::max(largest_ * memory_, lost);

    owes_ = debt_ - largest_ > (owes_ ? 0.5 : 1) * options_.most_debt * capacity_;
    const double proved = evidence();
    by_recency_ = owes_ || proved < -options_.doubt;
    double caution = options_.caution - proved;
    if (lru_hits_ <= options_.little * asked_) {
      caution =
          all_lost_ > 0 ? std::min(caution, options_.caution * all_lost_ / all_tolerated_) : 0;
    }
    octaves_ = static_cast<float>(std::max(0.0, caution));
  }
  [[nodiscard]] bool by_recency() const { return by_recency_; }
  // The least recent goes first if its key is less than so many octaves above the smallest.
  [[nodiscard]] float octaves() const { return octaves_; }
  // How many more of the blocks that LRU would hold may be evicted; may be negative.
  [[nodiscard]] std::int64_t allowance(std::int64_t missing) const {
    return static_cast<std::int64_t>(capacity_ - debt_) - missing;
  }

 private:
  // In standard deviations, below 0 where hits were lost.
  [[nodiscard]] double evidence() const {
    const double owed = lost_ - options_.tolerated_loss * lru_hits_;
    if (owed == 0) return 0;
    const double chance = std::sqrt(std::max(squares_, longest_ * longest_));
    return -(owed > 0 ? std::max(0.0, owed - largest_) : owed) / chance;
  }

  guard_options options_;
  double memory_;                            // what a request later is left of a sum
  double capacity_;                          // blocks
  double debt_ = 0;                          // hits
  double all_lost_ = 0, all_tolerated_ = 0;  // hits, from the start on
  double asked_ = 0, lru_hits_ = 0, lost_ = 0, squares_ = 0;
  double longest_ = 0;  // prompt
  double largest_ = 0;  // loss of a request
  float octaves_ = 0;
  bool owes_ = false, by_recency_ = false;
};

}  // namespace radixkv::detail
