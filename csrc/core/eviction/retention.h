// What callers know about the future and about importance, around any eviction policy: prefixes
// that stay, priorities, times to live, announced requests, quotas per namespace.
//
// It stands between the tree and the policy. A hold covers the first blocks of a node (and so,
// since only leaves go, everything above): the policy sees them as pinned and names other victims;
// when it has none left, holds give way, the lowest rank first. A discard names a path's end that
// is to go before anything else. Both follow their blocks through splits and evictions.
//
// Invariants
// 1. A mark on node n covers 1 … blocks(n) of its blocks; a mark whose blocks have gone lies higher
// up,
//    or nowhere (no_node) when nothing of its path is left.
// 2. The policy sees max(pinned by sequences, held) blocks of a node as pinned, and hears on_unpin
//    whenever that falls.
//
// Thread-safety: as eviction_policy, every call is made under the cache's lock. Calls may throw
// std::bad_alloc only where they say so.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "csrc/core/eviction/lru.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::detail {

using mark_id = std::uint32_t;
inline constexpr mark_id no_mark = 0xffffffffu;

class retention final : public eviction_policy, private tree_view {
 public:
  // Ranks: holds give way from the lowest to the highest; discards are those below 0.
  static constexpr double stays = std::numeric_limits<double>::infinity();
  static constexpr double announced_rank = 1e12;  // above every priority
  static constexpr double never = std::numeric_limits<double>::infinity();

  explicit retention(std::unique_ptr<eviction_policy> policy) : policy_(std::move(policy)) {}

  // Keeps the first `blocks` blocks of n, and all above, until released, or until `expires` on the
  // clock of advance(). What is held gives way only when nothing else is left, unless rank is
  // `stays`. REQUIRES: rank > 0, 1 ≤ blocks ≤ blocks(n). May throw.
  mark_id hold(node_id n, std::uint32_t blocks, double rank, double expires = never);
  // Lets the path that ends with block `blocks` of n go first, back to depth `from` (in blocks of
  // the path), from `when` on; unless someone uses it before. REQUIRES: as hold. May throw.
  mark_id discard(node_id n, std::uint32_t blocks, std::uint32_t from, double when = 0);
  // Ends a mark. One that has ended by itself is ignored.
  void release(mark_id m);
  // The cache's clock: ends what has expired.
  void advance(double now);

  // A request that waits: `hashes` as in request_info, and the place where its cached prefix ends
  // now (a root and 0: nothing is cached). Whatever of its path is cached later is held, too. Those
  // announced first give way last. May throw.
  mark_id announce(std::span<const std::uint64_t> hashes, node_id n, std::uint32_t blocks);

  // A namespace's root may keep at most so many cached blocks; 0: no limit (any more), as must be
  // said before the root goes. REQUIRES, for a first limit: nothing is cached below it. May throw.
  void set_quota(node_id root, std::int64_t blocks);
  // Blocks by which a namespace would exceed its quota if `incoming` came, so that as many of its
  // own go first; 0 without quota.
  [[nodiscard]] std::int64_t excess(node_id root, std::int64_t incoming) const;
  // The namespace's own least recently used tail. REQUIRES: it has a quota.
  [[nodiscard]] victim next_victim_of(node_id root);

  [[nodiscard]] std::string_view name() const noexcept override { return policy_->name(); }
  [[nodiscard]] std::uint32_t path_hash_tokens(std::uint32_t block_tokens) const noexcept override;
  void attach(const tree_view& tree, std::int64_t capacity_blocks) override;
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
  [[nodiscard]] policy_statistics statistics() const noexcept override {
    return policy_->statistics();
  }
  [[nodiscard]] std::vector<std::byte> save() const override { return policy_->save(); }
  status load(std::span<const std::byte> learnt) override { return policy_->load(learnt); }

 private:
  struct mark {
    node_id node = no_node;
    std::uint32_t blocks = 0;
    double rank = 0;
    double expires = never;             // a discard: when it begins
    std::uint32_t from = 0;             // depth, of a discard
    bool used = false;                  // the id is taken
    bool active = true;                 // false: a discard that has not begun
    std::vector<std::uint64_t> hashes;  // of an announcement
    std::uint64_t seen = 0;             // last request that looked at it
  };
  struct quota {
    std::int64_t limit = 0, blocks = 0;
    lru_policy order;
  };
  using by_rank = std::set<std::pair<double, mark_id>>;

  // The policy's view of the tree.
  std::uint32_t block_tokens() const noexcept override { return tree_->block_tokens(); }
  node_id parent(node_id n) const noexcept override { return tree_->parent(n); }
  std::uint32_t first_block(node_id n) const noexcept override { return tree_->first_block(n); }
  std::uint32_t blocks(node_id n) const noexcept override { return tree_->blocks(n); }
  std::uint32_t children(node_id n) const noexcept override { return tree_->children(n); }
  std::uint32_t pinned_blocks(node_id n) const noexcept override;
  bool is_root(node_id n) const noexcept override { return tree_->is_root(n); }
  void prefetch(node_id n) const noexcept override { tree_->prefetch(n); }

  mark_id new_mark(mark m);
  void put(mark_id m, node_id n, std::uint32_t blocks);
  void take(mark_id m);
  void end(mark_id m);
  [[nodiscard]] std::uint32_t held(node_id n, double above) const;
  [[nodiscard]] victim discarded();
  [[nodiscard]] victim given_way();
  [[nodiscard]] quota* quota_of(node_id n);
  void forget_hashes(mark_id m);

  std::unique_ptr<eviction_policy> policy_;
  const tree_view* tree_ = nullptr;
  std::vector<mark> marks_;
  std::vector<mark_id> free_;
  std::unordered_map<node_id, std::vector<mark_id>> by_node_;
  by_rank holds_, discards_;
  std::set<std::pair<double, mark_id>> expiries_;
  std::unordered_map<std::uint64_t, std::vector<mark_id>> announced_;  // by path hash
  std::uint64_t announcements_ = 0, requests_ = 0;
  std::unordered_map<node_id, quota> quotas_;  // by root
};

}  // namespace radixkv::detail
