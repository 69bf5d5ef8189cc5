// Exact least-recently-used eviction over a prefix tree, O(1) per request and per victim.
//
// A request touches its deepest node only: a parent that becomes a leaf inherits its child's
// recency where that is newer, which gives the same order as touching the whole path (every node
// above was used whenever the child was). 8 bytes per node, and 4 to 16 where it is queued.
//
// Nodes arrive in order of recency but for two kinds: the parent of the oldest leaf goes to the
// front of the queue, and the few that belong in between (what was pinned when its turn came and
// was then let go without a request, parents of leaves that went before their turn) to the heap
// that the queue has beside it (node_queue.h).
//
// Invariants
// 1. tick(n) is that of the last request that ended at n, or at a descendant that has gone since.
// 2. Every evictable leaf is in the queue, unless there was no memory for it: then lost_ is set,
//    and it is found by looking at all nodes. Other nodes may be there.
// 3. A node's tick changes only while it is not in the queue.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "csrc/core/eviction/node_array.h"
#include "csrc/core/eviction/node_queue.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::detail {

// What an lru_policy knows of a node.
struct lru_state {
  std::uint32_t tick : 31 = 0;
  std::uint32_t alive : 1 = 0;
  node_queue::place at = node_queue::nowhere;
};

class lru_policy final : public eviction_policy {
 public:
  static constexpr std::uint32_t max_tick = (1u << 31) - 1;
  // States of nodes, of which several policies have some each: a part's nodes are those of which
  // `parts` says so. Whoever gives them makes room in both, and attaches them.
  struct shared_states {
    node_array<lru_state>* states;
    const node_array<node_id>* parts;
    node_id part;
  };

  // Ticks are renumbered when they reach tick_limit; fewer than max_tick only in tests.
  explicit lru_policy(std::uint32_t tick_limit = max_tick) : tick_limit_(tick_limit) {}
  explicit lru_policy(shared_states shared) : shared_(shared), states_(*shared.states) {}
  lru_policy(const lru_policy&) = delete;
  lru_policy& operator=(const lru_policy&) = delete;

  [[nodiscard]] std::string_view name() const noexcept override { return "lru"; }
  void attach(const tree_view& tree, std::int64_t capacity_blocks) override;
  // Nodes that are there already, as if they had been used in this order. REQUIRES: room for them.
  void begin_with(std::span<const node_id> by_use) noexcept;
  [[nodiscard]] bool make_room(node_id limit) noexcept override;
  void on_insert(node_id n) override;
  void on_extend(node_id n, std::uint32_t blocks) override;
  void on_split(node_id upper, node_id lower) override;
  void on_trim(node_id n, std::uint32_t blocks) override;
  void on_remove(node_id n, bool evicted) override;
  void on_pin(node_id n) override;
  void on_hold(node_id n) override { unqueue(state(n)); }
  void on_unpin(node_id n) override;
  void on_request(const request_info& request) override;
  [[nodiscard]] victim next_victim() override;
  [[nodiscard]] std::size_t upcoming(std::size_t skip,
                                     std::span<node_id> out) const noexcept override;
  void prefetch(node_id n) const noexcept override { __builtin_prefetch(&states_[n], 1); }
  [[nodiscard]] std::size_t bytes() const noexcept override;
  [[nodiscard]] std::string check() const override;

 private:
  using place = node_queue::place;
  static constexpr place nowhere = node_queue::nowhere;
  using node_state = lru_state;

  [[nodiscard]] node_state& state(node_id n) { return states_[n]; }
  [[nodiscard]] auto tick_of() const noexcept {
    return [this](node_id n) { return std::uint32_t{states_[n].tick}; };
  }
  // What the queue calls for nodes that have to move in it.
  [[nodiscard]] auto moves() noexcept {
    return [this](node_id n, place p) { states_[n].at = p; };
  }
  void enqueue(node_id n);
  void unqueue(node_state& s);
  std::uint32_t next_tick();
  void renumber();
  [[nodiscard]] node_id find_lost();

  [[nodiscard]] bool is_mine(node_id n) const {
    return shared_.states == nullptr || (*shared_.parts)[n] == shared_.part;
  }

  const tree_view* tree_ = nullptr;
  shared_states shared_{};
  node_array<node_state> own_;
  node_array<node_state>& states_ = own_;  // by node id
  node_queue queue_;
  bool lost_ = false;
  std::uint32_t tick_ = 0;
  std::uint32_t tick_limit_ = max_tick;
};

}  // namespace radixkv::detail
