// The interface by which an eviction policy follows the cache and names victims.
//
// The unit is the node: a run of whole blocks on a path that are always used together (the index
// splits a node wherever a request ends inside it). Blocks leave from the tail of a leaf, one at a
// time, so a cached prefix stays contiguous. A policy keeps its own state, indexed by node id; ids
// are small, dense and reused after on_remove.
//
// An application's own policy goes to a cache by cache_options::policy_factory; it may keep one of
// make_policy's and forward to it. examples/sampled_lru.h is a small one.
//
// Thread-safety: every call is made under the cache's lock, and must not call back into the cache;
// the tree_view may be read at any time during a call. Only attach, save and load may throw, and
// only std::bad_alloc; what else is thrown ends the process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "radixkv/export.h"
#include "radixkv/result.h"
#include "radixkv/types.h"

namespace radixkv {

using node_id = std::uint32_t;
inline constexpr node_id no_node = 0xffffffffu;

// What a policy may ask about the tree.
class tree_view {
 public:
  virtual ~tree_view() = default;
  [[nodiscard]] virtual std::uint32_t block_tokens() const noexcept = 0;
  [[nodiscard]] virtual node_id parent(node_id n) const noexcept = 0;  // no_node for a root
  [[nodiscard]] virtual std::uint32_t first_block(node_id n) const noexcept = 0;  // depth in blocks
  [[nodiscard]] virtual std::uint32_t blocks(
      node_id n) const noexcept = 0;  // the last may be partial
  [[nodiscard]] virtual std::uint32_t children(node_id n) const noexcept = 0;
  // Blocks at the head of n that an open sequence uses; they may not be evicted.
  [[nodiscard]] virtual std::uint32_t pinned_blocks(node_id n) const noexcept = 0;
  // Roots (one per namespace) hold no block and are never victims.
  [[nodiscard]] virtual bool is_root(node_id n) const noexcept = 0;
  // Tail blocks of n that may be evicted now; 0 unless n is a leaf.
  [[nodiscard]] virtual std::uint32_t evictable_blocks(node_id n) const noexcept {
    if (is_root(n) || children(n) != 0) return 0;
    const std::uint32_t all = blocks(n);
    const std::uint32_t pinned = pinned_blocks(n);
    return all > pinned ? all - pinned : 0;
  }
  // A leaf with at least one block that may be evicted now.
  [[nodiscard]] bool evictable(node_id n) const noexcept { return evictable_blocks(n) > 0; }
};

// One finished use of a path: everything from the root to the end of `node` was read or written.
struct request_info {
  node_id node = no_node;     // deepest node of the path, ending where the request ended
  std::uint64_t request = 0;  // ordinal of the request in this cache, from 1
  double seconds = 0;         // the cache's clock when the request was opened
  std::uint32_t prompt_tokens = 0;
  std::uint32_t output_tokens = 0;   // 0 when unknown
  std::uint32_t matched_blocks = 0;  // whole blocks found cached when it was opened
  bool ends_inside_block = false;    // the path's last block is not full
  // Element i hashes the path's first (i + 1) × path_hash_tokens() tokens, and its namespace: what
  // a policy knows a path by after its nodes have gone. As many as the path has whole chunks, or
  // fewer.
  std::span<const std::uint64_t> path_hashes;
};

// A leaf and how many of its tail blocks may go before the policy must be asked again (≥ 1).
struct victim {
  node_id node = no_node;
  std::uint32_t blocks = 0;
};

// What a policy reports of itself. Blocks are whole blocks of requests' paths.
struct policy_statistics {
  std::uint64_t requests = 0;
  std::uint64_t blocks = 0;          // of those requests
  std::uint64_t hit_blocks = 0;      // of them, found cached
  std::uint64_t lru_hit_blocks = 0;  // of them, found cached had the policy been LRU
};

class eviction_policy {
 public:
  virtual ~eviction_policy() = default;
  [[nodiscard]] virtual std::string_view name() const noexcept = 0;

  // Tokens per element of request_info::path_hashes in a cache of such blocks, a multiple of
  // block_tokens; 0: the policy needs no hashes and the cache computes none.
  [[nodiscard]] virtual std::uint32_t path_hash_tokens(std::uint32_t block_tokens) const noexcept {
    static_cast<void>(block_tokens);
    return 0;
  }

  // Called once before any other call; `tree` outlives the policy's use. Drops all state.
  virtual void attach(const tree_view& tree, std::int64_t capacity_blocks) = 0;
  // The tree is about to change by at most one split and one insertion (or extension), and the
  // request that did it follows. Ids below `limit` may be in use until the next call. All memory is
  // taken here; false: there is none, and the change is not made.
  [[nodiscard]] virtual bool make_room(node_id limit) noexcept {
    static_cast<void>(limit);
    return true;
  }
  // A new leaf below parent(n). Its request follows as on_request.
  virtual void on_insert(node_id n) = 0;
  // Leaf n grew by `blocks` at its tail (generation goes on, or a partial tail was completed).
  virtual void on_extend(node_id n, std::uint32_t blocks) = 0;
  // The head of `lower` became the new node `upper`, now its parent. `lower` keeps its id.
  virtual void on_split(node_id upper, node_id lower) = 0;
  // The tail of leaf n lost `blocks` by eviction; n still has some.
  virtual void on_trim(node_id n, std::uint32_t blocks) = 0;
  // Leaf n is about to go with its last blocks. parent(n) is still readable; if n is its only child
  // it is about to become a leaf. evicted: by eviction (false: by clear).
  virtual void on_remove(node_id n, bool evicted) = 0;
  // A sequence pins n as the deepest node of its path: one that is opened (and may then be refused,
  // without an on_request), a fork, or one that has published more. on_unpin follows only where
  // pinned_blocks(n) falls.
  virtual void on_pin(node_id n) = 0;
  // What callers said (a priority, an announcement, a pinned prefix) holds all of leaf n from now
  // on, in pinned_blocks(n), too: no victim before on_unpin(n), or before on_extend(n), whose
  // blocks are not held. A policy may take it out of its queues.
  virtual void on_hold(node_id n) { static_cast<void>(n); }
  // A sequence let go of n, or what held it did, and pinned_blocks(n) has fallen.
  virtual void on_unpin(node_id n) = 0;
  // A request ended (or published its path while going on).
  virtual void on_request(const request_info& request) = 0;
  // The next tail to give up: REQUIRES tree.evictable(result.node). {no_node, 0} if nothing may go.
  // May be called repeatedly; the caller evicts at most `blocks` tail blocks (via on_trim or
  // on_remove) before it asks again, and may also stop.
  [[nodiscard]] virtual victim next_victim() = 0;
  // Hint, by which what removing them touches is fetched ahead: the leaves that next_victim would
  // name after `skip` others, as many as fit and as are known without a search. Gives their number.
  // Some may never be named, or be gone.
  [[nodiscard]] virtual std::size_t upcoming(std::size_t skip,
                                             std::span<node_id> out) const noexcept {
    static_cast<void>(skip);
    static_cast<void>(out);
    return 0;
  }
  // Hint that n, which upcoming() gave, will go soon: fetches what the policy knows of it.
  virtual void prefetch(node_id n) const noexcept { static_cast<void>(n); }
  // Bytes of policy state that grow with the cache.
  [[nodiscard]] virtual std::size_t bytes() const noexcept = 0;
  // Zeros where the policy keeps no statistics.
  [[nodiscard]] virtual policy_statistics statistics() const noexcept { return {}; }
  // What the policy has learnt, for load() after a restart. Empty when it learns nothing.
  [[nodiscard]] virtual std::vector<std::byte> save() const { return {}; }
  // Errors: corrupt, or invalid_argument from a policy that learns nothing; it is then as it was.
  virtual status load(std::span<const std::byte> learnt) {
    if (learnt.empty()) return {};
    return {errc::invalid_argument,
            "policy " + std::string(name()) + " learns nothing, so it loads nothing"};
  }
  // Recomputes what it can and compares; empty when sound, else what is wrong. For tests.
  [[nodiscard]] virtual std::string check() const = 0;
};

// Makes a policy by the name that `radixkv replay --policy` takes. not_found names the known ones.
// What each call takes is bounded, but for what docs/reliability.md lists; to use a cached leaf
// again takes lfu some 15 % longer than it need, and fifo, slru and s3fifo 4 %, since a queue is
// tidied at once and nobody's eviction has to.
[[nodiscard]] RADIXKV_EXPORT result<std::unique_ptr<eviction_policy>> make_policy(
    std::string_view name);

}  // namespace radixkv
