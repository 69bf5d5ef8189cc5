// A 4-ary heap of runs by key, smallest first, the least recently used of equal ones first; runs
// know their place in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "csrc/core/eviction/run_history.h"

namespace radixkv::detail {

class key_heap {
 public:
  explicit key_heap(run_history& runs) : runs_(runs) {}

  void clear() { entries_ = {}; }
  [[nodiscard]] bool empty() const { return entries_.empty(); }
  [[nodiscard]] run_id top() const { return entries_[0].run; }
  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] std::size_t bytes() const { return entries_.capacity() * sizeof(entry); }

  // Adds r, or changes its key.
  void put(run_id r, float key) {
    std::uint32_t at = runs_[r].heap_place;
    if (at == no_run) {
      at = static_cast<std::uint32_t>(entries_.size());
      entries_.push_back({key, r, runs_[r].turn});
      runs_[r].heap_place = at;
    }
    move({key, r, runs_[r].turn}, at);
  }
  void remove(run_id r) {
    const std::uint32_t at = runs_[r].heap_place;
    if (at == no_run) return;
    runs_[r].heap_place = no_run;
    const entry last = entries_.back();
    entries_.pop_back();
    if (last.run != r) move(last, at);
  }
  [[nodiscard]] bool sound() const {
    for (std::uint32_t i = 0; i < entries_.size(); ++i)
      if (runs_[entries_[i].run].heap_place != i ||
          (i > 0 && entries_[i].before(entries_[(i - 1) / 4])))
        return false;
    return true;
  }

 private:
  struct entry {
    float key;
    run_id run;
    std::uint32_t turn;
    [[nodiscard]] bool before(const entry& other) const {
      return key != other.key ? key < other.key : static_cast<std::int32_t>(turn - other.turn) < 0;
    }
  };
  void place(entry e, std::uint32_t at) {
    entries_[at] = e;
    runs_[e.run].heap_place = at;
  }
  // Finds e's place, beginning at a hole.
  void move(entry e, std::uint32_t at) {
    while (at > 0 && e.before(entries_[(at - 1) / 4])) {
      place(entries_[(at - 1) / 4], at);
      at = (at - 1) / 4;
    }
    for (;;) {
      const std::uint32_t first = 4 * at + 1;
      std::uint32_t least = first;
      if (first >= entries_.size()) break;
      for (std::uint32_t c = first + 1; c < first + 4 && c < entries_.size(); ++c)
        if (entries_[c].before(entries_[least])) least = c;
      if (!entries_[least].before(e)) break;
      place(entries_[least], at);
      at = least;
    }
    place(e, at);
  }

  run_history& runs_;
  std::vector<entry> entries_;
};

}  // namespace radixkv::detail
