// A queue whose elements are known by their position, counted from the first ever pushed.
//
// Grows by a quarter: doubling would leave half of a history's bytes empty. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "csrc/core/eviction/mapped_array.h"

namespace radixkv::detail {

template <typename T>
class position_ring {
 public:
  [[nodiscard]] std::uint64_t begin() const { return begin_; }
  [[nodiscard]] std::uint64_t end() const { return end_; }
  [[nodiscard]] std::size_t size() const { return end_ - begin_; }
  // There is room for n more.
  [[nodiscard]] bool has_room(std::size_t n) const { return size() + n <= ring_.capacity(); }
  // REQUIRES: begin ≤ position < end.
  [[nodiscard]] T& operator[](std::uint64_t position) {
    const std::uint64_t i = position - base_;
    return ring_[i < ring_.capacity() ? i : i - ring_.capacity()];
  }
  [[nodiscard]] const T& operator[](std::uint64_t position) const {
    const std::uint64_t i = position - base_;
    return ring_[i < ring_.capacity() ? i : i - ring_.capacity()];
  }
  // Hint; a position that is not there does no harm.
  void prefetch(std::uint64_t position) const {
    std::uint64_t i = position - base_;
    if (i >= ring_.capacity()) i -= ring_.capacity();
    if (i < ring_.capacity()) __builtin_prefetch(&ring_[i]);
  }
  // Those from `position` on, up to the last or the ring's end, whichever comes first.
  // REQUIRES: begin ≤ position ≤ end.
  [[nodiscard]] std::span<T> stretch(std::uint64_t position) {
    if (position == end_) return {};
    const std::uint64_t i = position - base_,
                        wrapped = i < ring_.capacity() ? i : i - ring_.capacity();
    return {ring_.data() + wrapped, std::min(end_ - position, ring_.capacity() - wrapped)};
  }
  // Makes room for n more, with at most `allowance` bytes beyond those there are; false, with
  // nothing changed, if that is too little or there is no memory.
  [[nodiscard]] bool reserve(std::size_t n, std::size_t allowance = SIZE_MAX / 2) noexcept {
    if (has_room(n)) return true;
    const std::size_t before = ring_.capacity(), most = before + allowance / sizeof(T);
    if (size() + n > most) return false;
    if (!ring_.reserve(std::min(size() + n + size() / 4 + 64, most))) return false;
    if (end_ - base_ > before) open_up(before);
    return true;
  }
  // Returns its position. REQUIRES: room.
  std::uint64_t push(T element) {
    ++end_;
    (*this)[end_ - 1] = std::move(element);
    return end_ - 1;
  }
  // REQUIRES: begin ≤ position ≤ end.
  void drop_before(std::uint64_t position) {
    begin_ = position;
    if (begin_ - base_ >= ring_.capacity()) base_ += ring_.capacity();
  }
  [[nodiscard]] std::size_t bytes() const { return ring_.capacity() * sizeof(T); }
  // Bytes in use, with what growth keeps in reserve.
  [[nodiscard]] std::size_t used_bytes() const { return (size() + size() / 4 + 64) * sizeof(T); }

 private:
  // The ring was full up to its end, `before`, and went on at its begin: what lies shorter of the
  // two moves to where the ring now ends, or goes on.
  void open_up(std::size_t before) noexcept {
    T* const ring = ring_.data();
    const std::size_t more = ring_.capacity() - before;
    const std::size_t first = begin_ - base_, wrapped = end_ - base_ - before;
    if (wrapped <= std::min(more, before - first)) {
      std::copy(ring, ring + wrapped, ring + before);
    } else {
      std::copy_backward(ring + first, ring + before, ring + ring_.capacity());
      base_ -= more;
    }
  }

  mapped_array<T> ring_;
  std::uint64_t begin_ = 0, end_ = 0;
  // The position that lies in ring_[0], modulo 2^64: 0 ≤ begin_ − base_ < capacity.
  std::uint64_t base_ = 0;
};

}  // namespace radixkv::detail
