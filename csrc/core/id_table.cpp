#include "csrc/core/id_table.h"

#include <cassert>
#include <new>

namespace radixkv::detail {

bool id_table::create() { return grow(9); }

bool id_table::grow(int log2_slots) {
  if (log2_slots > 32) return false;
  std::unique_ptr<table> t(new (std::nothrow) table);
  const std::size_t slots = std::size_t{1} << log2_slots;
  if (!t || !t->slots.reserve(slots)) return false;
  t->mask = slots - 1;
  t->shift = 32 - log2_slots;
  table* old = current_.load(std::memory_order_relaxed);
  try {
    tables_.push_back(std::move(t));
  } catch (const std::bad_alloc&) {
    return false;
  }
  table& grown = *tables_.back();
  if (old) {
    for (std::size_t i = 0; i <= old->mask; ++i) {
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
  std::size_t i = t.home(static_cast<std::uint32_t>(packed >> 32));
  while (t.slots[i].load(std::memory_order_relaxed) != 0) {
    count_entries();
    i = (i + 1) & t.mask;
  }
  t.slots[i].store(packed, std::memory_order_relaxed);
}

bool id_table::reserve(std::size_t n) {
  while ((size_ + n) * 4 > (current().mask + 1) * 3) {
    if (!grow(32 - current().shift + 1)) return false;
  }
  return true;
}

void id_table::insert(std::uint32_t hash, std::uint32_t id) noexcept {
  assert(id != none && size_ <= current().mask);
  count_lookups();
  write_guard writing(version_);
  place(*tables_.back(), pack(hash, id));
  ++size_;
}

std::uint32_t id_table::insert(const probe& end, std::uint32_t id) noexcept {
  slot& s = tables_.back()->slots[end.at_];
  assert(id != none && end.slots_ == tables_.back()->slots.data() &&
         s.load(std::memory_order_relaxed) == 0);
  write_guard writing(version_);
  s.store(pack(end.hash_, id), std::memory_order_relaxed);
  ++size_;
  return end.hash_;
}

std::size_t id_table::index_of(std::uint32_t hash, std::uint32_t id) const noexcept {
  const table& t = current();
  const std::uint64_t wanted = pack(hash, id);
  count_lookups();
  std::size_t i = t.home(hash);
  while (t.slots[i].load(std::memory_order_relaxed) != wanted) {
    assert(t.slots[i].load(std::memory_order_relaxed) != 0);
    count_entries();
    i = (i + 1) & t.mask;
  }
  return i;
}

void id_table::replace(std::uint32_t hash, std::uint32_t from, std::uint32_t to) noexcept {
  const std::size_t i = index_of(hash, from);
  write_guard writing(version_);
  tables_.back()->slots[i].store(pack(hash, to), std::memory_order_relaxed);
}

// Backward shift (Knuth, TAOCP 3, 6.4 algorithm R): whatever follows and may move up does.
void id_table::erase(std::uint32_t hash, std::uint32_t id) noexcept {
  std::size_t hole = index_of(hash, id);
  table& t = *tables_.back();
  write_guard writing(version_);
  for (std::size_t i = (hole + 1) & t.mask;; i = (i + 1) & t.mask) {
    const std::uint64_t s = t.slots[i].load(std::memory_order_relaxed);
    if (s == 0) break;
    count_entries();
    const std::size_t home = t.home(static_cast<std::uint32_t>(s >> 32));
    if (((i - home) & t.mask) < ((i - hole) & t.mask)) continue;  // home lies after the hole
    t.slots[hole].store(s, std::memory_order_relaxed);
    hole = i;
  }
  t.slots[hole].store(0, std::memory_order_relaxed);
  --size_;
}

std::string id_table::check() const {
  const table& t = current();
  std::size_t found = 0;
  for (std::size_t i = 0; i <= t.mask; ++i) {
    const std::uint64_t s = t.slots[i].load(std::memory_order_relaxed);
    if (s == 0) continue;
    ++found;
    for (std::size_t j = t.home(static_cast<std::uint32_t>(s >> 32)); j != i;
         j = (j + 1) & t.mask) {
      if (t.slots[j].load(std::memory_order_relaxed) == 0) {
        return "slot " + std::to_string(i) + " is not reachable from its home";
      }
    }
  }
  if (found != size_) return "holds " + std::to_string(found) + " of " + std::to_string(size_);
  return {};
}

}  // namespace radixkv::detail
