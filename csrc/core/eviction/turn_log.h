// The log of runs in order of their last use, by which they age.
//
// An entry carries what the lessons of its run need, so that ageing reads this log alone, in
// sequence, instead of runs all over memory. A run has at most one entry; its older ones are
// cleared when it is used again. Where many runs were used together, many are cleared together:
// such stretches are passed in one step. Their first and last entry know their length (boundary
// tags; Knuth, TAOCP 1, 2.5), those inside may know less. `close_gaps` gives their room back.
//
// Not thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "csrc/core/eviction/position_ring.h"
#include "csrc/core/eviction/run_history.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

struct cleared_stretch {
  std::uint16_t ahead, behind;  // entries that are cleared for sure, with this one; saturating
};

struct log_entry {
  run_id run = no_run;  // no_run: cleared
  std::uint32_t turn = 0;
  union {
    run_features features{};  // of the run's body
    cleared_stretch cleared;
  };
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
  // REQUIRES: the entry at the position is a run's.
  void clear(std::uint64_t position) {
    std::uint64_t first = position, last = position;
    if (position > begin() && (*this)[position - 1].run == no_run) {
      first = std::max(begin(), position - (*this)[position - 1].cleared.behind);
    }
    if (position + 1 < end() && (*this)[position + 1].run == no_run) {
      last += (*this)[position + 1].cleared.ahead;
    }
    (*this)[position].run = no_run;
    (*this)[position].cleared = {saturated(last - position + 1), saturated(position - first + 1)};
    (*this)[first].cleared.ahead = saturated(last - first + 1);
    (*this)[last].cleared.behind = saturated(last - first + 1);
  }
  // How far entries are cleared from this position on, as far as it is known: the position itself
  // if it is a run's or the end. What lies inside a stretch that grew at its end knows how far back
  // its first is, which knows how far it reaches.
  [[nodiscard]] std::uint64_t cleared_until(std::uint64_t position) const {
    if (position == end() || (*this)[position].run != no_run) return position;
    count_entries(2);
    const cleared_stretch here = (*this)[position].cleared;
    const std::uint64_t first = std::max(begin(), position + 1 - here.behind);
    return std::max(position + here.ahead, first + (*this)[first].cleared.ahead);
  }
  // Drops the cleared entries: the others keep their order and move up to the end, which stays.
  // Calls moved(run, position) for each run, and makes `places`, positions in the order of the
  // log, those of the first entries of runs that are left from there on. O(size).
  template <typename Moved>
  void close_gaps(std::span<std::uint64_t* const> places, Moved&& moved) {
    std::uint64_t to = end();
    std::size_t above = places.size();  // places from here on are where they belong
    while (above > 0 && *places[above - 1] == end()) --above;
    for (std::uint64_t from = end(); from-- != begin();) {
      if (const log_entry e = (*this)[from]; e.run != no_run) {
        (*this)[--to] = e;
        moved(e.run, to);
      }
      for (; above > 0 && *places[above - 1] == from; --above) *places[above - 1] = to;
    }
    for (; above > 0; --above) *places[above - 1] = to;  // before the first
    drop_before(to);
  }
  // Empty if no entry of a run would be passed. O(size).
  [[nodiscard]] std::string check() const {
    std::uint64_t cleared = 0;  // from the position on
    for (std::uint64_t p = end(); p-- != begin();) {
      const log_entry& e = (*this)[p];
      cleared = e.run == no_run ? cleared + 1 : 0;
      if (e.run == no_run && (e.cleared.ahead == 0 || e.cleared.ahead > cleared)) {
        return "entry " + std::to_string(p) + " of the log counts too many cleared ones";
      }
    }
    cleared = 0;  // up to the position
    for (std::uint64_t p = begin(); p != end(); ++p) {
      const log_entry& e = (*this)[p];
      cleared = e.run == no_run ? cleared + 1 : 0;
      // What was dropped before the first may have been cleared, too.
      const std::uint64_t behind = std::min<std::uint64_t>(e.cleared.behind, p - begin() + 1);
      if (e.run == no_run && (e.cleared.behind == 0 || behind > cleared)) {
        return "entry " + std::to_string(p) + " of the log counts too many cleared before it";
      }
    }
    return {};
  }

 private:
  [[nodiscard]] static std::uint16_t saturated(std::uint64_t n) {
    return static_cast<std::uint16_t>(std::min<std::uint64_t>(n, 0xffff));
  }
};

}  // namespace radixkv::detail
