// An indexed binary heap of mark ids, the smallest (key, order) first.
//
// Room is made when a mark is made, so that marks come and go in the middle of a change of the tree
// without an allocation.
#pragma once

#include <cstddef>
#include <cstdint>

#include "csrc/core/eviction/chunk_array.h"

namespace radixkv::detail {

class mark_heap {
 public:
  // Afterwards put() allocates nothing for indices below n. May throw std::bad_alloc.
  void reserve(std::size_t n) {
    entries_.grow_to(n);
    places_.grow_to(n);
  }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  // REQUIRES: !empty().
  [[nodiscard]] std::uint32_t top() const noexcept { return entries_[0].index; }
  [[nodiscard]] double top_key() const noexcept { return entries_[0].key; }
  [[nodiscard]] bool contains(std::uint32_t index) const noexcept {
    return places_[index].at != nowhere;
  }

  // Adds it, or changes its key.
  void put(std::uint32_t index, double key, std::uint64_t order) noexcept {
    if (places_[index].at == nowhere) places_[index].at = static_cast<std::uint32_t>(size_++);
    move({key, order, index}, places_[index].at);
  }
  void remove(std::uint32_t index) noexcept {
    const std::uint32_t at = places_[index].at;
    if (at == nowhere) return;
    places_[index].at = nowhere;
    const entry last = entries_[--size_];
    if (last.index != index) move(last, at);
  }
  // Calls visit(index) for all, in no order.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (std::size_t i = 0; i < size_; ++i) visit(entries_[i].index);
  }
  [[nodiscard]] std::size_t bytes() const noexcept { return entries_.bytes() + places_.bytes(); }
  [[nodiscard]] bool sound() const noexcept {
    for (std::size_t i = 0; i < size_; ++i) {
      if (places_[entries_[i].index].at != i) return false;
      if (i > 0 && entries_[i].before(entries_[(i - 1) / 2])) return false;
    }
    return true;
  }

 private:
  static constexpr std::uint32_t nowhere = 0xffffffffu;
  struct entry {
    double key;
    std::uint64_t order;
    std::uint32_t index;
    [[nodiscard]] bool before(const entry& o) const noexcept {
      return key != o.key ? key < o.key : order < o.order;
    }
  };
  void set(entry e, std::size_t at) noexcept {
    entries_[at] = e;
    places_[e.index].at = static_cast<std::uint32_t>(at);
  }
  // Finds e's place, beginning at a hole.
  void move(entry e, std::size_t at) noexcept {
    for (; at > 0 && e.before(entries_[(at - 1) / 2]); at = (at - 1) / 2) {
      set(entries_[(at - 1) / 2], at);
    }
    for (;;) {
      std::size_t least = 2 * at + 1;
      if (least >= size_) break;
      if (least + 1 < size_ && entries_[least + 1].before(entries_[least])) ++least;
      if (!entries_[least].before(e)) break;
      set(entries_[least], at);
      at = least;
    }
    set(e, at);
  }

  struct place {
    std::uint32_t at = nowhere;
  };
  chunk_array<entry, 128> entries_;
  std::size_t size_ = 0;
  chunk_array<place, 128> places_;  // by index
};

}  // namespace radixkv::detail
