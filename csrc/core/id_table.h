// Hash table from a 32-bit hash to candidate node ids: what the key really was, the caller checks
// at the node. Open addressing by cache lines: an entry lies in its home line or, if that is full,
// in the next one that is not. No tombstones. A look-up mostly takes one line, whose slots are
// compared at once, and so does an erasure: only what was full has to be filled up again.
//
// It grows without a pause. A larger table is mapped, and each reserve() moves a few lines if there
// were insertions since the last one. Homes are given by the upper bits of hashes, so lines move in
// order, from one end to the other: one number says where an entry is, what has moved gives its
// memory back while memory is taken as the larger table is filled, and the two together are never
// more than the larger one. A line moves with those that its entries went on to.
//
// Readers need no lock. A hit is a candidate, verified at the node; a miss counts only if the table
// was not changed meanwhile (read_begin / read_valid). A grown table's predecessor stays mapped,
// empty.
//
// 1. In each table all lines from an entry's home to the one before it are full.
// 2. size() ≤ 3/4 of the slots, or, while entries move, 7/8 of those of the smaller table.
// 3. A line's last slot is in use only if all of them are.
// 4. While entries move, those whose home is among the lines that have been moved are in the larger
//    table, all others in the smaller one.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cassert>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "csrc/core/relaxed.h"
#include "csrc/core/slot_line.h"
#include "csrc/core/stable_array.h"
#include "csrc/core/step_count.h"
#include "csrc/core/token_ops.h"

namespace radixkv::detail {

class id_table {
  struct table {
    stable_array<slot_line::slot> slots;
    std::size_t line_mask = 0;
    int shift = 0;  // the home line is given by the hash's upper bits
    // Lines that have been moved to the larger table, from `first` on, and around the end; the rest
    // is set before there are any.
    std::atomic<std::size_t> moved{0};
    std::size_t first = 0;
    table* larger = nullptr;
    [[nodiscard]] std::size_t lines() const noexcept { return line_mask + 1; }
    [[nodiscard]] std::size_t size() const noexcept { return lines() * slot_line::size; }
    [[nodiscard]] std::size_t home(std::uint32_t hash) const noexcept {
      return static_cast<std::size_t>(hash >> shift);
    }
    // Where entries of a hash are: this table or the larger one.
    [[nodiscard]] const table& of(std::uint32_t hash) const noexcept {
      const std::size_t so_far = moved.load(std::memory_order_acquire);
      if (so_far == 0) [[likely]]
        return *this;
      return ((home(hash) - first) & line_mask) < so_far ? *larger : *this;
    }
    [[nodiscard]] table& of(std::uint32_t hash) noexcept {
      return const_cast<table&>(static_cast<const table*>(this)->of(hash));
    }
  };

 public:
  static constexpr std::uint32_t none = 0xffffffffu;
  // So many lines move for a change that has inserted, which takes half a microsecond: all have
  // moved when the entries have become a few hundredths more, since look-ups cost the most
  // meanwhile.
  static constexpr std::size_t moved_per_change = 16;

  // Walks the candidates of a hash.
  class probe {
   public:
    // The next id stored under the hash, or none.
    std::uint32_t next() noexcept {
      for (;;) {
        while (same_ != 0) {
          at_ = line_ * slot_line::size + slot_line::first(same_);
          same_ &= same_ - 1;
          const std::uint64_t s = slots_[at_].load(std::memory_order_relaxed);
          if (slot_line::is(s, hash_)) return slot_line::id(s);
        }
        if (left_ == 0 || slot_line::empty(slots_ + line_ * slot_line::size) != 0) return none;
        --left_;
        line_ = (line_ + 1) & line_mask_;
        count_entries(slot_line::entries_counted);
        same_ = slot_line::same(slots_ + line_ * slot_line::size, hash_);
      }
    }

   private:
    friend class id_table;
    const slot_line::slot* slots_ = nullptr;
    std::size_t line_mask_ = 0;
    std::size_t line_ = 0;
    std::size_t left_ = 0;  // lines that were not looked at yet
    std::size_t at_ = 0;    // of the slot returned last
    std::uint32_t same_ = 0;
    std::uint32_t hash_ = 0;
  };

  [[nodiscard]] bool create();
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    const table& t = current();
    std::size_t lines = t.lines();
    if (t.larger != nullptr) {
      const std::size_t moved = std::min(lines, t.moved.load(std::memory_order_relaxed));
      lines = lines - moved + moved * (t.larger->lines() / t.lines());
    }
    return lines * slot_line::size * sizeof(std::uint64_t);
  }

  [[nodiscard]] probe find(std::uint32_t hash) const noexcept {
    const table& t = current().of(hash);
    probe p;
    p.slots_ = t.slots.data();
    p.line_mask_ = t.line_mask;
    p.line_ = t.home(hash);
    p.left_ = t.line_mask;
    p.hash_ = hash;
    count_lookups();
    p.same_ = slot_line::same(p.slots_ + p.line_ * slot_line::size, hash);
    return p;
  }
  // The table as it is now, for many look-ups of guesses: in one that has grown meanwhile they find
  // nothing.
  class reader {
   public:
    void prefetch_slot(std::uint32_t hash) const noexcept {
      const lines l = lines_of(hash);
      prefetch(l.slots + l.home * slot_line::size);
    }
    // The first candidate of a hash, or none.
    [[nodiscard]] std::uint32_t first(std::uint32_t hash) const noexcept {
      const lines l = lines_of(hash);
      std::size_t at = l.home;
      count_lookups();
      for (std::size_t left = l.mask + 1; left > 0; --left) {
        const slot_line::slot* const slots = l.slots + at * slot_line::size;
        for (std::uint32_t same = slot_line::same(slots, hash); same != 0; same &= same - 1) {
          const std::uint64_t s = slots[slot_line::first(same)].load(std::memory_order_relaxed);
          if (slot_line::is(s, hash)) return slot_line::id(s);
        }
        if (slot_line::empty(slots) != 0) break;
        at = (at + 1) & l.mask;
        count_entries(slot_line::entries_counted);
      }
      return none;
    }
    // The same of up to `group` hashes at once.
    static constexpr std::size_t group = 2;
    void first_of(std::span<const std::uint32_t> hashes, std::uint32_t* ids) const noexcept;

   private:
    friend class id_table;
    friend struct id_table_avx2;
    struct lines {
      const slot_line::slot* slots;
      std::size_t mask;
      std::size_t home;
    };
    [[nodiscard]] lines lines_of(std::uint32_t hash) const noexcept {
      if (moving_ != nullptr) [[unlikely]] {
        const table& t = moving_->of(hash);
        return {t.slots.data(), t.line_mask, t.home(hash)};
      }
      return {slots_, line_mask_, static_cast<std::size_t>(hash >> shift_)};
    }
    const slot_line::slot* slots_;
    std::size_t line_mask_;
    int shift_;
    const table* moving_;
  };
  [[nodiscard]] reader read() const noexcept {
    const table& t = current();
    reader r;
    r.slots_ = t.slots.data();
    r.line_mask_ = t.line_mask;
    r.shift_ = t.shift;
    r.moving_ = t.moved.load(std::memory_order_acquire) == 0 ? nullptr : &t;
    return r;
  }
  void prefetch_slot(std::uint32_t hash) const noexcept {
    const table& t = current().of(hash);
    prefetch(t.slots.data() + t.home(hash) * slot_line::size);
  }
  // Once the slot is at hand: fetches the line behind it, too, if an erasure will have to look
  // there for what may move up.
  void prefetch_behind(std::uint32_t hash) const noexcept {
    const table& t = current().of(hash);
    const std::size_t line = t.home(hash);
    if (t.slots[(line + 1) * slot_line::size - 1].load(std::memory_order_relaxed) == 0) return;
    prefetch(t.slots.data() + ((line + 1) & t.line_mask) * slot_line::size);
  }
  [[nodiscard]] std::uint32_t read_begin() const noexcept { return version_.read_begin(); }
  [[nodiscard]] bool read_valid(std::uint32_t v) const noexcept { return version_.read_valid(v); }

  // Makes room for n more insertions. False if memory is refused; nothing changed then.
  [[nodiscard]] bool reserve(std::size_t n);
  // REQUIRES: room reserved; id != none.
  void insert(std::uint32_t hash, std::uint32_t id) noexcept;
  // The same where a probe has come to its end. Returns the hash. REQUIRES: also that nothing was
  // changed since the probe began.
  std::uint32_t insert(const probe& end, std::uint32_t id) noexcept;
  // REQUIRES: (hash, id) is there.
  void erase(std::uint32_t hash, std::uint32_t id) noexcept;
  // Puts `to` in the place of `from`. REQUIRES: (hash, from) is there.
  void replace(std::uint32_t hash, std::uint32_t from, std::uint32_t to) noexcept;

  // Empty if the invariants hold.
  [[nodiscard]] std::string check() const;

 private:
  [[nodiscard]] const table& current() const noexcept {
    return *current_.load(std::memory_order_acquire);
  }
  [[nodiscard]] static std::size_t index_of(const table& t, std::uint32_t hash,
                                            std::uint32_t id) noexcept;
  // For the writer.
  [[nodiscard]] table& writable() noexcept { return *current_.load(std::memory_order_relaxed); }
  [[gnu::cold]] static void fill_up(table& t, std::size_t at) noexcept;
  [[nodiscard]] table* add_table(int log2_slots);
  [[nodiscard]] bool begin_moving();
  void move_lines(std::size_t count) noexcept;
  static void take_memory(table& t, std::size_t before, std::size_t until) noexcept;
  static void give_back(table& t, std::size_t before, std::size_t now) noexcept;
  static void place(table& t, std::uint64_t packed) noexcept;
  [[nodiscard]] std::string check(const table& t, std::size_t& found) const;

  std::atomic<table*> current_{nullptr};
  version version_;
  std::size_t size_ = 0;
  std::size_t inserted_ = 0;                    // since lines were last moved
  std::vector<std::unique_ptr<table>> tables_;  // the current one, and what it grows into, are last
};

// By its id, which hardly ever comes twice in a line.
inline std::size_t id_table::index_of(const table& t, std::uint32_t hash,
                                      std::uint32_t id) noexcept {
  const std::uint64_t wanted = slot_line::pack(hash, id);
  count_lookups();
  for (std::size_t line = t.home(hash);; line = (line + 1) & t.line_mask) {
    const slot_line::slot* const slots = t.slots.data() + line * slot_line::size;
    for (std::uint32_t m = slot_line::naming(slots, id); m != 0; m &= m - 1) {
      const std::size_t i = slot_line::first(m);
      if (slots[i].load(std::memory_order_relaxed) == wanted) return line * slot_line::size + i;
    }
    assert(slot_line::empty(slots) == 0);
    count_entries(slot_line::entries_counted);
  }
}

inline void id_table::erase(std::uint32_t hash, std::uint32_t id) noexcept {
  table& t = writable().of(hash);
  const std::size_t at = index_of(t, hash, id);
  write_guard writing(version_);
  --size_;
  if (t.slots[at | (slot_line::size - 1)].load(std::memory_order_relaxed) != 0) [[unlikely]] {
    fill_up(t, at);
  } else {
    t.slots[at].store(0, std::memory_order_relaxed);  // the line was not full
  }
}

}  // namespace radixkv::detail
