// A queue whose elements are known by their position, counted from the first ever pushed.
//
// Grows by a quarter: doubling would leave half of a history's bytes empty. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <utility>
#include <vector>

namespace radixkv::detail {

template <typename T>
class position_ring {
 public:
  [[nodiscard]] std::uint64_t begin() const { return begin_; }
  [[nodiscard]] std::uint64_t end() const { return end_; }
  [[nodiscard]] std::size_t size() const { return end_ - begin_; }
  // There is room for n more.
  [[nodiscard]] bool has_room(std::size_t n) const { return size() + n <= ring_.size(); }
  // REQUIRES: begin ≤ position < end.
  [[nodiscard]] T& operator[](std::uint64_t position) {
    const std::uint64_t i = position - base_;
    return ring_[i < ring_.size() ? i : i - ring_.size()];
  }
  [[nodiscard]] const T& operator[](std::uint64_t position) const {
    const std::uint64_t i = position - base_;
    return ring_[i < ring_.size() ? i : i - ring_.size()];
  }
  // Hint; a position that is not there does no harm.
  void prefetch(std::uint64_t position) const {
    std::uint64_t i = position - base_;
    if (i >= ring_.size()) i -= ring_.size();
    if (i < ring_.size()) __builtin_prefetch(&ring_[i]);
  }
  // Those from `position` on, up to the last or the ring's end, whichever comes first.
  // REQUIRES: begin ≤ position ≤ end.
  [[nodiscard]] std::span<T> stretch(std::uint64_t position) {
    if (position == end_) return {};
    const std::uint64_t i = position - base_, wrapped = i < ring_.size() ? i : i - ring_.size();
    return std::span(ring_).subspan(wrapped, std::min(end_ - position, ring_.size() - wrapped));
  }
  // Makes room for n more, with at most `allowance` bytes beyond those there are; false, with
  // nothing changed, if that is too little or there is no memory.
  [[nodiscard]] bool reserve(std::size_t n, std::size_t allowance = SIZE_MAX / 2) noexcept {
    if (has_room(n)) return true;
    const std::size_t most = ring_.size() + allowance / sizeof(T);
    if (size() + n > most) return false;
    try {
      std::vector<T> larger(std::min(size() + n + size() / 4 + 64, most));
      for (std::uint64_t i = begin_; i != end_; ++i) larger[i - begin_] = (*this)[i];
      ring_.swap(larger);
    } catch (const std::bad_alloc&) {
      return false;
    }
    base_ = begin_;
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
    if (begin_ - base_ >= ring_.size()) base_ += ring_.size();
  }
  [[nodiscard]] std::size_t bytes() const { return ring_.capacity() * sizeof(T); }
  // Bytes in use, with what growth keeps in reserve.
  [[nodiscard]] std::size_t used_bytes() const { return (size() + size() / 4 + 64) * sizeof(T); }

 private:
  std::vector<T> ring_;
  std::uint64_t begin_ = 0, end_ = 0;
  std::uint64_t base_ = 0;  // the position that lies in ring_[0]: begin_ − size < base_ ≤ begin_
};

}  // namespace radixkv::detail
