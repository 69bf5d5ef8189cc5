// S3-FIFO over a prefix tree (Yang et al., "FIFO queues are all you need for cache eviction", SOSP
// 2023): a small queue (10 %) filters what is used once, a main queue gives used entries another
// round, and what left the small queue and comes back while its ghost is remembered enters the main
// queue at once. Frequencies saturate at 3. A victim takes another round, or on to the main queue,
// at most so many as its caller can wait for: then the least used of them goes.
//
// Ghosts are known by 32 bits of their path's hash; a collision costs a wrong queue, nothing else.
//
// Invariants
// 1. small_blocks_ are the blocks of nodes in the small segment.
// 2. Ghosts stand for at most as many blocks as the main queue may hold, in order of eviction.
#pragma once

#include <deque>
#include <unordered_map>

#include "csrc/core/eviction/counted_policy.h"

namespace radixkv::detail {

class s3fifo_policy final : public counted_policy {
 public:
  explicit s3fifo_policy(std::uint32_t tick_limit = 0xffffffffu)
      : counted_policy(false, tick_limit) {}
  [[nodiscard]] std::string_view name() const noexcept override { return "s3fifo"; }
  [[nodiscard]] std::uint32_t path_hash_tokens(std::uint32_t block_tokens) const noexcept override;
  void attach(const tree_view& tree, std::int64_t capacity_blocks) override;
  [[nodiscard]] bool make_room(node_id limit) noexcept override;
  void on_insert(node_id n) override;
  void on_extend(node_id n, std::uint32_t blocks) override;
  void on_trim(node_id n, std::uint32_t blocks) override;
  void on_request(const request_info& request) override;
  [[nodiscard]] victim next_victim() override;
  [[nodiscard]] std::size_t upcoming(std::size_t skip,
                                     std::span<node_id> out) const noexcept override {
    return queues_[small_blocks_ * 10 > capacity_blocks_ ? small : main].copy(skip, out);
  }
  [[nodiscard]] std::string check() const override;

 protected:
  [[nodiscard]] place put(node_id n) noexcept override {
    return put_in(queues_[state(n).segment], n);
  }
  void take(node_id n) noexcept override { take_from(queues_[state(n).segment], n); }
  void clear_queues() override;
  [[nodiscard]] std::string check_queues() const override;
  [[nodiscard]] std::size_t queue_bytes() const override;
  void split_state(node_id upper, node_id lower) override;
  void gone(node_id n, bool evicted) override;

 private:
  static constexpr std::uint32_t max_frequency = 3;
  static constexpr std::uint32_t most_passed = 64;  // of a queue, for a victim
  enum : std::uint32_t { small = 0, main = 1 };
  struct ghost {
    std::uint32_t print, blocks;
  };
  [[nodiscard]] std::uint32_t& print(node_id n) { return prints_[n]; }
  void move_to_main(node_id n);
  void remember(std::uint32_t print, std::uint32_t blocks);
  [[nodiscard]] node_id take_small();
  [[nodiscard]] node_id take_main();

  node_queue queues_[2];
  std::int64_t small_blocks_ = 0;
  node_array<std::uint32_t> prints_;  // by node: hash of the path to its head; 0: unknown
  std::deque<ghost> ghosts_;
  std::unordered_map<std::uint32_t, std::uint32_t> ghost_count_;  // by print
  std::int64_t ghost_blocks_ = 0;
};

}  // namespace radixkv::detail
