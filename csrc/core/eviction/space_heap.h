// Marks that could give way below one root, the first to do so on top: a leftist heap (Knuth, "The
// Art of Computer Programming" 3, 5.2.3, after Crane), linked through the marks, so that none
// allocates when it joins or leaves in the middle of a change of the tree. Both take the logarithm
// of the number of marks.
//
// Invariants
// 1. No mark gives way before the one above it. So a mark leaves before its rank or order changes,
//    unless it leaves at once and no other's has changed.
// 2. The way to a lack of a child, `distance`, is on the left at least as long as on the right.
//
// Not thread-safe.
#pragma once

#include <cstdint>
#include <utility>

#include "csrc/core/eviction/mark_table.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

class space_heap {
 public:
  // `top`: of the heap, no_index if it is empty.
  space_heap(mark_table& marks, std::uint32_t& top) noexcept : marks_(marks), top_(top) {}

  // REQUIRES: i is in no heap.
  void insert(std::uint32_t i) noexcept {
    marks_[i].heap = {};
    top_ = merge(top_, i);
    at(top_).above = no_index;
  }
  // REQUIRES: i is in this heap.
  void erase(std::uint32_t i) noexcept {
    const mark::heap_links gone = at(i);
    const std::uint32_t below = merge(gone.left, gone.right);
    if (below != no_index) at(below).above = gone.above;
    at(i) = {};
    if (gone.above == no_index) {
      top_ = below;
      return;
    }
    mark::heap_links& up = at(gone.above);
    (up.left == i ? up.left : up.right) = below;
    // As far as distances change, which grow on the way up.
    for (std::uint32_t p = gone.above; p != no_index && settle(p); p = at(p).above) {
    }
  }
  // Whether i stands right in the heap with that top. For checks.
  [[nodiscard]] static bool sound(const mark_table& marks, std::uint32_t top,
                                  std::uint32_t i) noexcept {
    const mark::heap_links& h = marks[i].heap;
    for (const std::uint32_t child : {h.left, h.right}) {
      if (child == no_index) continue;
      if (marks[child].heap.above != i || marks[child].is_before(marks[i])) return false;
    }
    const auto distance = [&](std::uint32_t j) {
      return j == no_index ? 0 : marks[j].heap.distance;
    };
    if (distance(h.left) < distance(h.right) || h.distance != distance(h.right) + 1) return false;
    if (h.above == no_index) return top == i;
    return marks[h.above].heap.left == i || marks[h.above].heap.right == i;
  }

 private:
  [[nodiscard]] mark::heap_links& at(std::uint32_t i) const noexcept { return marks_[i].heap; }
  [[nodiscard]] std::uint32_t distance(std::uint32_t i) const noexcept {
    return i == no_index ? 0 : at(i).distance;
  }
  // Puts i's children in their order. Whether its distance has changed.
  bool settle(std::uint32_t i) noexcept {
    count_marks();
    mark::heap_links& h = at(i);
    if (distance(h.left) < distance(h.right)) std::swap(h.left, h.right);
    const std::uint32_t before = h.distance;
    h.distance = distance(h.right) + 1;
    return before != h.distance;
  }
  // As deep as the right sides are long.
  [[nodiscard]] std::uint32_t merge(std::uint32_t i, std::uint32_t j) noexcept {
    if (i == no_index || j == no_index) return i == no_index ? j : i;
    if (marks_[j].is_before(marks_[i])) std::swap(i, j);
    const std::uint32_t right = merge(at(i).right, j);
    at(i).right = right;
    at(right).above = i;
    settle(i);
    return i;
  }

  mark_table& marks_;
  std::uint32_t& top_;
};

}  // namespace radixkv::detail
