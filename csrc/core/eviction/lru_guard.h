// Keeps a learning policy from doing worse than LRU, by what a shadow says LRU would have hit.
//
// The bound. Let N be the blocks of the cache, L the hits of LRU, H those of the policy, and let
// `missing` be the blocks that LRU would keep and the cache does not have. A policy that evicts
// nothing that LRU would keep, as long as it has something else, loses at most one hit for each
// missing block, and `missing` then only falls: what is touched is cached again. So a block that
// LRU would keep is evicted only while
//     debt + missing < stake,   debt = L − H − tolerated_loss × L, but never below −N,
// and else what LRU would not keep, by its key. This bounds L − H by tolerated_loss × L + the
// largest stake, at most N, at any time, and over any stretch of requests by tolerated_loss × (its
// L) + 2 N. (As far as histories reach back as far as LRU does.)
//
// Caution. N can be many hits, and where a workload gives the model nothing to know (returns after
// memoryless pauses) its noise costs a few per cent. So it is believed as far as it has proved
// itself. The evidence is what it gained, H − (1 − tolerated_loss) L, in standard deviations of
// what chance gives, which is at least a prompt. While that is less than `caution`, the least
// recent goes first if its key lies less than the difference, in octaves, above the smallest. With
// no evidence that is near LRU, but the model has its way where it is sure, from which evidence
// comes; and what is tolerated is evidence, too, so that it never stays LRU for good.
//
// Promises. Where LRU hits `little`, a prompt that is lost before anything was gained is a large
// share of all its hits, and caution would leave to LRU for good a loop, in which all keys are
// alike. So there the stake is what the model promises: what it would hit if it alone decided is
// counted beside what it does, at no risk (key_survey), and all of the cache is staked once that
// exceeds LRU's hits, and a margin for what the count may be wrong by, by more than chance; before,
// nothing but what was gained. Caution comes back as what is tolerated of all that LRU has hit
// since the start is lost. (That a baseline's reward bounds what may be explored: Wu, Shariff,
// Lattimore and Szepesvari, "Conservative bandits", ICML 2016.)
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

  // LRU hits so little that `count_promise` is to come before the next `count`.
  [[nodiscard]] bool asks_for_promises() const { return little_; }
  // The next request will hit so many blocks under LRU, and would if the model alone decided.
  void count_promise(std::uint32_t lru_hits, std::uint32_t promised) {
    const double more = static_cast<double>(promised) - lru_hits;
    promised_ = promised_ * memory_ + more - options_.margin * lru_hits;
    promised_squares_ = promised_squares_ * memory_ + more * more;
  }
  // A request for so many blocks that hit so many, and would have under LRU.
  void count(std::uint32_t asked, std::uint32_t hits, std::uint32_t lru_hits) {
    const double lost = static_cast<double>(lru_hits) - hits;
    if (!little_) {  // nothing was promised
      promised_ *= memory_;
      promised_squares_ *= memory_;
    }
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
    little_ = lru_hits_ <= options_.little * asked_;
    double caution = options_.caution - proved;
    if (little_) {
      caution =
          all_lost_ > 0 ? std::min(caution, options_.caution * all_lost_ / all_tolerated_) : 0;
    }
    octaves_ = static_cast<float>(std::max(0.0, caution));
    stake_ = little_ ? promise() * capacity_ : capacity_;
  }
  [[nodiscard]] bool by_recency() const { return by_recency_; }
  // The least recent goes first if its key is less than so many octaves above the smallest.
  [[nodiscard]] float octaves() const { return octaves_; }
  // Not all of what LRU would hold may be evicted at once.
  [[nodiscard]] bool is_limited() const {
    return allowance(0) < static_cast<std::int64_t>(capacity_);
  }
  // How many more of the blocks that LRU would hold may be evicted; may be negative.
  [[nodiscard]] std::int64_t allowance(std::int64_t missing) const {
    return static_cast<std::int64_t>(stake_ - debt_) - missing;
  }

 private:
  // In standard deviations, below 0 where hits were lost.
  [[nodiscard]] double evidence() const {
    const double owed = lost_ - options_.tolerated_loss * lru_hits_;
    if (owed == 0) return 0;
    return -(owed > 0 ? std::max(0.0, owed - largest_) : owed) / chance(squares_);
  }
  // The share of the cache that may be staked for what is promised.
  [[nodiscard]] double promise() const {
    if (promised_ <= 0) return 0;
    return std::clamp((promised_ / chance(promised_squares_) - options_.least_promise) /
                          (options_.full_promise - options_.least_promise),
                      0.0, 1.0);
  }
  // Of a sum of differences. REQUIRES: something was asked for.
  [[nodiscard]] double chance(double squares) const {
    return std::sqrt(std::max(squares, longest_ * longest_));
  }

  guard_options options_;
  double memory_;                            // what a request later is left of a sum
  double capacity_;                          // blocks
  double debt_ = 0;                          // hits
  double all_lost_ = 0, all_tolerated_ = 0;  // hits, from the start on
  double asked_ = 0, lru_hits_ = 0, lost_ = 0, squares_ = 0;
  double promised_ = 0, promised_squares_ = 0;  // beyond LRU's hits and the margin
  double longest_ = 0;                          // prompt
  double largest_ = 0;                          // loss of a request
  double stake_ = 0;                            // blocks
  float octaves_ = 0;
  bool owes_ = false, by_recency_ = false, little_ = true;
};

}  // namespace radixkv::detail
