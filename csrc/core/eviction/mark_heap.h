// An indexed binary heap of mark ids, the smallest (key, order) first.
//
// Room is made when a mark is made, so that marks come and go in the middle of a change of the tree
// without an allocation.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace radixkv::detail {

class mark_heap {
 public:
  // Afterwards put() allocates nothing for indices below n. May throw std::bad_alloc.
  void reserve(std::size_t n) {
    if (entries_.capacity() < n) entries_.reserve(std::max(n, 2 * entries_.capacity()));
    if (places_.size() < n) places_.resize(n, nowhere);
  }
  [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
  // REQUIRES: !empty().
  [[nodiscard]] std::uint32_t top() const noexcept { return entries_[0].index; }
  [[nodiscard]] double top_key() const noexcept { return entries_[0].key; }
  [[nodiscard]] bool contains(std::uint32_t index) const noexcept {
    return places_[index] != nowhere;
  }

  // Adds it, or changes its key.
  void put(std::uint32_t index, double key, std::uint64_t order) noexcept {
    if (places_[index] == nowhere) {
      places_[index] = static_cast<std::uint32_t>(entries_.size());
      entries_.push_back({});
    }
    move({key, order, index}, places_[index]);
  }
  void remove(std::uint32_t index) noexcept {
    const std::uint32_t at = places_[index];
    if (at == nowhere) return;
    places_[index] = nowhere;
    const entry last = entries_.back();
    entries_.pop_back();
    if (last.index != index) move(last, at);
  }
  // Calls visit(index) for all, in no order.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (const entry& e : entries_) visit(e.index);
  }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return entries_.capacity() * sizeof(entry) + places_.capacity() * sizeof(std::uint32_t);
  }
  [[nodiscard]] bool sound() const noexcept {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (places_[entries_[i].index] != i) return false;
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
    places_[e.index] = static_cast<std::uint32_t>(at);
  }
  // Finds e's place, beginning at a hole.
  void move(entry e, std::size_t at) noexcept {
    for (; at > 0 && e.before(entries_[(at - 1) / 2]); at = (at - 1) / 2) {
      set(entries_[(at - 1) / 2], at);
    }
    for (;;) {
      std::size_t least = 2 * at + 1;
      if (least >= entries_.size()) break;
      if (least + 1 < entries_.size() && entries_[least + 1].before(entries_[least])) ++least;
      if (!entries_[least].before(e)) break;
      set(entries_[least], at);
      at = least;
    }
    set(e, at);
  }

  std::vector<entry> entries_;
  std::vector<std::uint32_t> places_;  // by index
};

}  // namespace radixkv::detail
