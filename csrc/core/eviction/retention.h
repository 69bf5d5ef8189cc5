// What callers know about the future and about importance, around any eviction policy: prefixes
// that stay, priorities, times to live, announced requests, quotas per namespace.
//
// It stands between the tree and the policy. A hold covers the first blocks of a node (and so,
// since only leaves go, everything above): the policy sees them as pinned and names other victims;
// when it has none left, holds give way, the lowest rank first, the least recently used of equal
// ones first. A discard names a path's end that is to go before anything else. Both follow their
// blocks through splits and evictions. Without any mark or quota every call is the policy's own.
//
// Invariants
// 1. A mark on node n covers 1 … blocks(n) of its blocks; a mark whose blocks have gone lies higher
//    up, or nowhere when nothing of its path is left (it then ends, unless somebody owns it).
// 2. The policy sees max(pinned by sequences, held) blocks of a node as pinned, and hears on_unpin
//    whenever that falls.
// 3. A finite hold that could give way is in giving_way_, a discard that has begun and could go in
//    discarding_; others may be, and leave when they are met, but no priority of a node with
//    children is in giving_way_. For the announcements on a node one
//    of them may stand that is not the last of them to give way, and covers as much; none need
//    stand for those that a pinned prefix covers. Of each quota those in giving_way_ are in a heap
//    of its own.
// 4. After a mark is made nothing that moves or ends it allocates.
//
// Thread-safety: as eviction_policy, every call is made under the cache's lock. Calls may throw
// std::bad_alloc only where they say so, and then change nothing. What a policy throws while the
// tree changes ends the process: there is no way back.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "csrc/core/eviction/mark_heap.h"
#include "csrc/core/eviction/mark_table.h"
#include "csrc/core/eviction/namespace_quotas.h"
#include "csrc/core/eviction/space_heap.h"
#include "csrc/core/parted_map.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::detail {

class retention final : public eviction_policy, private tree_view {
 public:
  // Ranks: holds give way from the lowest to the highest; discards are those below 0.
  static constexpr double stays = std::numeric_limits<double>::infinity();
  static constexpr double announced_rank = 1e12;  // above every priority
  static constexpr double never = mark::never;
  static constexpr double at_once = -never;
  // Marks of a kind on a node that nobody owns: as many as one sequence may leave there.
  static constexpr std::uint32_t most_of_a_kind = 64;

  explicit retention(std::unique_ptr<eviction_policy> policy) : policy_(std::move(policy)) {}

  // A mark that lies nowhere yet and belongs to the caller. Rank > 0 holds, `stays` whatever
  // happens; < 0 lets go, the lowest first. A hold ends when advance() has reached `expires`. May
  // throw.
  mark_id make(mark_kind kind, double rank, double expires = never);
  // Lays a hold on the first `blocks` blocks of n, and with that on all above (0 blocks or a root:
  // nowhere). REQUIRES: it is the caller's.
  void lay(mark_id m, node_id n, std::uint32_t blocks);
  // The same, and the mark is the path's from now on: it ends when the path goes, or when another
  // of its kind is left on the node that covers as much.
  void leave(mark_id m, node_id n, std::uint32_t blocks, double expires = never);
  // Lets the path that ends with block `blocks` of n go first, back to depth `from` (in blocks of
  // the path), from `when` on. A use ends it, but for a priority: that lasts as long as the path,
  // and waits while there is more behind it.
  void leave_discard(mark_id m, node_id n, std::uint32_t blocks, std::uint32_t from,
                     double when = at_once);
  // Somebody has used the first `blocks` blocks of n, which are pinned: no time to live and no end
  // of a session counts any more for them.
  void on_used(node_id n, std::uint32_t blocks);
  // Whoever pinned n has gone without a use.
  void on_unused(node_id n) noexcept;
  // Ends a mark. False if it had ended before.
  bool release(mark_id m);

  // The cache's clock: ends what has expired, some of it now, all of it in calls to come.
  void advance(double now);
  // Whether advance() may have anything to do at any time.
  [[nodiscard]] bool awaits_time() const noexcept { return !expiring_.empty(); }

  // A request that waits: `hashes` as in request_info, and the place where its cached prefix ends
  // now (a root and 0, or no_node: nothing is cached). Whatever of its path is cached later is
  // held, too. Those announced first give way last. May throw.
  mark_id announce(std::span<const std::uint64_t> hashes, node_id n, std::uint32_t blocks);

  // Where the mark lies: a node and the blocks covered; {no_node, 0} if nowhere.
  [[nodiscard]] std::pair<node_id, std::uint32_t> place_of(mark_id m) const;
  // Whether an announcement or a pinned prefix ends there.
  [[nodiscard]] bool holds_any_of_many(node_id n) const noexcept {
    return marks_.one_of_many_on(n) != no_index;
  }
  [[nodiscard]] std::size_t marks() const noexcept { return marks_.live(); }

  // A namespace may take so many blocks; 0: no limit (any more), as must be said before its root
  // goes. `nodes`: everything below the root, parents first. May throw.
  void set_quota(node_id root, std::int64_t blocks, std::span<const node_id> nodes = {});
  [[nodiscard]] namespace_quotas& quotas() noexcept { return quotas_; }
  [[nodiscard]] const namespace_quotas& quotas() const noexcept { return quotas_; }
  // Blocks by which a namespace would exceed its quota if `incoming` came, so that as many of its
  // own go first; 0 without quota.
  [[nodiscard]] std::int64_t excess(node_id root, std::int64_t incoming) const;
  // A tail of the namespace's own: the least recently used that nothing holds, else what gives way.
  // REQUIRES: it has a quota.
  [[nodiscard]] victim next_victim_of(node_id root);

  [[nodiscard]] std::string_view name() const noexcept override { return policy_->name(); }
  // The policy's, or what announcements need where it has none.
  [[nodiscard]] std::uint32_t path_hash_tokens(std::uint32_t block_tokens) const noexcept override;
  // Whether the policy wants hashes of every request, announcements or not.
  [[nodiscard]] bool always_hashes(std::uint32_t block_tokens) const noexcept {
    return policy_->path_hash_tokens(block_tokens) != 0;
  }
  void attach(const tree_view& tree, std::int64_t capacity_blocks) override;
  [[nodiscard]] bool make_room(node_id limit) noexcept override {
    return policy_->make_room(limit) && quotas_.make_room(limit);
  }
  void on_insert(node_id n) noexcept override;
  void on_extend(node_id n, std::uint32_t blocks) noexcept override;
  void on_split(node_id upper, node_id lower) noexcept override;
  void on_trim(node_id n, std::uint32_t blocks) noexcept override;
  void on_remove(node_id n, bool evicted) noexcept override;
  // What is to go first at n waits: on_used() ends it, on_unpin() and on_unused() bring it back.
  void on_pin(node_id n) noexcept override;
  void on_unpin(node_id n) noexcept override;
  void on_request(const request_info& request) noexcept override;
  [[nodiscard]] victim next_victim() noexcept override;
  // What the policy says; discards and what gives way are too few to count.
  [[nodiscard]] std::size_t upcoming(std::size_t skip,
                                     std::span<node_id> out) const noexcept override {
    return policy_->upcoming(skip, out);
  }
  void prefetch(node_id n) const noexcept override {
    policy_->prefetch(n);
    quotas_.prefetch(n);
  }
  [[nodiscard]] std::size_t bytes() const noexcept override;
  [[nodiscard]] std::string check() const override;
  [[nodiscard]] policy_statistics statistics() const noexcept override {
    return policy_->statistics();
  }
  [[nodiscard]] std::vector<std::byte> save() const override { return policy_->save(); }
  status load(std::span<const std::byte> learnt) override { return policy_->load(learnt); }

 private:
  // The policy's view of the tree.
  std::uint32_t block_tokens() const noexcept override { return tree_->block_tokens(); }
  node_id parent(node_id n) const noexcept override { return tree_->parent(n); }
  std::uint32_t first_block(node_id n) const noexcept override { return tree_->first_block(n); }
  std::uint32_t blocks(node_id n) const noexcept override { return tree_->blocks(n); }
  std::uint32_t children(node_id n) const noexcept override { return tree_->children(n); }
  std::uint32_t pinned_blocks(node_id n) const noexcept override;
  bool is_root(node_id n) const noexcept override { return tree_->is_root(n); }
  std::uint32_t evictable_blocks(node_id n) const noexcept override {
    if (holds_ != 0) [[unlikely]]
      return evictable_beside_holds(n);
    return tree_->evictable_blocks(n);
  }

  [[gnu::noinline]] std::uint32_t evictable_beside_holds(node_id n) const noexcept {
    return tree_view::evictable_blocks(n);
  }
  void expire();
  void put(std::uint32_t i, node_id n, std::uint32_t blocks);
  void end(std::uint32_t i);
  // The policy, the quota and the heaps hear that n may be evictable now, or more of it.
  void let_go(node_id n) noexcept;
  // The policy and the quota hear if n is held as a whole, so that whoever looks for a victim need
  // not look through what is held.
  void tell_if_held(node_id n) noexcept;
  void stir(node_id n) { stir(n, tree_->children(n) == 0); }
  void stir(node_id n, bool is_leaf);
  void move_marks_up(node_id n) noexcept;
  std::uint32_t replace_covered(std::uint32_t i, node_id n, std::uint32_t blocks,
                                std::uint32_t from);
  bool crowded_out(std::uint32_t i, node_id n, std::uint32_t blocks);
  bool absorbed(std::uint32_t i, node_id n, std::uint32_t blocks);
  [[nodiscard]] std::uint32_t held(node_id n) const;
  [[nodiscard]] std::uint32_t foremost_on(node_id n) const;
  [[nodiscard]] std::uint32_t kept_against(std::uint32_t i) const;
  [[nodiscard]] victim discarded();
  [[nodiscard]] victim given_way();
  [[nodiscard]] victim give_way(std::uint32_t i);
  void withhold_weaker(node_id n);
  void lay_announced(const request_info& request);
  void await_giving_way(std::uint32_t i);
  void leave_giving_way(std::uint32_t i, bool lies);
  void join_space(std::uint32_t i);
  void leave_space(std::uint32_t i);
  [[nodiscard]] std::string check_spaces() const;

  // retention_announced.cpp: announcements, by the hashes of their paths.
  // The nth hash of a path: what it leaves out is told apart by nothing.
  struct path_key {
    std::uint64_t hash;
    std::size_t nth;
    friend bool operator==(const path_key&, const path_key&) = default;
  };
  struct path_key_hash {
    std::size_t operator()(const path_key& k) const noexcept {
      return static_cast<std::size_t>(k.hash + k.nth * 0x9e3779b97f4a7c15ull);
    }
  };
  // Those whose path has a hash; the first `lacking` of them are not held as far as that.
  struct announced_path {
    std::vector<std::uint32_t> marks;
    std::uint32_t lacking = 0;
  };
  void forget_hashes(std::uint32_t i);
  void count_held(std::uint32_t i);
  void set_place(announced_path& path, std::uint32_t at, std::uint32_t i, std::size_t nth);
  void swap_places(announced_path& path, std::uint32_t a, std::uint32_t b, std::size_t nth);
  [[nodiscard]] std::uint32_t chunk_blocks() const noexcept {
    return path_hash_tokens(tree_->block_tokens()) / tree_->block_tokens();
  }
  [[nodiscard]] std::string check_announced() const;

  std::unique_ptr<eviction_policy> policy_;
  const tree_view* tree_ = nullptr;
  mutable mark_table marks_;  // const calls may find out which announcement is foremost
  mark_heap giving_way_;      // finite holds by rank
  mark_heap discarding_;      // discards that have begun, by rank
  mark_heap expiring_;        // by time: holds that end, discards that begin
  double now_ = at_once;      // as advance() said
  std::uint32_t fresh_ = 0;   // marks made since some were last ended
  std::size_t holds_ = 0;
  std::size_t withheld_ = 0;    // announcements that are
  std::size_t hash_bytes_ = 0;  // of announcements
  parted_map<path_key, announced_path, path_key_hash, 8> announced_;
  std::uint64_t announcements_ = 0, order_ = 0;
  namespace_quotas quotas_;
};

}  // namespace radixkv::detail
