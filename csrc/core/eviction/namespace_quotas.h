// How many blocks a namespace may take, and which of its own go when it wants more.
//
// A namespace with a quota has a recency order of its own beside the policy's, which begins with
// the order in which what it holds was last used. What it takes is what the index holds below its
// root, and what its sequences have allocated and not yet published.
//
// Thread-safety: as eviction_policy, under the cache's lock. Events as there.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "csrc/core/eviction/last_uses.h"
#include "csrc/core/eviction/lru.h"
#include "csrc/core/eviction/node_array.h"
#include "csrc/core/parted_map.h"
#include "csrc/core/room_bounds.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::detail {

class namespace_quotas {
 public:
  // `view` says what may be evicted.
  void attach(const tree_view& view, std::int64_t capacity_blocks);
  [[nodiscard]] bool empty() const noexcept { return quotas_.empty(); }

  // At most so many blocks below a root. `nodes`: all that there are below it; their number is what
  // it costs the first time. May throw std::bad_alloc, changing nothing.
  void set(node_id root, std::int64_t blocks, std::span<const node_id> nodes);
  void drop(node_id root) noexcept;

  [[nodiscard]] bool has(node_id root) const { return quotas_.find(root) != nullptr; }
  [[nodiscard]] std::int64_t limit(node_id root) const { return known(root).limit; }
  // Held by the index, and by sequences alone. REQUIRES: has(root).
  [[nodiscard]] std::int64_t cached(node_id root) const { return known(root).blocks; }
  [[nodiscard]] std::int64_t taken(node_id root) const {
    const quota& q = known(root);
    return q.blocks + q.counts.outside;
  }
  // What its sequences take beside the index, and what keeps its own from being evicted, counted
  // from what changes. Ignored without quota.
  void count(node_id root, const room_counts& change) noexcept {
    if (const auto* const found = quotas_.find(root)) found->second->counts += change;
  }
  // REQUIRES: has(root).
  [[nodiscard]] const room_counts& counts(node_id root) const { return known(root).counts; }
  [[nodiscard]] room_walked& walked(node_id root) const { return known(root).walked; }
  // The first mark to give way of those below root that could (retention). REQUIRES: has(root).
  [[nodiscard]] std::uint32_t& first_hold(node_id root) { return known(root).first_hold; }
  [[nodiscard]] std::uint32_t first_hold(node_id root) const { return known(root).first_hold; }
  // Root of n if it has a quota, else no_node.
  [[nodiscard]] node_id root_of(node_id n) const noexcept {
    return n < roots_.size() ? roots_[n] : no_node;
  }
  // The least recently used tail below root that the view lets go. REQUIRES: has(root).
  [[nodiscard]] victim next_victim(node_id root) {
    return in_order(known(root), [](lru_policy& order) { return order.next_victim(); });
  }

  // The events that every node has, with quotas or without: its last use is kept for those to come.
  [[nodiscard]] bool make_room(node_id limit) noexcept;
  void on_insert(node_id n);
  void on_extend(node_id n, std::uint32_t blocks);
  void on_split(node_id upper, node_id lower);
  void on_trim(node_id n, std::uint32_t blocks);
  void on_remove(node_id n, node_id parent, bool evicted) {
    uses_.on_remove(n, parent);
    if (!quotas_.empty()) remove_from_quota(n, evicted);
  }
  void on_pin(node_id n);
  void on_hold(node_id n);
  void on_unpin(node_id n);
  void on_request(const request_info& request);

  void prefetch(node_id n) const noexcept { uses_.prefetch(n); }
  [[nodiscard]] std::size_t bytes() const noexcept;
  [[nodiscard]] std::string check() const;

 private:
  struct quota {
    std::int64_t limit = 0;
    std::int64_t blocks = 0;
    std::uint32_t first_hold = 0xffffffffu;
    room_counts counts;
    room_walked walked;
    lru_policy order;
    explicit quota(lru_policy::shared_states states) : order(states) {}
  };
  // Asks something of a quota's order, whose memory may change with it.
  template <typename Ask>
  std::invoke_result_t<Ask&, lru_policy&> in_order(quota& q, Ask&& ask) {
    struct counted {
      std::size_t& sum;
      const lru_policy& order;
      counted(std::size_t& s, const lru_policy& o) : sum(s), order(o) { sum -= order.bytes(); }
      ~counted() { sum += order.bytes(); }
    } const counts(order_bytes_, q.order);
    return ask(q.order);
  }
  template <typename Event>
  void tell(node_id n, Event&& event) {
    if (quota* const q = of(n)) in_order(*q, event);
  }
  [[nodiscard]] std::vector<node_id> in_order_of_use(std::span<const node_id> nodes) const;
  void remove_from_quota(node_id n, bool evicted);
  [[nodiscard]] quota& known(node_id root) const { return *quotas_.find(root)->second; }
  [[nodiscard]] quota* of(node_id n) {
    const node_id root = root_of(n);
    return root == no_node ? nullptr : quotas_.find(root)->second.get();
  }

  const tree_view* view_ = nullptr;
  last_uses uses_;                                                  // of all nodes
  node_id limit_ = 0;                                               // ids below it may come
  parted_map<node_id, std::unique_ptr<quota>, id_hash, 7> quotas_;  // by root
  node_array<lru_state> states_;  // of all orders: those of a node are its quota's
  node_array<node_id> roots_;     // of each node in a namespace with a quota; of the root too
  std::size_t order_bytes_ = 0;   // of all orders
};

}  // namespace radixkv::detail
