// A queue of (node, tick) entries in order of tick, from which victims are taken.
//
// Nothing is ever moved or erased inside the queue: an entry that no longer says the truth about
// its node is stale, and dropped when it is met. Entries mostly arrive in order (a ring buffer
// holds them); the few that belong before ones already queued go to a small heap beside it.
//
// Invariants
// 1. The ring is sorted by tick; the next entry is the smaller of the ring's front and the heap's
// top.
// 2. At most 2 × live + slack entries are kept, where live is what the owner says is not stale.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "radixkv/eviction_policy.h"

namespace radixkv::detail {

class node_queue {
 public:
  struct entry {
    node_id node;
    std::uint32_t tick;
  };

  void clear() {
    ring_ = {};
    early_ = {};
    head_ = size_ = 0;
  }

  // Amortised O(1) when e.tick is at one of the ends, else O(log of the entries out of order).
  // False, with nothing changed, if there is no memory.
  [[nodiscard]] bool insert(entry e) noexcept try {
    if (size_ == 0 || e.tick >= at(size_ - 1).tick) {
      reserve_one();
      at(size_++) = e;
    } else if (e.tick <= at(0).tick) {
      reserve_one();
      head_ = (head_ - 1) & (ring_.size() - 1);
      at(0) = e;
      ++size_;
    } else {
      early_.push_back(e);
      std::push_heap(early_.begin(), early_.end(), later);
    }
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }

  [[nodiscard]] bool empty() const { return size_ == 0 && early_.empty(); }
  [[nodiscard]] std::size_t size() const { return size_ + early_.size(); }

  // The entry of the smallest tick. REQUIRES: !empty().
  [[nodiscard]] entry front() const { return front_is_early() ? early_.front() : at(0); }

  void pop_front() {
    if (front_is_early()) {
      std::pop_heap(early_.begin(), early_.end(), later);
      early_.pop_back();
    } else {
      head_ = (head_ + 1) & (ring_.size() - 1);
      --size_;
    }
  }

  // The i-th entry of the ring, for prefetching; one of no_node beyond its end.
  [[nodiscard]] entry peek(std::size_t i) const { return i < size_ ? at(i) : entry{no_node, 0}; }

  // Drops every stale entry once they may outnumber the `live` ones.
  template <typename Valid>
  void maybe_compact(std::size_t live, Valid&& valid) {
    if (size() > 2 * live + slack) compact(valid);
  }

  // Drops every stale entry, if there is memory for the others.
  template <typename Valid>
  void compact(Valid&& valid) {
    std::size_t live = 0, capacity = 16;
    for_each([&](const entry& e) { live += valid(e); });
    while (capacity < live + live / 2) capacity *= 2;
    std::vector<entry> kept;
    try {
      kept.reserve(capacity);
    } catch (const std::bad_alloc&) {
      return;
    }
    std::sort(early_.begin(), early_.end(),
              [](const entry& a, const entry& b) { return a.tick < b.tick; });
    std::size_t e = 0;
    for (std::size_t i = 0; i < size_; ++i) {
      const entry next = at(i);
      for (; e < early_.size() && early_[e].tick <= next.tick; ++e)
        if (valid(early_[e])) kept.push_back(early_[e]);
      if (valid(next)) kept.push_back(next);
    }
    for (; e < early_.size(); ++e)
      if (valid(early_[e])) kept.push_back(early_[e]);
    clear();
    size_ = kept.size();
    kept.resize(capacity);
    ring_ = std::move(kept);
  }

  // Calls visit(entry) for all entries, those of the ring in order.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (std::size_t i = 0; i < size_; ++i) visit(at(i));
    for (const entry& e : early_) visit(e);
  }

  [[nodiscard]] bool sorted() const {
    for (std::size_t i = 1; i < size_; ++i)
      if (at(i).tick < at(i - 1).tick) return false;
    return std::is_heap(early_.begin(), early_.end(), later);
  }

  [[nodiscard]] std::size_t bytes() const {
    return (ring_.capacity() + early_.capacity()) * sizeof(entry);
  }

  static constexpr std::size_t slack = 64;

 private:
  static bool later(const entry& a, const entry& b) { return a.tick > b.tick; }
  [[nodiscard]] bool front_is_early() const {
    return !early_.empty() && (size_ == 0 || early_.front().tick < at(0).tick);
  }
  [[nodiscard]] entry& at(std::size_t i) { return ring_[(head_ + i) & (ring_.size() - 1)]; }
  [[nodiscard]] const entry& at(std::size_t i) const {
    return ring_[(head_ + i) & (ring_.size() - 1)];
  }
  void reserve_one() {
    if (size_ < ring_.size()) return;
    std::vector<entry> larger(ring_.empty() ? 16 : 2 * ring_.size());
    for (std::size_t i = 0; i < size_; ++i) larger[i] = at(i);
    ring_ = std::move(larger);
    head_ = 0;
  }

  std::vector<entry> ring_;  // size is a power of two, or 0
  std::size_t head_ = 0, size_ = 0;
  std::vector<entry> early_;  // min-heap by tick
};

}  // namespace radixkv::detail
