// What plain LRU would have hit, counted in O(1) per run touched, beside any other policy.
//
// A block would still be in an LRU cache iff the blocks used since fill less than the cache. Every
// block belongs to the request (turn) that used it last; a cursor over turns keeps the blocks of
// younger turns at capacity, and what room they leave goes to the one turn that LRU would have
// evicted in part. A second cursor is ahead of it by what is not cached, which LRU would have no
// room for either: it stays where room was made last and moves by what has changed since, so the
// turns between the two are not walked through again. Turns also carry what a continuation wants to
// know of the request that it continues.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "csrc/core/eviction/position_ring.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

struct turn_record {
  std::uint32_t request = 0;  // the cache's ordinal, low bits
  float seconds = 0;
  std::uint32_t end = 0;                    // depth of its path, in blocks
  std::uint32_t blocks = 0;                 // that were last used by it
  std::uint32_t missing = 0;                // of them, not cached
  std::uint32_t number : 31 = 0;            // in its conversation, saturating
  std::uint32_t ends_inside_block : 1 = 0;  // the last one of its path
};

class lru_shadow {
 public:
  // May throw std::bad_alloc; nothing else does.
  void reset(std::int64_t capacity_blocks) {
    *this = {};
    capacity_ = room_ = capacity_blocks;
    if (!turns_.reserve(64)) throw std::bad_alloc();
  }

  // Begins turn `turn` (one more than the last, or the first). Records older than `needed` are kept
  // only while LRU would hold their blocks. May take `allowance` bytes more.
  turn_record& begin(std::uint32_t turn, std::uint32_t needed, std::size_t allowance) {
    if (turns_.size() == 0) now_.oldest = next_.oldest = kept_ = turn;
    while (static_cast<std::int32_t>(needed - kept_) > 0 &&
           static_cast<std::int32_t>(now_.oldest - kept_) > 0)
      forget_one();
    // Without memory the shadow forgets its oldest turn: a cache a little smaller than it should
    // be.
    if (!turns_.reserve(1, allowance)) {
      if (next_.oldest == kept_) let_go(next_);
      if (now_.oldest == kept_) let_go(now_);
      forget_one();
    }
    turns_.push({});
    return at(turns_.size() - 1);
  }
  // The record of a turn, or null if it is too old.
  [[nodiscard]] turn_record* find(std::uint32_t turn) {
    const std::uint32_t i = turn - kept_;
    return i < turns_.size() ? &at(i) : nullptr;
  }
  void prefetch(std::uint32_t turn) const { turns_.prefetch(turns_.begin() + (turn - kept_)); }
  [[nodiscard]] bool holds(std::uint32_t turn) const {
    return turns_.size() != 0 && turn - now_.oldest < turns_.size();
  }
  // The same once LRU has made the room that was made last.
  [[nodiscard]] bool keeps(std::uint32_t turn) const {
    return turns_.size() != 0 && turn - next_.oldest < turns_.size();
  }
  // Turn that LRU would have evicted in part, and how many of its blocks would be left.
  [[nodiscard]] std::uint32_t partial_turn() const { return now_.oldest - 1; }
  [[nodiscard]] std::uint32_t partial_blocks() const {
    return now_.oldest != kept_ && capacity_ > now_.young
               ? static_cast<std::uint32_t>(capacity_ - now_.young)
               : 0;
  }
  // The newest turn took over `blocks` blocks, from turn `from` if `known`.
  void move(bool known, std::uint32_t from, std::uint32_t blocks) {
    if (known) {
      if (turn_record* const old = find(from)) old->blocks -= blocks;
      if (holds(from)) now_.young -= blocks;
      if (keeps(from)) next_.young -= blocks;
    }
    at(turns_.size() - 1).blocks += blocks;
    now_.young += blocks;
    next_.young += blocks;
  }
  // Turn `from` has `blocks` more.
  void grow(std::uint32_t turn, std::uint32_t blocks) {
    if (turn_record* const record = find(turn)) record->blocks += blocks;
    if (holds(turn)) now_.young += blocks;
    if (keeps(turn)) next_.young += blocks;
  }
  // `blocks` blocks that `turn` used last are not cached any more, or are again.
  void evicted(std::uint32_t turn, std::uint32_t blocks) {
    if (turn_record* const record = find(turn)) record->missing += blocks;
    if (holds(turn)) now_.missing += blocks;
    if (keeps(turn)) next_.missing += blocks;
  }
  void restored(std::uint32_t turn, std::uint32_t blocks) {
    if (turn_record* const record = find(turn)) record->missing -= blocks;
    if (holds(turn)) now_.missing -= blocks;
    if (keeps(turn)) next_.missing -= blocks;
  }
  // LRU would have to make room, too: it would keep only so many blocks, at most its capacity.
  void make_room(std::int64_t blocks) {
    room_ = blocks;
    while (next_.young > blocks && next_.oldest - kept_ + 1 < turns_.size()) let_go(next_);
    while (next_.oldest != now_.oldest) {
      const turn_record& back = at(next_.oldest - 1 - kept_);
      if (next_.young + back.blocks > blocks) break;
      count_entries();
      --next_.oldest;
      next_.young += back.blocks;
      next_.missing += back.missing;
    }
  }
  // Blocks that LRU would keep and that are not cached.
  [[nodiscard]] std::int64_t missing() const {
    const std::int64_t left = room_ - next_.young;
    if (next_.oldest == kept_ || left <= 0) return next_.missing;
    const turn_record& part = turns_[turns_.begin() + (next_.oldest - 1 - kept_)];
    const std::int64_t cached = std::int64_t{part.blocks} - part.missing;
    return next_.missing + std::max(std::int64_t{0}, left - cached);
  }
  // After the moves of a request: lets go of what LRU would have evicted.
  void settle() {
    while (now_.young > capacity_ && now_.oldest - kept_ + 1 < turns_.size()) let_go(now_);
    if (static_cast<std::int32_t>(next_.oldest - now_.oldest) < 0) {
      next_ = now_;
      room_ = capacity_;
    }
  }
  [[nodiscard]] std::size_t bytes() const { return turns_.bytes(); }

 private:
  [[nodiscard]] turn_record& at(std::size_t i) { return turns_[turns_.begin() + i]; }
  struct window {
    std::uint32_t oldest = 0;  // first turn that an LRU cache would hold
    std::int64_t young = 0;    // blocks of turns from there on
    std::int64_t missing = 0;  // of them, not cached
  };
  void let_go(window& w) {
    count_entries();
    const turn_record& gone = at(w.oldest++ - kept_);
    w.young -= gone.blocks;
    w.missing -= gone.missing;
  }
  void forget_one() {
    turns_.drop_before(turns_.begin() + 1);
    ++kept_;
  }

  position_ring<turn_record> turns_;
  std::uint32_t kept_ = 0;  // turn of the first record
  window now_, next_;       // next_ is never behind now_
  std::int64_t room_ = 0;   // blocks that LRU keeps, by next_
  std::int64_t capacity_ = 0;
};

}  // namespace radixkv::detail
