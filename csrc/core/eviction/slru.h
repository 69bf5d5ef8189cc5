// Segmented LRU over a prefix tree (Karedla, Love and Wherry, "Caching strategies to improve disk
// system performance", 1994): a block that was hit moves from the probationary to the protected
// segment; what the protected one can't hold falls back to the recent end of the probationary one,
// and victims are the probationary segment's oldest.
//
// Invariants
// 1. Every ancestor of a protected node is protected (it is hit whenever the node is).
// 2. protected_blocks_ ≤ its share, unless no protected leaf can be demoted.
#pragma once

#include "csrc/core/eviction/counted_policy.h"

namespace radixkv::detail {

class slru_policy final : public counted_policy {
 public:
  explicit slru_policy(std::uint32_t tick_limit = 0xffffffffu) : counted_policy(true, tick_limit) {}
  [[nodiscard]] std::string_view name() const noexcept override { return "slru"; }
  void attach(const tree_view& tree, std::int64_t capacity_blocks) override;
  void on_extend(node_id n, std::uint32_t blocks) override;
  void on_trim(node_id n, std::uint32_t blocks) override;
  void on_request(const request_info& request) override;
  [[nodiscard]] victim next_victim() override;
  [[nodiscard]] std::size_t upcoming(std::size_t skip,
                                     std::span<node_id> out) const noexcept override {
    return queues_[probation].copy(skip, out);
  }
  [[nodiscard]] std::string check() const override;

 protected:
  [[nodiscard]] place put(node_id n) noexcept override {
    return put_in(queues_[state(n).segment], n);
  }
  void take(node_id n) noexcept override { take_from(queues_[state(n).segment], n); }
  void clear_queues() override;
  [[nodiscard]] std::string check_queues() const override;
  [[nodiscard]] std::size_t queue_bytes() const override {
    return queues_[0].bytes() + queues_[1].bytes();
  }
  void gone(node_id n, bool evicted) override;

 private:
  static constexpr double protected_share = 0.8;  // as in most descriptions since
  enum : std::uint32_t { probation = 0, protection = 1 };
  void demote();

  node_queue queues_[2];
  std::int64_t protected_blocks_ = 0;
};

}  // namespace radixkv::detail
