// A binary heap of nodes from which any one can be taken out: it tells where each of them lies.
//
// Every operation takes the logarithm of the number of nodes, and nothing stale is ever left.
// Not thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>

#include "csrc/core/eviction/chunk_array.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::detail {

// Entry: has a `node`, and is_before(other).
template <typename Entry>
class node_heap {
 public:
  void clear() noexcept {
    entries_ = {};
    size_ = 0;
  }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  // REQUIRES: !empty().
  [[nodiscard]] const Entry& front() const noexcept { return entries_[0]; }

  // Calls moved(node, position) for the new one and all that others have to move for. False, with
  // nothing changed, if there is no memory.
  template <typename Moved>
  [[nodiscard]] bool insert(const Entry& e, Moved&& moved) noexcept {
    try {
      entries_.grow_to(size_ + 1);
    } catch (const std::bad_alloc&) {
      return false;
    }
    settle(e, size_++, moved);
    return true;
  }
  template <typename Moved>
  void erase(std::size_t position, Moved&& moved) noexcept {
    const Entry last = entries_[--size_];
    if (position < size_) settle(last, position, moved);
  }
  // What lies there has other keys now.
  template <typename Moved>
  void change(std::size_t position, const Entry& e, Moved&& moved) noexcept {
    settle(e, position, moved);
  }
  [[nodiscard]] std::size_t bytes() const noexcept { return entries_.bytes(); }
  // Whether it is in order, and is_at(entry, position) holds of all.
  template <typename IsAt>
  [[nodiscard]] bool sound(IsAt&& is_at) const {
    for (std::size_t i = 0; i < size_; ++i) {
      if (i > 0 && entries_[i].is_before(entries_[(i - 1) / 2])) return false;
      if (!is_at(entries_[i], i)) return false;
    }
    return true;
  }

 private:
  // Finds e's place, beginning at a hole.
  template <typename Moved>
  void settle(const Entry& e, std::size_t at, Moved&& moved) noexcept {
    const auto set = [&](const Entry& x, std::size_t i) {
      entries_[i] = x;
      moved(x.node, static_cast<std::uint32_t>(i));
    };
    for (; at > 0 && e.is_before(entries_[(at - 1) / 2]); at = (at - 1) / 2) {
      set(entries_[(at - 1) / 2], at);
    }
    for (;;) {
      std::size_t least = 2 * at + 1;
      if (least >= size_) break;
      if (least + 1 < size_ && entries_[least + 1].is_before(entries_[least])) ++least;
      if (!entries_[least].is_before(e)) break;
      set(entries_[least], at);
      at = least;
    }
    set(e, at);
  }

  chunk_array<Entry, 256> entries_;
  std::size_t size_ = 0;
};

}  // namespace radixkv::detail
