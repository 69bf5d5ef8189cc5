// Nodes in order of tick, from which any one can be taken out.
//
// Those that arrive in order, at either end, lie in a recency_queue, which takes O(1); the few that
// belong in between in a heap beside it. Nothing stale is left in either, so that no call has to
// clear up after others. The owner keeps each node's tick, which must not change while it is here,
// and its place.
//
// Invariant: the recency_queue is sorted by tick; the next node is that of the smaller tick of its
// front and the heap's.
//
// Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "csrc/core/eviction/node_heap.h"
#include "csrc/core/eviction/recency_queue.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::detail {

class node_queue {
 public:
  using place = recency_queue::place;
  static constexpr place nowhere = recency_queue::nowhere;

  void clear() noexcept {
    queue_.clear();
    early_.clear();
  }
  [[nodiscard]] bool empty() const noexcept { return queue_.empty() && early_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return queue_.size() + early_.size(); }

  // tick_of(node) is that of one that is here; moved(node, place) is called for others that had to
  // move. Where n is now; nowhere, with nothing changed, if there is no memory.
  template <typename Tick, typename Moved>
  [[nodiscard]] place insert(node_id n, std::uint32_t tick, Tick&& tick_of,
                             Moved&& moved) noexcept {
    if (queue_.empty() || tick >= tick_of(queue_.back())) return queue_.push_back(n);
    if (tick <= tick_of(queue_.front())) return queue_.push_front(n);
    place p = nowhere;
    (void)early_.insert({tick, n}, [&](node_id m, std::uint32_t at) {
      if (m == n) {
        p = at | early_bit;
      } else {
        moved(m, at | early_bit);
      }
    });
    return p;
  }
  // REQUIRES: p is a node's place here.
  template <typename Moved>
  void erase(place p, Moved&& moved) noexcept {
    if ((p & early_bit) == 0) return queue_.erase(p, moved);
    early_.erase(p & ~early_bit, [&](node_id m, std::uint32_t at) { moved(m, at | early_bit); });
  }
  // The node of the smallest tick. REQUIRES: !empty().
  template <typename Tick>
  [[nodiscard]] node_id front(Tick&& tick_of) const noexcept {
    if (early_.empty()) return queue_.front();
    if (queue_.empty() || early_.front().tick < tick_of(queue_.front())) return early_.front().node;
    return queue_.front();
  }
  // The nodes behind the first `skip` ones, as far as they lie in order; gives their number.
  [[nodiscard]] std::size_t copy(std::size_t skip, std::span<node_id> out) const noexcept {
    return queue_.copy(skip, out);
  }
  [[nodiscard]] std::size_t bytes() const noexcept { return queue_.bytes() + early_.bytes(); }

  // Empty if the invariant holds, and is_at(node, place) of all.
  template <typename Tick, typename IsAt>
  [[nodiscard]] std::string check(Tick&& tick_of, IsAt&& is_at) const {
    std::string wrong = queue_.check();
    std::uint32_t last = 0;
    queue_.for_each([&](node_id n, place p) {
      if (!is_at(n, p)) wrong = "node " + std::to_string(n) + " does not know its place";
      if (tick_of(n) < last) wrong = "node " + std::to_string(n) + " is out of order";
      last = tick_of(n);
      return wrong.empty();
    });
    if (!wrong.empty()) return wrong;
    const bool sound = early_.sound([&](const entry& e, std::size_t i) {
      return e.tick == tick_of(e.node) && is_at(e.node, static_cast<place>(i) | early_bit);
    });
    return sound ? "" : "the heap is out of order";
  }

 private:
  static constexpr place early_bit = recency_queue::most_places;
  struct entry {
    std::uint32_t tick;
    node_id node;
    [[nodiscard]] bool is_before(const entry& o) const noexcept { return tick < o.tick; }
  };

  recency_queue queue_;
  node_heap<entry> early_;
};

}  // namespace radixkv::detail
