#include "csrc/core/id_table.h"

#include <algorithm>
#include <cassert>
#include <new>
#include <utility>

#include "csrc/core/moved_lines.h"

namespace radixkv::detail {

bool id_table::create() {
  table* const t = add_table(9);
  if (t == nullptr) return false;
  current_.store(t, std::memory_order_release);
  return true;
}

id_table::table* id_table::add_table(int log2_slots) {
  if (log2_slots > 32) return nullptr;
  std::unique_ptr<table> t(new (std::nothrow) table);
  const std::size_t slots = std::size_t{1} << log2_slots;
  if (!t || !t->slots.reserve(slots, decltype(t->slots)::filled::all_over)) return nullptr;
  t->line_mask = slots / slot_line::size - 1;
  t->shift = 32 - std::countr_zero(t->line_mask + 1);
  try {
    tables_.push_back(std::move(t));
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
  return tables_.back().get();
}

// From now on lines move to a table twice as large. False if memory is refused.
bool id_table::begin_moving() {
  table& t = writable();
  t.larger = add_table(std::countr_zero(t.size()) + 1);
  return t.larger != nullptr;
}

// Moves so many lines, and those that the entries of the last one went on to.
void id_table::move_lines(std::size_t count) noexcept {
  table& t = writable();
  const std::size_t before = t.moved.load(std::memory_order_relaxed);
  const auto goes_on_to = [&](std::size_t line) {
    return slot_line::empty(&t.slots[((line - 1) & t.line_mask) * slot_line::size]) == 0;
  };
  std::size_t until = std::min(t.lines(), before + count);
  if (before == 0) {
    // Nothing goes on from the line before the first one, now: what was inserted since the larger
    // table was made may have.
    t.first = 0;
    while (goes_on_to(t.first)) ++t.first;
  } else if (goes_on_to(t.first + before)) {
    // So much came at once that it went on around the end and past all that had moved.
    until = t.lines();
  }
  std::size_t moved = before;
  take_memory(t, before, until);
  write_guard writing(version_);
  while (moved < until) {
    bool goes_on;
    do {
      slot_line::slot* const line = &t.slots[((t.first + moved) & t.line_mask) * slot_line::size];
      goes_on = slot_line::empty(line) == 0;
      for (std::size_t i = 0; i < slot_line::size; ++i) {
        const std::uint64_t s = line[i].load(std::memory_order_relaxed);
        if (s == 0) continue;
        place(*t.larger, s);
        line[i].store(0, std::memory_order_relaxed);
      }
      count_moved_line();
      ++moved;
    } while (goes_on);
  }
  t.moved.store(moved, std::memory_order_release);
  if (moved < t.lines()) {
    give_back(t, before, moved);
  } else {
    // A reader may still walk the old slots; it finds them empty, and its miss is not valid.
    current_.store(t.larger, std::memory_order_release);
    t.slots.discard();
  }
}

// Where lines come to lie in another huge page of the larger table it is taken from the system now,
// not while readers wait.
void id_table::take_memory(table& t, std::size_t before, std::size_t until) noexcept {
  constexpr std::size_t chunk = (std::size_t{2} << 20) / sizeof(slot_line::slot);
  const std::size_t ratio = t.larger->lines() / t.lines();
  const auto slot_of = [&](std::size_t moved) {
    return ((t.first + moved) & t.line_mask) * ratio * slot_line::size;
  };
  const std::size_t first = slot_of(before);
  const std::size_t last = slot_of(until - 1);
  if (before != 0 && first / chunk == last / chunk && first % chunk != 0) return;
  (void)t.larger->slots.populate(last + 1, last);  // else it comes when it is touched
}

// Gives the memory of lines back that were moved, by huge pages, which are what it may lie in.
void id_table::give_back(table& t, std::size_t before, std::size_t now) noexcept {
  constexpr std::size_t chunk = (std::size_t{2} << 20) / sizeof(slot_line::slot);
  const std::size_t from = (t.first + before) * slot_line::size / chunk;
  const std::size_t to = (t.first + now) * slot_line::size / chunk;
  if (from == to) return;
  // What the last lines to be moved have gone on to may lie there, and lines before the first one.
  const std::size_t last = ((t.first - 1) & t.line_mask) * slot_line::size;
  if (slot_line::empty(&t.slots[last]) == 0) return;
  for (std::size_t c = from; c < to && (c + 1) * chunk <= t.size(); ++c) {
    if (c * chunk >= t.first * slot_line::size) t.slots.discard(c * chunk, chunk);
  }
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
  const std::size_t inserted = std::exchange(inserted_, 0);
  if (writable().larger != nullptr && inserted != 0) move_lines(moved_per_change);
  for (;;) {
    const table& t = writable();
    const bool moving = t.larger != nullptr;
    const std::size_t slots = moving ? t.larger->size() : t.size();
    const bool fits = (size_ + n) * 4 <= slots * 3;
    if (fits && (!moving || (size_ + n) * 8 <= t.size() * 7)) return true;
    if (moving) {
      move_lines(t.lines());
    } else if (!begin_moving()) {
      return false;
    }
  }
}

void id_table::insert(std::uint32_t hash, std::uint32_t id) noexcept {
  table& t = writable().of(hash);
  assert(id != none && size_ < (t.larger != nullptr ? *t.larger : t).size());
  count_lookups();
  write_guard writing(version_);
  place(t, slot_line::pack(hash, id));
  ++size_;
  ++inserted_;
}

std::uint32_t id_table::insert(const probe& end, std::uint32_t id) noexcept {
  table& t = writable().of(end.hash_);
  assert(id != none && end.slots_ == t.slots.data());
  slot_line::slot* const line = &t.slots[end.line_ * slot_line::size];
  const std::uint32_t empty = slot_line::empty(line);
  assert(empty != 0);
  write_guard writing(version_);
  line[slot_line::first(empty)].store(slot_line::pack(end.hash_, id), std::memory_order_relaxed);
  ++size_;
  ++inserted_;
  return end.hash_;
}

void id_table::replace(std::uint32_t hash, std::uint32_t from, std::uint32_t to) noexcept {
  table& t = writable().of(hash);
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
  std::string wrong = check(t, found);
  if (wrong.empty() && t.larger != nullptr) {
    wrong = check(*t.larger, found);
    if (!wrong.empty()) wrong = "the larger table: " + wrong;
  }
  if (!wrong.empty()) return wrong;
  if (found != size_) return "holds " + std::to_string(found) + " of " + std::to_string(size_);
  return {};
}

std::string id_table::check(const table& t, std::size_t& found) const {
  for (std::size_t line = 0; line <= t.line_mask; ++line) {
    const slot_line::slot* const slots = &t.slots[line * slot_line::size];
    if (slots[slot_line::size - 1].load(std::memory_order_relaxed) != 0 &&
        slot_line::empty(slots) != 0) {
      return "line " + std::to_string(line) + " has a hole before its last slot, which is in use";
    }
  }
  for (std::size_t i = 0; i < t.size(); ++i) {
    const std::uint64_t s = t.slots[i].load(std::memory_order_relaxed);
    if (s == 0) continue;
    ++found;
    if (&current().of(slot_line::hash(s)) != &t) {
      return "slot " + std::to_string(i) + " belongs into the other table";
    }
    for (std::size_t line = t.home(slot_line::hash(s)); line != i / slot_line::size;
         line = (line + 1) & t.line_mask) {
      if (slot_line::empty(&t.slots[line * slot_line::size]) != 0) {
        return "slot " + std::to_string(i) + " is not reachable from its home";
      }
    }
  }
  return {};
}

}  // namespace radixkv::detail
