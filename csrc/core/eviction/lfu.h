// Least frequently used, ties by recency, counting uses while cached (in-cache LFU; as the
// frequency-based end of the family in Lee et al., "LRFU", 2001). Over a prefix tree.
//
// Invariant: the heap is ordered by (uses, tick); an entry whose node has other values is stale.
#pragma once

#include <vector>

#include "csrc/core/eviction/counted_policy.h"

namespace radixkv::detail {

class lfu_policy final : public counted_policy {
 public:
  explicit lfu_policy(std::uint32_t tick_limit = 0xffffffffu) : counted_policy(true, tick_limit) {}
  [[nodiscard]] std::string_view name() const noexcept override { return "lfu"; }
  void on_request(const request_info& request) override;
  [[nodiscard]] victim next_victim() override;

 protected:
  [[nodiscard]] bool put(node_id n) noexcept override;
  void clear_queues() override { heap_ = {}; }
  void compact_queues() override;
  [[nodiscard]] std::size_t queue_bytes() const override {
    return heap_.capacity() * sizeof(entry);
  }

 private:
  struct entry {
    std::uint32_t uses, tick;
    node_id node;
  };
  static bool later(const entry& a, const entry& b) {
    return a.uses != b.uses ? a.uses > b.uses : a.tick > b.tick;
  }
  [[nodiscard]] bool current(const entry& e) {
    return valid({e.node, e.tick}) && state(e.node).uses == e.uses;
  }
  std::vector<entry> heap_;
};

}  // namespace radixkv::detail
