#include "csrc/core/id_table.h"

#include <cassert>
#include <new>

namespace radixkv::detail {

bool id_table::create() { return grow(9); }

bool id_table::grow(int log2_slots) {
  if (log2_slots > 32) return false;
  std::unique_ptr<table> t(new (std::nothrow) table);
  const std::size_t slots = std::size_t{1} << log2_slots;
  if (!t || !t->slots.reserve(slots, decltype(t->slots)::filled::all_over)) return false;
  t->line_mask = slots / slot_line::size - 1;
  t->shift = 32 - std::countr_zero(t->line_mask + 1);
  table* old = current_.load(std::memory_order_relaxed);
  try {
    tables_.push_back(std::move(t));
  } catch (const std::bad_alloc&) {
    return false;
  }
  table& grown = *tables_.back();
  if (old) {
    const std::size_t all = (old->line_mask + 1) * slot_line::size;
    for (std::size_t i = 0; i < all; ++i) {
      const std::uint64_t s = old->slots[i].load(std::memory_order_relaxed);
      if (s) place(grown, s);
    }
  }
  write_guard writing(version_);
  current_.store(&grown, std::memory_order_release);
  // A reader may still walk the old slots; it finds them empty, and its miss is not valid.
  if (old) old->slots.discard();
  return true;
}

void id_table::place(table& t, std::uint64_t packed) noexcept {
  std::size_t line = t.home(slot_line::hash(packed));
  std::uint32_t empty;
  while ((empty = slot_line::empty(&t.slots[line * slot_line::size])) == 0) {
    count_entries(slot_line::entries_counted);
    line = (line + 1) & t.line_mask;
  }
  t.slots[line * slot_line::size + slot_line::first(empty)].store(packed,
                                                                  std::memory_order_relaxed);
}

bool id_table::reserve(std::size_t n) {
  for (;;) {
    const std::size_t slots = (current().line_mask + 1) * slot_line::size;
    if ((size_ + n) * 4 <= slots * 3) return true;
    if (!grow(std::countr_zero(slots) + 1)) return false;
  }
}

void id_table::insert(std::uint32_t hash, std::uint32_t id) noexcept {
  assert(id != none && size_ < (current().line_mask + 1) * slot_line::size);
  count_lookups();
  write_guard writing(version_);
  place(*tables_.back(), slot_line::pack(hash, id));
  ++size_;
}

std::uint32_t id_table::insert(const probe& end, std::uint32_t id) noexcept {
  table& t = *tables_.back();
  assert(id != none && end.slots_ == t.slots.data());
  slot_line::slot* const line = &t.slots[end.line_ * slot_line::size];
  const std::uint32_t empty = slot_line::empty(line);
  assert(empty != 0);
  write_guard writing(version_);
  line[slot_line::first(empty)].store(slot_line::pack(end.hash_, id), std::memory_order_relaxed);
  ++size_;
  return end.hash_;
}

void id_table::replace(std::uint32_t hash, std::uint32_t from, std::uint32_t to) noexcept {
  table& t = *tables_.back();
  const std::size_t at = index_of(t, hash, from);
  write_guard writing(version_);
  t.slots[at].store(slot_line::pack(hash, to), std::memory_order_relaxed);
}

// Takes the entry at `at` out of a line that is full. What went past the line and may lie in it
// moves up, and so on: the backward shift of linear probing (Knuth, TAOCP 3, 6.4 algorithm R), by
// lines.
void id_table::fill_up(table& t, std::size_t at) noexcept {
  constexpr std::size_t nothing = ~std::size_t{0};
  slot_line::slot* const slots = t.slots.data();
  std::size_t line = at / slot_line::size;
  bool full = true;
  while (full) {
    std::size_t from = line;
    std::size_t moves = nothing;
    do {
      from = (from + 1) & t.line_mask;
      count_entries(slot_line::entries_counted);
      const slot_line::slot* const next = slots + from * slot_line::size;
      full = slot_line::empty(next) == 0;
      for (std::uint32_t m = slot_line::strangers(next, t.shift, static_cast<std::uint32_t>(from));
           m != 0; m &= m - 1) {
        const std::size_t i = slot_line::first(m);
        const std::uint64_t s = next[i].load(std::memory_order_relaxed);
        const std::size_t way = (from - t.home(slot_line::hash(s))) & t.line_mask;
        // Its home is not behind the hole.
        if (way >= ((from - line) & t.line_mask)) moves = from * slot_line::size + i;
      }
    } while (moves == nothing && full);
    if (moves == nothing) break;
    slots[at].store(slots[moves].load(std::memory_order_relaxed), std::memory_order_relaxed);
    at = moves;
    line = from;
  }
  // The hole in the line that is short of one now is its last slot (invariant 3).
  const std::size_t last = at | (slot_line::size - 1);
  slots[at].store(slots[last].load(std::memory_order_relaxed), std::memory_order_relaxed);
  slots[last].store(0, std::memory_order_relaxed);
}

std::string id_table::check() const {
  const table& t = current();
  std::size_t found = 0;
  for (std::size_t line = 0; line <= t.line_mask; ++line) {
    const slot_line::slot* const slots = &t.slots[line * slot_line::size];
    if (slots[slot_line::size - 1].load(std::memory_order_relaxed) != 0 &&
        slot_line::empty(slots) != 0) {
      return "line " + std::to_string(line) + " has a hole before its last slot, which is in use";
    }
  }
  for (std::size_t i = 0; i < (t.line_mask + 1) * slot_line::size; ++i) {
    const std::uint64_t s = t.slots[i].load(std::memory_order_relaxed);
    if (s == 0) continue;
    ++found;
    for (std::size_t line = t.home(slot_line::hash(s)); line != i / slot_line::size;
         line = (line + 1) & t.line_mask) {
      if (slot_line::empty(&t.slots[line * slot_line::size]) != 0) {
        return "slot " + std::to_string(i) + " is not reachable from its home";
      }
    }
  }
  if (found != size_) return "holds " + std::to_string(found) + " of " + std::to_string(size_);
  return {};
}

}  // namespace radixkv::detail
