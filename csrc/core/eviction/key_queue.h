// Runs by key, smallest first, to within 3 %: a list for each sixteenth of an octave.
//
// Every operation is O(1), and a run whose key hardly changes keeps its place; runs of about equal
// keys leave in the order in which they came there. The links lie apart from the runs, 10 bytes
// each, so that the neighbours of a run are found in a small table. Runs can be marked as being
// beyond (what LRU would keep): they have lists of their own, so that the smallest key of those
// alone is found as fast.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>

#include "csrc/core/eviction/mapped_array.h"
#include "csrc/core/eviction/run_history.h"

namespace radixkv::detail {

class key_queue {
 public:
  key_queue() { clear(); }
  void clear() {
    links_ = {};
    lists_ = {};
    filled_ = {};
    for (std::uint32_t l = 0; l < 2 * lists; ++l) heads_[l] = {head | l, head | l};
  }

  // Runs below n may come; false if there is no memory.
  [[nodiscard]] bool reserve(std::size_t n) noexcept {
    if (n <= lists_.size()) return true;
    if (!links_.reserve(n) || !lists_.reserve(n)) return false;
    links_.resize(n);
    lists_.resize(n, nowhere);
    return true;
  }
  [[nodiscard]] bool has_room(std::size_t n) const { return n <= lists_.size(); }
  // Keys are told apart by their level, a sixteenth of an octave: the sign, exponent and four bits
  // of the mantissa, from 2^-24 on.
  static constexpr std::uint32_t levels = 384;
  [[nodiscard]] static std::uint32_t level_of(float key) {
    constexpr std::int32_t least = (127 - 24) << 4;
    const std::int32_t upper = std::bit_cast<std::int32_t>(key) >> 19;
    return key > 0
               ? static_cast<std::uint32_t>(std::clamp<std::int32_t>(upper - least, 1, levels - 1))
               : 0;
  }
  [[nodiscard]] bool contains(run_id r) const { return r < lists_.size() && lists_[r] != nowhere; }
  // What `put` of r will look at. REQUIRES: there is room for r.
  void prefetch(run_id r) const {
    __builtin_prefetch(&lists_[r]);
    __builtin_prefetch(&links_[r]);
  }
  // Adds r, not beyond, or changes its key. Keys ≤ 0 go before all others. REQUIRES: room.
  void put(run_id r, float key) {
    assert(r < lists_.size());
    place(r, level_of(key) + (is_beyond(r) ? lists : 0));
  }
  // Marks r, if it is here.
  void set_beyond(run_id r, bool beyond) {
    if (contains(r)) place(r, level(r) + (beyond ? lists : 0));
  }
  [[nodiscard]] bool is_beyond(run_id r) const { return contains(r) && lists_[r] >= lists; }
  void remove(run_id r) {
    if (!contains(r)) return;
    const link gone = links_[r];
    at(gone.next).previous = gone.previous;
    at(gone.previous).next = gone.next;
    const std::uint32_t l = lists_[r];
    if (gone.next == gone.previous && gone.next == (head | l))
      filled_[l / 64] &= ~(std::uint64_t{1} << (l % 64));
    lists_[r] = nowhere;
  }
  // The run of the smallest key, or no_run.
  [[nodiscard]] run_id front() const {
    const std::uint32_t inner = first_list(0), beyond = first_list(lists);
    if (inner == lists && beyond == 2 * lists) return no_run;
    return heads_[beyond - lists <= inner ? beyond : inner].next;
  }
  // Of those beyond.
  [[nodiscard]] run_id front_beyond() const {
    const std::uint32_t l = first_list(lists);
    return l == 2 * lists ? no_run : heads_[l].next;
  }
  // The key of r is less than so many octaves above that of s. REQUIRES: both are here.
  [[nodiscard]] bool is_within(run_id r, run_id s, float octaves) const {
    return static_cast<float>(level(r)) < static_cast<float>(level(s)) + 16 * octaves;
  }
  // There is one whose key is ≤ 0.
  [[nodiscard]] bool holds_least() const { return ((filled_[0] | filled_[lists / 64]) & 1) != 0; }
  [[nodiscard]] std::size_t bytes() const { return links_.bytes() + lists_.bytes(); }
  // Bytes that each run takes.
  static constexpr std::size_t bytes_per_run = 10;

  [[nodiscard]] bool sound() const {
    std::size_t linked = 0, known = 0;
    for (std::uint32_t l = 0; l < 2 * lists; ++l) {
      const bool empty = heads_[l].next == (head | l);
      if (empty == ((filled_[l / 64] >> (l % 64) & 1) != 0)) return false;
      std::uint32_t before = head | l;
      for (std::uint32_t r = heads_[l].next; r != (head | l); r = links_[r].next, ++linked) {
        if (r >= links_.size() || lists_[r] != l || links_[r].previous != before) return false;
        before = r;
      }
      if (heads_[l].previous != before) return false;
    }
    for (const std::uint16_t l : lists_) known += l != nowhere;
    return linked == known;
  }

 private:
  struct link {
    std::uint32_t next, previous;  // a run, or head | list
  };
  static constexpr std::uint32_t head = 1u << 31, lists = levels;
  static constexpr std::uint16_t nowhere = 0xffff;

  // REQUIRES: r is here.
  [[nodiscard]] std::uint32_t level(run_id r) const { return lists_[r] % lists; }
  void place(run_id r, std::uint32_t l) {
    if (lists_[r] == l) return;
    remove(r);
    lists_[r] = static_cast<std::uint16_t>(l);
    link& end = heads_[l];
    links_[r] = {head | l, end.previous};
    at(end.previous).next = r;
    end.previous = r;
    filled_[l / 64] |= std::uint64_t{1} << (l % 64);
  }
  // The first list that is not empty of `lists` ones, or the one behind them.
  [[nodiscard]] std::uint32_t first_list(std::uint32_t from) const {
    for (std::uint32_t w = from / 64; w < (from + lists) / 64; ++w)
      if (filled_[w] != 0) return 64 * w + static_cast<std::uint32_t>(std::countr_zero(filled_[w]));
    return from + lists;
  }
  [[nodiscard]] link& at(std::uint32_t i) {
    return (i & head) != 0 ? heads_[i & ~head] : links_[i];
  }

  mapped_array<link> links_;           // by run
  mapped_array<std::uint16_t> lists_;  // by run: where it is
  std::array<link, 2 * lists> heads_;
  std::array<std::uint64_t, 2 * lists / 64> filled_{};  // a bit for each list that is not empty
};

}  // namespace radixkv::detail
