// Which key a run must have to be among the best that fill a cache.
//
// Blocks are counted by the levels of their runs' keys, over all runs that are remembered, cached
// or not; from the top on as many levels as fill the cache are what a cache that follows the keys
// would hold. A fair sample will do, where there are many. A policy of priorities holds what lies
// above a threshold that hardly moves (stack algorithms; Mattson et al., IBM Systems Journal 1970),
// so what would be hit is known without evicting anything. Not thread-safe.
#pragma once

#include <array>
#include <cstdint>

#include "csrc/core/eviction/key_queue.h"

namespace radixkv::detail {

class key_survey {
 public:
  explicit key_survey(std::int64_t capacity_blocks = 0) : capacity_(capacity_blocks) {}

  // So many blocks have this key. Each is counted at most once in a survey.
  void add(float key, std::uint32_t blocks) { blocks_[key_queue::level_of(key)] += blocks; }
  // All were counted, or each that was stands for so many: the next survey begins.
  void finish(std::uint32_t one_in = 1) {
    std::int64_t left = capacity_ / one_in;
    std::uint32_t level = key_queue::levels;
    while (level > 0 && left >= blocks_[level - 1]) left -= blocks_[--level];
    least_ = level;
    blocks_ = {};
  }
  // As of the last survey; before the first everything is held.
  [[nodiscard]] bool holds(float key) const { return key_queue::level_of(key) >= least_; }

 private:
  std::int64_t capacity_;
  std::array<std::int64_t, key_queue::levels> blocks_{};
  std::uint32_t least_ = 0;
};

}  // namespace radixkv::detail
