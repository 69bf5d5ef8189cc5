// The parts of a cache and the one lock around them; what sequences and the façade are made of.
//
// What takes time with the length of a prompt (comparing, copying tokens) happens outside of the
// lock. Functions named *_locked need it. No function throws; allocation failures become
// out_of_memory.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "csrc/core/block_pool.h"
#include "csrc/core/eviction/path_digest.h"
#include "csrc/core/eviction/retention.h"
#include "csrc/core/failed_blocks.h"
#include "csrc/core/hit_meter.h"
#include "csrc/core/lacking_pins.h"
#include "csrc/core/name_hash.h"
#include "csrc/core/namespace_table.h"
#include "csrc/core/parted_map.h"
#include "csrc/core/radix_tree.h"
#include "csrc/core/room_bounds.h"
#include "csrc/core/sequence_state.h"
#include "csrc/core/slot_map.h"
#include "radixkv/kv_cache.h"

namespace radixkv::detail {

using state_ptr = std::unique_ptr<sequence_state>;

class cache_core : public std::enable_shared_from_this<cache_core> {
 public:
  explicit cache_core(cache_options o) : options_(std::move(o)) {}
  cache_core(const cache_core&) = delete;
  cache_core& operator=(const cache_core&) = delete;

  [[nodiscard]] status start();
  [[nodiscard]] const cache_options& options() const noexcept { return options_; }
  [[nodiscard]] std::int64_t block_tokens() const noexcept { return options_.block_tokens; }
  [[nodiscard]] radix_tree& tree() noexcept { return tree_; }

  // cache_match.cpp
  [[nodiscard]] prefix_match match(std::span<const token_id> tokens, std::string_view space,
                                   std::span<block_id> table) const;
  void match_batch(std::span<const open_request> requests, std::span<prefix_match> out,
                   std::span<const std::span<block_id>> tables) const;

  // cache_open.cpp
  // `announced`: withdrawn with success; may be no_mark.
  [[nodiscard]] result<state_ptr> open(std::span<const token_id> tokens, std::string_view space,
                                       step_plan& plan, mark_id announced = no_mark);
  // Opens until one fails; its error goes to `stopped`. REQUIRES: room in `opened` for all; one
  // element of `announced` for each request.
  void open_batch(std::span<const open_request> requests, std::span<const mark_id> announced,
                  step_plan& plan, std::vector<state_ptr>& opened, error& stopped);

  // sequence_room.cpp: room in a sequence's block table.
  [[nodiscard]] status append(sequence_state& s, std::span<const token_id> tokens, step_plan& plan);
  [[nodiscard]] status reserve(sequence_state& s, std::int64_t n, step_plan& plan);
  [[nodiscard]] status accept(sequence_state& s, std::span<const token_id> tokens);
  [[nodiscard]] status mark_filled(sequence_state& s, std::int64_t tokens);
  [[nodiscard]] status truncate(sequence_state& s, std::int64_t n);
  [[nodiscard]] result<state_ptr> fork(sequence_state& s);

  // sequence_commit.cpp
  [[nodiscard]] result<commit_result> commit(sequence_state& s, std::int64_t n);
  [[nodiscard]] result<commit_result> commit_logits(sequence_state& s, std::int64_t n,
                                                    std::int32_t row, step_plan& after);
  void release(sequence_state& s) noexcept;

  // cache_evict.cpp
  std::int64_t evict(std::int64_t n);
  std::int64_t clear();
  [[nodiscard]] bool can_allocate(std::int64_t n) const;

  // cache_hints.cpp
  [[nodiscard]] result<mark_id> announce(std::span<const token_id> tokens, std::string_view space);
  void withdraw(mark_id announced) noexcept;
  [[nodiscard]] result<mark_id> pin_prefix(std::span<const token_id> tokens,
                                           std::string_view space);
  void unpin_prefix(mark_id pinned) noexcept;
  [[nodiscard]] std::int64_t held_tokens(mark_id m) const;
  [[nodiscard]] status set_quota(std::string_view space, std::int64_t blocks);
  [[nodiscard]] result<std::vector<std::byte>> save_policy() const;
  [[nodiscard]] status load_policy(std::span<const std::byte> learnt);

  // sequence_hints.cpp
  [[nodiscard]] status set_priority(sequence_state& s, std::int64_t first, std::int64_t n,
                                    int priority);
  [[nodiscard]] status set_ttl(sequence_state& s, double seconds);
  [[nodiscard]] status expect_return(sequence_state& s, double probability, double within_seconds);
  [[nodiscard]] status ended(sequence_state& s);

  // cache_inspect.cpp
  void report_failure(const step_plan& plan);
  [[nodiscard]] cache_statistics statistics() const;
  [[nodiscard]] std::vector<sequence_info> sequences() const;
  [[nodiscard]] std::string dump(std::size_t max_lines) const;
  void for_each_prefix(
      const std::function<bool(std::string_view, std::span<const token_id>)>& visit) const;
  [[nodiscard]] std::string check() const;

 private:
  // A prompt that was matched without the lock, on its way to a sequence.
  struct candidate {
    std::span<const token_id> tokens;
    std::string_view space;
    unset_vector<block_id> table;
    tree_match found;
    bool valid = false;              // found counts, if the tree still says so
    std::uint32_t leaves_added = 0;  // the tree's, before the match
    mark_id announced = no_mark;
  };

  [[nodiscard]] status start_policy();
  [[nodiscard]] double now() const noexcept;
  [[nodiscard]] bool try_match(std::span<const token_id> tokens, std::string_view space,
                               std::span<block_id> table, tree_match& out) const;
  [[nodiscard]] bool match_locked(std::span<const token_id> tokens, std::string_view space,
                                  std::span<block_id> table, tree_match& out) const;
  void to_prefix_match(const tree_match& m, std::span<const token_id> tokens,
                       prefix_match& out) const;
  // Whether a match made without the lock is what it would be now. `leaves_added`: the tree's
  // before it.
  [[nodiscard]] bool is_current_locked(const tree_match& m, std::uint32_t leaves_added,
                                       std::span<const token_id> tokens,
                                       std::string_view space) const;
  [[nodiscard]] std::int64_t anchor_at(node_id n, std::uint64_t depth) const;

  // Tokens that the pool and the limits can hold at most.
  [[nodiscard]] std::int64_t longest_sequence() const noexcept {
    return std::min(options_.blocks * block_tokens(), max_sequence_tokens);
  }
  [[nodiscard]] status check_prompt(std::span<const token_id> tokens) const;
  [[nodiscard]] status check_length(const sequence_state& s, std::int64_t more,
                                    const char* what) const;
  [[nodiscard]] status check_admission_locked() const;
  [[nodiscard]] result<state_ptr> open_candidate(candidate& c, step_plan& plan);
  [[nodiscard]] status admit_locked(candidate& c, sequence_state& s, step_plan& plan);
  [[nodiscard]] result<node_id> root_locked(std::string_view space);
  void forget_root_locked(node_id root);
  void write_rows(const sequence_state& s, std::int64_t first,
                  std::span<const token_id> tokens) noexcept;

  // Whether a plan failed that was to fill blocks of s. To be asked before s takes blocks, gives
  // them up or publishes them.
  bool settle_failures_locked(sequence_state& s) noexcept;
  [[nodiscard]] status make_room(sequence_state& s, std::int64_t tokens, step_plan& plan);
  // The node that holds the partial tail that the sequence has published, and its blocks up to it;
  // no_node if there is none, or it went.
  [[nodiscard]] tree_place published_tail_locked(const sequence_state& s) const noexcept;
  [[nodiscard]] bool writable_locked(const sequence_state& s, std::size_t index) const noexcept;

  void commit_locked(sequence_state& s, std::int64_t n, commit_result& out, bool& out_of_memory);
  // Offers to the listener what of `mine`, from depth `first` (in blocks) of the path to `end` on,
  // the index holds.
  void offer_locked(node_id end, std::int64_t first, std::span<const block_id> mine,
                    std::span<const block_id> duplicates) noexcept;
  void release_locked(sequence_state& s) noexcept;
  void repin_locked(sequence_state& s, tree_place place) noexcept;
  void unpin_locked(tree_pin& pin) noexcept;
  [[nodiscard]] request_info use_of_locked(const sequence_state& s) noexcept;
  void link_locked(sequence_state& s) noexcept;
  void unlink_locked(sequence_state& s) noexcept;

  // Frees blocks until `wanted` are free. False, with nothing evicted, if that many cannot be had;
  // and false if they can, but some have to retire first: then a later attempt finds them free.
  // May throw std::bad_alloc, with nothing evicted.
  // `spared` is held by the caller on behalf of no sequence yet.
  // `root`: the namespace that wants them, whose own go first beyond its quota.
  [[nodiscard]] bool obtain_locked(std::int64_t wanted, node_id root, block_id spared = no_block);
  // All that can be evicted (may throw std::bad_alloc), or what can of one namespace that has a
  // quota.
  [[nodiscard]] std::int64_t evictable_locked(block_id spared = no_block,
                                              node_id root = no_node) const;
  [[nodiscard]] bool can_evict_locked(std::int64_t missing, block_id spared = no_block,
                                      node_id root = no_node) const;
  // Whether so many blocks cannot be had, as far as is known without a walk.
  [[nodiscard]] bool is_hopeless_locked(std::int64_t wanted, node_id root) const;
  // Walks if need be, so that the next request that asks for too much is hopeless.
  void know_room_locked(node_id root) const noexcept;
  // For errors: how many blocks are free or can be evicted, or what the quota leaves.
  [[nodiscard]] std::string room_locked(std::int64_t wanted, node_id root,
                                        block_id spared = no_block) const;
  // All, or those of a namespace that has a quota.
  [[nodiscard]] std::int64_t cached_locked(node_id root = no_node) const;
  [[nodiscard]] room_counts counts_locked() const noexcept;
  [[nodiscard]] room_counts counts_of_locked(node_id root) const;
  [[nodiscard]] room_counts recount_locked(node_id root, std::span<const node_id> nodes) const;
  [[nodiscard]] std::int64_t walk_locked(block_id spared, node_id root, std::int64_t& beside) const;
  [[nodiscard]] std::string check_room(
      const std::unordered_map<node_id, std::vector<node_id>>&) const;
  void look_ahead_locked(node_id next);
  std::int64_t give_up_locked(const victim& v, std::int64_t most);
  std::int64_t evict_locked(std::int64_t n);
  void evict_of_locked(node_id root, std::int64_t n);
  void trim_locked(node_id n, std::uint32_t count, bool evicted);
  void forget_outside_locked(std::span<const block_id> gone);
  void keep_prefix_limit_locked();

  // A prefix that stays.
  struct prefix_pin {
    std::string space;
    std::vector<token_id> tokens;
    std::int64_t depth = 0;  // blocks from the root to the end of what is held
    bool whole = true;       // all of it is cached and held; a new one counts for nothing yet
    lacking_pins::entry lacking{};
  };
  [[nodiscard]] status check_hints_locked(std::int64_t used, std::int64_t most, const char* option,
                                          const char* what) const;
  [[nodiscard]] tree_place cached_place_locked(std::span<const token_id> tokens,
                                               std::string_view space,
                                               std::uint64_t& matched) const;
  // Whether more of it is held than before.
  bool hold_pin_locked(mark_id m, prefix_pin& pin);
  // Host memory of one, and of the limit of a quota; what is held of them is the policy's.
  [[nodiscard]] static std::size_t bytes_of(const prefix_pin& pin) noexcept;
  using quota_map = parted_map<std::string, std::int64_t, name_hash, 7, std::equal_to<>>;
  [[nodiscard]] static std::size_t bytes_of(const quota_map::value_type& quota) noexcept;
  void settle_pins_locked(const sequence_state& s, node_id end);
  [[nodiscard]] lacking_pins::wanted wanted_locked(const prefix_pin& pin, tree_place held) const;
  [[nodiscard]] std::uint64_t wanted_place(std::string_view space) const noexcept {
    return lacking_pins::of_space(wanted_hash_(space));
  }
  [[nodiscard]] std::string check_hints() const;
  // Hashes of what the sequence has published, where the policy or announcements need them.
  void complete_path_hashes(sequence_state& s) const noexcept;
  [[nodiscard]] result<mark_id> make_hint_locked(sequence_state& s, mark_kind kind, double rank,
                                                 double expires);
  void leave_hints_locked(sequence_state& s, node_id end) noexcept;
  void drop_hints_locked(sequence_state& s) noexcept;

  // While it lives, what changes of counts_locked() is a namespace's.
  class room_scope;
  void count_for_locked(node_id root) noexcept;

  [[nodiscard]] std::unordered_map<node_id, std::vector<node_id>> nodes_by_root_locked() const;
  [[nodiscard]] std::vector<node_id> nodes_of_locked(node_id root) const;

  // The lock; on release, settles the tree, and tells the listener if a watermark was crossed.
  class guard;

  cache_options options_;
  mutable std::mutex mutex_;
  block_pool pool_;
  failed_blocks failed_;
  radix_tree tree_;
  std::optional<slot_map> slots_;  // absent without logits rows
  namespace_table spaces_;
  std::optional<retention> policy_;
  path_digest path_digest_;     // what the policy and announcements know paths by
  name_hash wanted_hash_;       // of namespaces of pinned prefixes
  bool always_hashes_ = false;  // the policy needs hashes of every path
  std::atomic<std::int64_t> announcements_{0};
  parted_map<mark_id, prefix_pin, id_hash, 6> pins_;
  lacking_pins by_lack_;           // pins_, by what is not cached of them
  running_total pinned_depths_;    // blocks of their paths, each counted as often as it is pinned
  quota_map quota_limits_;         // by namespace
  std::size_t hint_bytes_ = 0;     // of pins_ and quota_limits_
  running_total borrowed_;         // counts what the pool does not: blocks shared once more
  mutable room_walked walked_;     // through all
  node_id counted_for_ = no_node;  // whose room is changing
  room_counts counts_before_;      // counts_locked() when that began
  hit_meter hits_;
  sequence_state* open_ = nullptr;  // list of open sequences
  std::int64_t open_count_ = 0;
  std::uint64_t next_id_ = 1;
  std::uint64_t requests_ = 0;
  pressure pressure_ = pressure::none;
  node_id named_ = no_node;            // the last victim
  std::uint32_t turn_ = 0;             // counts victims
  std::array<node_id, 8> upcoming_{};  // victims to come, as the policy saw it some turns ago
  bool streams_rows_ = false;          // the rows are too many to stay in the processor's caches
  cache_statistics counted_;           // the members that only ever grow
};

// Where no namespace has a quota nothing is counted. Scopes nest.
class cache_core::room_scope {
 public:
  room_scope(cache_core& core, node_id root) noexcept
      : core_(core), counts_(!core.policy_->quotas().empty()), outer_(core.counted_for_) {
    if (counts_) core_.count_for_locked(root);
  }
  ~room_scope() {
    if (counts_) core_.count_for_locked(outer_);
  }
  room_scope(const room_scope&) = delete;
  room_scope& operator=(const room_scope&) = delete;

 private:
  cache_core& core_;
  bool counts_;
  node_id outer_;
};

class cache_core::guard {
 public:
  explicit guard(cache_core& core) : core_(core), lock_(core.mutex_) {}
  ~guard();
  guard(const guard&) = delete;
  guard& operator=(const guard&) = delete;

 private:
  cache_core& core_;
  std::unique_lock<std::mutex> lock_;
};

}  // namespace radixkv::detail
