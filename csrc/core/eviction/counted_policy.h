// What the classic policies share: nodes with a tick and a count of uses, kept in O(1) per request.
//
// Only leaves can go, so a node's count and recency matter only once it has no children: a request
// updates its deepest node alone, and a node that goes folds its count (and recency) into its
// parent. By the time a node is a leaf they are those of every request that passed through it.
//
// Invariants
// 1. uses(n) + those of its living descendants = requests that passed through n since it was
//    cached.
// 2. Every evictable leaf is in one of the derived policy's queues, unless there was no memory for
//    that: then `lost_` is set, and it is found by looking at all nodes. Other nodes may be there.
// 3. What a node's queue is chosen and ordered by changes only while the node is in none, or with
//    its place.
#pragma once

#include <cstdint>
#include <string>

#include "csrc/core/eviction/node_array.h"
#include "csrc/core/eviction/node_queue.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::detail {

class counted_policy : public eviction_policy {
 public:
  void attach(const tree_view& tree, std::int64_t capacity_blocks) override;
  [[nodiscard]] bool make_room(node_id limit) noexcept override;
  void on_insert(node_id n) override;
  void on_extend(node_id n, std::uint32_t blocks) override;
  void on_split(node_id upper, node_id lower) override;
  void on_trim(node_id n, std::uint32_t blocks) override;
  void on_remove(node_id n, bool evicted) override;
  void on_pin(node_id) override {}
  void on_hold(node_id n) override { unqueue(n); }
  void on_unpin(node_id n) override;
  void prefetch(node_id n) const noexcept override { __builtin_prefetch(&states_[n], 1); }
  [[nodiscard]] std::size_t bytes() const noexcept override;
  [[nodiscard]] std::string check() const override;

 protected:
  static constexpr std::uint32_t max_uses = (1u << 28) - 1;
  using place = node_queue::place;
  static constexpr place nowhere = node_queue::nowhere;
  struct node_state {
    std::uint32_t tick = 0;
    std::uint32_t uses : 28 = 0;
    std::uint32_t segment : 2 = 0;  // which queue, as the derived policy numbers them
    std::uint32_t alive : 1 = 0;
    place at = nowhere;  // in that queue
  };

  // Whether a parent takes over the tick of a child that went, if newer (recency, not arrival).
  explicit counted_policy(bool inherit_tick, std::uint32_t tick_limit)
      : inherit_tick_(inherit_tick), tick_limit_(tick_limit) {}

  // Adds n to the queue that its state tells. Its place there; nowhere if there is no memory.
  [[nodiscard]] virtual place put(node_id n) noexcept = 0;
  // Takes n out of it.
  virtual void take(node_id n) noexcept = 0;
  virtual void clear_queues() = 0;
  [[nodiscard]] virtual std::size_t queue_bytes() const = 0;
  // Empty if the queues are in order, and nodes know their places.
  [[nodiscard]] virtual std::string check_queues() const = 0;
  // The upper part of a split gets a copy of what the lower one has, without its uses.
  virtual void split_state(node_id, node_id) {}
  virtual void gone(node_id, bool) {}

  [[nodiscard]] node_state& state(node_id n) { return states_[n]; }
  [[nodiscard]] const node_state& state(node_id n) const { return states_[n]; }
  // What a queue calls for nodes that have to move in it.
  [[nodiscard]] auto moves() noexcept {
    return [this](node_id n, place p) { states_[n].at = p; };
  }
  [[nodiscard]] auto tick_of() const noexcept {
    return [this](node_id n) { return states_[n].tick; };
  }
  [[nodiscard]] place put_in(node_queue& q, node_id n) noexcept {
    return q.insert(n, states_[n].tick, tick_of(), moves());
  }
  void take_from(node_queue& q, node_id n) noexcept { q.erase(states_[n].at, moves()); }
  [[nodiscard]] std::string check(const node_queue& q) const {
    return q.check(tick_of(), [this](node_id n, place p) { return states_[n].at == p; });
  }
  void enqueue(node_id n);
  void unqueue(node_id n);
  // Larger than any node's.
  [[nodiscard]] std::uint32_t fresh_tick();
  // A new, largest tick for n, which leaves any queue.
  void touch(node_id n);
  void add_uses(node_id n, std::uint32_t uses);
  // Queues leaves of the segment that there was no memory to queue. Returns one for which there
  // still is none.
  [[nodiscard]] node_id find_lost(std::uint32_t segment);
  // The first of q, the segment's queue, that is evictable; drops those before it.
  [[nodiscard]] node_id first_evictable(node_queue& q, std::uint32_t segment);
  [[nodiscard]] victim whole(node_id n) const {
    return {n, tree_->blocks(n) - tree_->pinned_blocks(n)};
  }

  const tree_view* tree_ = nullptr;
  std::int64_t capacity_blocks_ = 0;
  std::size_t live_ = 0;  // nodes in queues
  bool lost_ = false;

 private:
  void renumber();

  node_array<node_state> states_;
  bool inherit_tick_;
  std::uint32_t tick_ = 0, tick_limit_;
};

}  // namespace radixkv::detail
