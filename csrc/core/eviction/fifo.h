// First in, first out over a prefix tree: the leaf that was cached first goes first (as compared in
// Belady, "A study of replacement algorithms for a virtual-storage computer", 1966).
#pragma once

#include "csrc/core/eviction/counted_policy.h"

namespace radixkv::detail {

class fifo_policy final : public counted_policy {
 public:
  explicit fifo_policy(std::uint32_t tick_limit = 0xffffffffu)
      : counted_policy(false, tick_limit) {}
  [[nodiscard]] std::string_view name() const noexcept override { return "fifo"; }
  void on_request(const request_info& request) override;
  [[nodiscard]] victim next_victim() override;
  [[nodiscard]] std::size_t upcoming(std::size_t skip,
                                     std::span<node_id> out) const noexcept override {
    return queue_.copy(skip, out);
  }

 protected:
  [[nodiscard]] place put(node_id n) noexcept override { return put_in(queue_, n); }
  void take(node_id n) noexcept override { take_from(queue_, n); }
  void clear_queues() override { queue_.clear(); }
  [[nodiscard]] std::size_t queue_bytes() const override { return queue_.bytes(); }
  [[nodiscard]] std::string check_queues() const override { return counted_policy::check(queue_); }

 private:
  node_queue queue_;
};

}  // namespace radixkv::detail
