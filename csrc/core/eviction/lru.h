// Exact least-recently-used eviction over a prefix tree, O(1) per request and per victim.
//
// A request touches its deepest node only: a parent that becomes a leaf inherits its child's
// recency where that is newer, which gives the same order as touching the whole path (every node
// above was used whenever the child was). 4 bytes per node and 8 per queue entry.
//
// Invariants
// 1. tick(n) is that of the last request that ended at n, or at a descendant that has gone since.
// 2. Every evictable leaf has a queue entry with its tick (`queued`), unless there was no memory
// for
//    it: then `lost_` is set, and it is found by looking at all nodes. Other nodes may have one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "csrc/core/eviction/node_queue.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::detail {

class lru_policy final : public eviction_policy {
 public:
  static constexpr std::uint32_t max_tick = (1u << 30) - 1;
  // Ticks are renumbered when they reach tick_limit; fewer than max_tick only in tests.
  explicit lru_policy(std::uint32_t tick_limit = max_tick) : tick_limit_(tick_limit) {}

  [[nodiscard]] std::string_view name() const noexcept override { return "lru"; }
  void attach(const tree_view& tree, std::int64_t capacity_blocks) override;
  [[nodiscard]] bool make_room(node_id limit) noexcept override;
  void on_insert(node_id n) override;
  void on_extend(node_id n, std::uint32_t blocks) override;
  void on_split(node_id upper, node_id lower) override;
  void on_trim(node_id n, std::uint32_t blocks) override;
  void on_remove(node_id n, bool evicted) override;
  void on_pin(node_id n) override;
  void on_unpin(node_id n) override;
  void on_request(const request_info& request) override;
  [[nodiscard]] victim next_victim() override;
  [[nodiscard]] std::size_t bytes() const noexcept override;
  [[nodiscard]] std::string check() const override;

 private:
  struct node_state {
    std::uint32_t tick : 30 = 0;
    std::uint32_t queued : 1 = 0;
    std::uint32_t alive : 1 = 0;
  };

  [[nodiscard]] node_state& state(node_id n) { return states_[n]; }
  [[nodiscard]] bool valid(node_queue::entry e) const {
    const node_state& s = states_[e.node];
    return s.queued && s.tick == e.tick;
  }
  void enqueue(node_id n);
  void unqueue(node_state& s);
  void compact();
  std::uint32_t next_tick();
  void renumber();
  [[nodiscard]] node_id find_lost();

  const tree_view* tree_ = nullptr;
  std::vector<node_state> states_;  // by node id
  node_queue queue_;
  std::size_t live_ = 0;  // nodes with `queued`
  bool lost_ = false;
  std::uint32_t tick_ = 0;
  std::uint32_t tick_limit_;
};

}  // namespace radixkv::detail
