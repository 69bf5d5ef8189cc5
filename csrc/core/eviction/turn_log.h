// The log of runs in order of their last use, by which they age.
//
// An entry carries what the lessons of its run need, so that ageing reads this log alone, in
// sequence, instead of runs all over memory. A run has at most one entry; its older ones are
// cleared when it is used again.
//
// Not thread-safe.
#pragma once

#include <cstdint>

#include "csrc/core/eviction/position_ring.h"
#include "csrc/core/eviction/run_history.h"

namespace radixkv::detail {

struct log_entry {
  run_id run = no_run;  // no_run: cleared
  std::uint32_t turn = 0;
  run_features features;  // of the run's body
  // Tokens of its body and of its tail, at most so many; 0 where there is nothing to learn.
  std::uint32_t body : 13, tail : 12;
  std::uint32_t bin : 5;           // up to which it has taught
  std::uint32_t candidate : 1;     // the run is in the queue
  std::uint32_t last_is_tail : 1;  // its last cached block is of its tail

  static constexpr std::uint32_t most_body = 5120;  // what the model can tell apart
  static constexpr std::uint32_t most_tail = 4095;
  log_entry() : body(0), tail(0), bin(0), candidate(0), last_is_tail(0) {}
};
static_assert(sizeof(log_entry) == 16);

class turn_log : public position_ring<log_entry> {
 public:
  // The entry of a run that was noted at `place` (low bits of a position), or null.
  [[nodiscard]] log_entry* find(run_id r, std::uint32_t place) {
    const std::uint32_t back = static_cast<std::uint32_t>(end()) - place;
    if (back == 0 || back > size()) return nullptr;
    log_entry& e = (*this)[end() - back];
    return e.run == r ? &e : nullptr;
  }
  // Of an entry that `find` finds.
  [[nodiscard]] std::uint64_t position(std::uint32_t place) const {
    return end() - (static_cast<std::uint32_t>(end()) - place);
  }
};

}  // namespace radixkv::detail
