// Hash table from a 32-bit hash to candidate node ids: what the key really was, the caller checks
// at the node. Open addressing, 8-byte slots, linear probing, no tombstones.
//
// Readers need no lock. A hit is a candidate, verified at the node; a miss counts only if the table
// was not changed meanwhile (read_begin / read_valid). A grown table's predecessor stays mapped,
// empty.
//
// 1. Every id in the table is reachable from its home slot without crossing an empty slot.
// 2. size() ≤ 3/4 of the slots.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "csrc/core/relaxed.h"
#include "csrc/core/stable_array.h"
#include "csrc/core/step_count.h"
#include "csrc/core/token_ops.h"

namespace radixkv::detail {

class id_table {
 public:
  static constexpr std::uint32_t none = 0xffffffffu;

  // Walks the candidates of a hash in probing order.
  class probe {
   public:
    // The next id stored under the hash, or none.
    std::uint32_t next() noexcept {
      if (steps_ == 0) count_lookups();
      for (; steps_ <= mask_; ++steps_) {
        count_entries();
        const std::uint64_t s = slots_[at_].load(std::memory_order_relaxed);
        if (s == 0) return none;
        at_ = (at_ + 1) & mask_;
        if (static_cast<std::uint32_t>(s >> 32) == hash_) {
          ++steps_;
          return ~static_cast<std::uint32_t>(s);
        }
      }
      return none;
    }

   private:
    friend class id_table;
    const std::atomic<std::uint64_t>* slots_ = nullptr;
    std::size_t mask_ = 0;
    std::size_t at_ = 0;
    std::size_t steps_ = 0;
    std::uint32_t hash_ = 0;
  };

  [[nodiscard]] bool create();
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return (current().mask + 1) * sizeof(std::uint64_t);
  }

  [[nodiscard]] probe find(std::uint32_t hash) const noexcept {
    const table& t = current();
    probe p;
    p.slots_ = t.slots.data();
    p.mask_ = t.mask;
    p.at_ = t.home(hash);
    p.hash_ = hash;
    return p;
  }
  // The slots as they are now, for many look-ups of guesses: in a table that has grown meanwhile
  // they find nothing.
  class reader {
   public:
    void prefetch_slot(std::uint32_t hash) const noexcept { prefetch(slots_ + home(hash)); }
    // The first candidate of a hash, or none.
    [[nodiscard]] std::uint32_t first(std::uint32_t hash) const noexcept {
      std::size_t i = home(hash);
      count_lookups();
      for (std::size_t left = mask_ + 1; left > 0; --left) {
        count_entries();
        const std::uint64_t s = slots_[i].load(std::memory_order_relaxed);
        if (static_cast<std::uint32_t>(s >> 32) == hash && s != 0) {
          return ~static_cast<std::uint32_t>(s);
        }
        if (s == 0) break;
        i = (i + 1) & mask_;
      }
      return none;
    }

   private:
    friend class id_table;
    [[nodiscard]] std::size_t home(std::uint32_t hash) const noexcept {
      return static_cast<std::size_t>(std::uint64_t{hash} >> shift_);
    }
    const std::atomic<std::uint64_t>* slots_;
    std::size_t mask_;
    int shift_;
  };
  [[nodiscard]] reader read() const noexcept {
    const table& t = current();
    reader r;
    r.slots_ = t.slots.data();
    r.mask_ = t.mask;
    r.shift_ = t.shift;
    return r;
  }
  void prefetch_slot(std::uint32_t hash) const noexcept {
    const table& t = current();
    prefetch(t.slots.data() + t.home(hash));
  }
  // The same for an erasure, which reads on to the next empty slot: it often lies a line further.
  void prefetch_slots(std::uint32_t hash) const noexcept {
    const table& t = current();
    constexpr std::size_t usual_reach = 5;
    const std::size_t home = t.home(hash);
    prefetch(t.slots.data() + home);
    prefetch(t.slots.data() + ((home + usual_reach) & t.mask));
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
  using slot = std::atomic<std::uint64_t>;  // 0: empty; else hash, and the complement of the id
  struct table {
    stable_array<slot> slots;
    std::size_t mask = 0;
    int shift = 0;  // the home slot is given by the hash's upper bits
    [[nodiscard]] std::size_t home(std::uint32_t hash) const noexcept {
      return static_cast<std::size_t>(std::uint64_t{hash} >> shift);
    }
  };
  static std::uint64_t pack(std::uint32_t hash, std::uint32_t id) noexcept {
    return std::uint64_t{hash} << 32 | static_cast<std::uint32_t>(~id);
  }
  [[nodiscard]] const table& current() const noexcept {
    return *current_.load(std::memory_order_acquire);
  }
  [[nodiscard]] std::size_t index_of(std::uint32_t hash, std::uint32_t id) const noexcept;
  [[nodiscard]] bool grow(int log2_slots);
  static void place(table& t, std::uint64_t packed) noexcept;

  std::atomic<table*> current_{nullptr};
  version version_;
  std::size_t size_ = 0;
  std::vector<std::unique_ptr<table>> tables_;  // the last one is current
};

}  // namespace radixkv::detail
