// The cache: which KV blocks exist for a token prefix, who shares them, and what has to be copied.
//
// Thread-safety: every member may be called from any thread. Matching runs without a lock beside a
// writer; what changes the cache takes one short lock (never while tokens are compared or copied).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "radixkv/eviction_policy.h"
#include "radixkv/export.h"
#include "radixkv/hints.h"
#include "radixkv/options.h"
#include "radixkv/result.h"
#include "radixkv/sequence.h"
#include "radixkv/step_plan.h"
#include "radixkv/types.h"

namespace radixkv {

namespace detail {
class cache_core;
}

// The longest cached prefix of a prompt, at one moment (nothing is pinned).
struct prefix_match {
  std::int64_t tokens = 0;     // matched, sub-block remainder included
  std::int64_t blocks = 0;     // whole blocks among them
  logits_slot slot = no_slot;  // row with the logits of the whole prompt, if cached
};

struct cache_statistics {
  std::int64_t requests = 0;       // sequences opened
  std::int64_t requests_hit = 0;   // of them, with a match ≥ min_prefix_tokens
  std::int64_t short_matches = 0;  // matches below min_prefix_tokens, counted as misses
  std::int64_t tokens_looked_up = 0;
  std::int64_t tokens_hit = 0;  // served from cache
  std::int64_t logits_hits = 0;
  std::int64_t evicted_blocks = 0;
  std::int64_t copied_blocks = 0;     // copies planned
  std::int64_t duplicate_blocks = 0;  // published by two requests; the second copy was dropped
  std::int64_t failed_opens = 0;      // out of blocks

  std::int64_t blocks = 0;
  std::int64_t blocks_free = 0;
  std::int64_t blocks_retiring = 0;  // given up, but the listener's readers may still name them
  std::int64_t blocks_used = 0;      // held by sequences or the index
  std::int64_t blocks_shared = 0;    // held by two or more of: sequences, the index
  std::int64_t blocks_cached = 0;    // held by the index
  std::int64_t cached_tokens = 0;
  std::int64_t cached_prefixes = 0;  // leaves of the index
  std::int64_t namespaces = 0;
  std::int64_t sequences = 0;  // open now
  std::int64_t logits_used = 0;

  std::int64_t announcements = 0;    // requests announced now
  std::int64_t pinned_prefixes = 0;  // handles of pin_prefix
  std::int64_t sequence_hints = 0;   // marks of sequences, open and released
  policy_statistics policy;          // what the eviction policy brings; zeros if it does not count

  std::int64_t nodes = 0;
  std::int64_t index_bytes = 0;  // everything on the host that grows with what is cached

  [[nodiscard]] double hit_rate() const noexcept {
    return tokens_looked_up
               ? static_cast<double>(tokens_hit) / static_cast<double>(tokens_looked_up)
               : 0.0;
  }
};

struct sequence_info {
  std::uint64_t id = 0;
  std::int64_t tokens = 0;
  std::int64_t cached_tokens = 0;
  std::int64_t blocks = 0;
};

// A request of open_batch. The spans must stay valid during the call.
struct open_request {
  std::span<const token_id> tokens;
  std::string_view name_space;
  announcement* announced = nullptr;  // withdrawn if the request is opened
};

struct open_batch_result {
  std::vector<sequence> sequences;  // of requests 0 … sequences.size()-1
  error stopped;                    // why the next one was not opened; empty message if all were
};

class RADIXKV_EXPORT kv_cache {
 public:
  // Errors: invalid_argument naming the option, its value and its limit; not_found (a policy of
  // that name); out_of_memory.
  [[nodiscard]] static result<kv_cache> create(cache_options options);

  kv_cache(kv_cache&&) noexcept;
  kv_cache& operator=(kv_cache&&) noexcept;
  ~kv_cache();  // open sequences keep what they need alive

  [[nodiscard]] const cache_options& options() const noexcept;

  // Longest cached prefix of `tokens` in the namespace, an opaque byte string. Takes no lock.
  [[nodiscard]] prefix_match match(std::span<const token_id> tokens,
                                   std::string_view name_space = {}) const;
  // The same, writing the matched whole blocks' ids to `table` (as many as fit).
  [[nodiscard]] prefix_match match(std::span<const token_id> tokens, std::string_view name_space,
                                   std::span<block_id> table) const;
  // Matches many prompts at once, their cache misses overlapping. `out` has one element for each
  // request; `tables` is empty, or has one span for each. Errors: invalid_argument (of another
  // length), with nothing written.
  status match_batch(std::span<const open_request> requests, std::span<prefix_match> out,
                     std::span<const std::span<block_id>> tables = {}) const;

  // Opens a sequence over a prompt: pins the longest cached prefix, allocates blocks for the rest
  // (evicting if needed), plans the copy of a partly matched block. At most n−1 of n tokens are
  // served unless the logits of the whole prompt are cached.
  // Errors: out_of_blocks (ordinary: everything else is pinned), invalid_argument (empty prompt,
  // more tokens than the pool can ever hold).
  [[nodiscard]] result<sequence> open(std::span<const token_id> tokens, std::string_view name_space,
                                      step_plan& plan);
  // The same for a request that was announced, which is withdrawn if it is opened: a request that
  // is refused goes on waiting. Errors: also invalid_argument for another cache's announcement.
  [[nodiscard]] result<sequence> open(std::span<const token_id> tokens, std::string_view name_space,
                                      step_plan& plan, announcement& announced);
  // Opens requests in order until one fails; those before it stay open, in the plan and usable.
  [[nodiscard]] open_batch_result open_batch(std::span<const open_request> requests,
                                             step_plan& plan);

  // Gives up to n blocks up, least valuable first. Returns how many. They are free at once, or,
  // with a listener that took them, when it has retired them.
  std::int64_t evict(std::int64_t n);
  // Drops everything that no open sequence uses. Returns the blocks freed. Others wait as long as
  // it takes: some 0.25 µs for each node that goes, 0.5 more for each namespace.
  std::int64_t clear();
  // True if n blocks are free or could be had by eviction, now (with a listener: once it has
  // retired what it was offered). False, too, when the host has no memory to find out.
  [[nodiscard]] bool can_allocate(std::int64_t n) const;

  // A request waits in the engine's queue: what is cached of its prompt, now or until it is opened,
  // is evicted last; what is published of it from now on in steps of some tokens, see announcement.
  // Costs a match and a hash for each of these steps.
  // Errors: invalid_argument (empty, or longer than the pool can ever hold), busy
  // (max_announcements wait already), out_of_memory.
  [[nodiscard]] result<announcement> announce(std::span<const token_id> tokens,
                                              std::string_view name_space = {});
  // Keeps a prefix (a system prompt, a tool's description): see pinned_prefix. Nothing need be
  // cached of it yet. Errors: as announce, for max_pinned_prefixes.
  [[nodiscard]] result<pinned_prefix> pin_prefix(std::span<const token_id> tokens,
                                                 std::string_view name_space = {});
  // A namespace may take at most so many blocks, cached and in use; 0: no limit (any more). What it
  // wants beyond takes the place of its own, the least recently used first; a sequence for which
  // that is not enough is refused with out_of_blocks, or, if it could never fit, invalid_argument.
  // Holds whether or not the namespace has anything cached. What exceeds the limit now is evicted
  // now, as far as no sequence uses it and nothing pins it. Blocks that forks share count once.
  // Set before the namespace has anything cached, or changed, it costs what it evicts; else, and
  // when it is taken back, others wait for a look at every node of the index (3 ns each) and at
  // each of the namespace's (40 ns). Errors: invalid_argument (not within 0 and max_blocks), busy
  // (max_quotas are set), out_of_memory.
  status set_quota(std::string_view name_space, std::int64_t blocks);

  // What the policy has learnt, to be loaded after a restart; empty if it learns nothing.
  // Errors: out_of_memory.
  [[nodiscard]] result<std::vector<std::byte>> save_policy() const;
  // Errors: corrupt (damaged, or of another version), invalid_argument (a policy that learns
  // nothing). The policy then stays as it was.
  status load_policy(std::span<const std::byte> learnt);

  // An executor failed to run `plan` (wholly or in part): sequences that own destinations of its
  // copies can no longer be committed (errc::released), and logits rows that it stores are
  // forgotten.
  void report_failure(const step_plan& plan);

  // In constant time.
  [[nodiscard]] cache_statistics statistics() const;
  // In order of id. Errors: out_of_memory.
  [[nodiscard]] result<std::vector<sequence_info>> sequences() const;
  // The index as text, one node a line, at most `max_lines`; bytes of names that are not printable
  // as \xNN. Errors: out_of_memory.
  [[nodiscard]] result<std::string> dump(std::size_t max_lines = 1000) const;
  // Visits every cached prefix (leaf): its namespace and tokens. For tests and tools; takes the
  // lock. `visit` must not call the cache; what it throws is passed on, but for std::bad_alloc.
  // Returns when visit returns false. Errors: out_of_memory, when some may have been visited.
  status for_each_prefix(const std::function<bool(std::string_view name_space,
                                                  std::span<const token_id> tokens)>& visit) const;

  // Recomputes the invariants (docs/design.md); empty when they hold, else the first violation, or
  // "no host memory". Takes time proportional to the pool.
  [[nodiscard]] std::string check_invariants() const;

 private:
  [[nodiscard]] status check_announced(const announcement& announced) const;
  explicit kv_cache(std::shared_ptr<detail::cache_core> core) noexcept;
  std::shared_ptr<detail::cache_core> core_;
};

}  // namespace radixkv
