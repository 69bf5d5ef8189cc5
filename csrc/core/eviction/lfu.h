// Least frequently used, ties by recency, counting uses while cached (in-cache LFU; as the
// frequency-based end of the family in Lee et al., "LRFU", 2001). Over a prefix tree.
//
// Invariant: the heap is ordered by (uses, tick), which are those of the nodes.
#pragma once

#include <cstdint>
#include <string>

#include "csrc/core/eviction/counted_policy.h"
#include "csrc/core/eviction/node_heap.h"

namespace radixkv::detail {

class lfu_policy final : public counted_policy {
 public:
  explicit lfu_policy(std::uint32_t tick_limit = 0xffffffffu) : counted_policy(true, tick_limit) {}
  [[nodiscard]] std::string_view name() const noexcept override { return "lfu"; }
  void on_request(const request_info& request) override;
  [[nodiscard]] victim next_victim() override;

 protected:
  [[nodiscard]] place put(node_id n) noexcept override;
  void take(node_id n) noexcept override { heap_.erase(state(n).at, moves()); }
  void clear_queues() override { heap_.clear(); }
  [[nodiscard]] std::size_t queue_bytes() const override { return heap_.bytes(); }
  [[nodiscard]] std::string check_queues() const override;

 private:
  struct entry {
    std::uint32_t uses, tick;
    node_id node;
    [[nodiscard]] bool is_before(const entry& o) const noexcept {
      return uses != o.uses ? uses < o.uses : tick < o.tick;
    }
  };
  node_heap<entry> heap_;
};

}  // namespace radixkv::detail
