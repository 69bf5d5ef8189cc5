// The parts of a cache and the one lock around them; what sequences and the façade are made of.
//
// What takes time with the length of a prompt (comparing, copying tokens) happens outside of the
// lock. Functions named *_locked need it. No function throws; allocation failures become
// out_of_memory.
#pragma once

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "csrc/core/block_pool.h"
#include "csrc/core/eviction/path_digest.h"
#include "csrc/core/namespace_table.h"
#include "csrc/core/radix_tree.h"
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
  [[nodiscard]] result<state_ptr> open(std::span<const token_id> tokens, std::string_view space,
                                       step_plan& plan);
  // Opens until one fails; its error goes to `stopped`. REQUIRES: room in `opened` for all.
  void open_batch(std::span<const open_request> requests, step_plan& plan,
                  std::vector<state_ptr>& opened, error& stopped);

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
    std::vector<block_id> table;
    tree_match found;
    bool valid = false;  // found counts, if the tree still says so
  };

  [[nodiscard]] double now() const;
  [[nodiscard]] bool try_match(std::span<const token_id> tokens, std::string_view space,
                               std::span<block_id> table, tree_match& out) const;
  [[nodiscard]] bool match_locked(std::span<const token_id> tokens, std::string_view space,
                                  std::span<block_id> table, tree_match& out) const;
  void to_prefix_match(const tree_match& m, std::span<const token_id> tokens,
                       prefix_match& out) const;
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

  [[nodiscard]] status make_room(sequence_state& s, std::int64_t tokens, step_plan& plan);
  // The node that holds the partial tail that the sequence has published, and its blocks up to it;
  // no_node if there is none, or it went.
  [[nodiscard]] tree_place published_tail_locked(const sequence_state& s) const noexcept;
  [[nodiscard]] bool writable_locked(const sequence_state& s, std::size_t index) const noexcept;

  void commit_locked(sequence_state& s, std::int64_t n, commit_result& out, bool& out_of_memory);
  // Offers to the listener what of `mine`, from depth `first` (in blocks) of the path to `end` on,
  // the index holds.
  void offer_locked(node_id end, std::int64_t first, std::span<const block_id> mine) noexcept;
  void release_locked(sequence_state& s) noexcept;
  void repin_locked(sequence_state& s, tree_place place) noexcept;
  void unpin_locked(node_id n) noexcept;
  [[nodiscard]] request_info use_of_locked(const sequence_state& s) noexcept;
  void link_locked(sequence_state& s) noexcept;
  void unlink_locked(sequence_state& s) noexcept;

  // Frees blocks until `wanted` are free. False, with nothing evicted, if that many cannot be had;
  // and false if they can, but some have to retire first: then a later attempt finds them free.
  // May throw std::bad_alloc, with nothing evicted.
  // `spared` is held by the caller on behalf of no sequence yet.
  [[nodiscard]] bool obtain_locked(std::int64_t wanted, block_id spared = no_block);
  // May throw std::bad_alloc.
  [[nodiscard]] std::int64_t evictable_locked(block_id spared = no_block) const;
  // For errors: how many blocks are free or can be evicted.
  [[nodiscard]] std::string room_locked(block_id spared = no_block) const;
  std::int64_t evict_locked(std::int64_t n);
  void trim_locked(node_id n, std::uint32_t count, bool evicted);
  void keep_prefix_limit_locked();

  // The lock; on release, tells the listener if a watermark was crossed.
  class guard;

  cache_options options_;
  mutable std::mutex mutex_;
  block_pool pool_;
  radix_tree tree_;
  std::optional<slot_map> slots_;  // absent without logits rows
  namespace_table spaces_;
  std::unique_ptr<eviction_policy> policy_;
  path_digest path_digest_;         // what the policy knows paths by
  sequence_state* open_ = nullptr;  // list of open sequences
  std::int64_t open_count_ = 0;
  std::uint64_t next_id_ = 1;
  std::uint64_t requests_ = 0;
  pressure pressure_ = pressure::none;
  bool streams_rows_ = false;  // the rows are too many to stay in the processor's caches
  cache_statistics counted_;   // the members that only ever grow
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
