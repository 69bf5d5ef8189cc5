// One request's block table: the matched prefix, shared, and its own tail.
//
// Positions: [0, cached_tokens()) need no prefill; [0, filled_tokens()) have their KV computed;
// [0, tokens()) are known; [0, capacity_tokens()) have room in the block table.
// filled ≤ tokens ≤ capacity always.
//
// Writing. The engine may write KV for positions ≥ filled_tokens() at the time of the pass. Where
// the block of such a position is shared, the call that makes the room (open, append, reserve) has
// planned a copy into the caller's step_plan: run that plan before the pass.
//
// Thread-safety: a sequence is used by one thread at a time; different sequences of a cache may be
// used by different threads. Any order of destruction is fine, the cache's handle included.
// Errors leave the sequence, the cache and the plan as they were.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "radixkv/export.h"
#include "radixkv/result.h"
#include "radixkv/step_plan.h"
#include "radixkv/types.h"

namespace radixkv {

namespace detail {
struct sequence_state;
}

// What a commit did, in tokens and blocks.
struct commit_result {
  std::int64_t published_tokens = 0;  // now matchable in all, from the start of the sequence
  std::int64_t new_blocks = 0;        // blocks the index took over by this call
  std::int64_t duplicate_blocks =
      0;                       // of this sequence's blocks, those whose tokens another request
                               // had published first; freed when the sequence is released
  logits_slot slot = no_slot;  // where commit_logits stored the row
};

class RADIXKV_EXPORT sequence {
 public:
  sequence() noexcept;  // released
  sequence(sequence&&) noexcept;
  sequence& operator=(sequence&&) noexcept;
  sequence(const sequence&) = delete;
  sequence& operator=(const sequence&) = delete;
  ~sequence();  // releases

  [[nodiscard]] bool released() const noexcept;
  [[nodiscard]] std::uint64_t id()
      const noexcept;  // unique within the cache, from 1; 0 if released

  [[nodiscard]] std::int64_t tokens() const noexcept;
  [[nodiscard]] std::int64_t cached_tokens() const noexcept;  // found by open and served
  [[nodiscard]] std::int64_t matched_tokens() const noexcept;  // found by open, before the n−1 rule
  [[nodiscard]] std::int64_t filled_tokens() const noexcept;
  [[nodiscard]] std::int64_t committed_tokens() const noexcept;
  [[nodiscard]] std::int64_t capacity_tokens() const noexcept;
  // Ids of the blocks of [0, capacity_tokens()). Valid until the next non-const call.
  [[nodiscard]] std::span<const block_id> block_table() const noexcept;
  // The row with the logits of the whole prompt if they are cached: no forward pass is needed to
  // sample the first token. Else no_slot. The row stays until the sequence is released or grows.
  [[nodiscard]] logits_slot cached_logits() const noexcept;
  // Copies tokens [first, first + out.size()) to out. Errors: released, invalid_argument (not
  // within [0, tokens())), with nothing written.
  status read_tokens(std::int64_t first, std::span<token_id> out) const;

  // Adds known tokens (a chunk of prompt, the user's next turn). Their KV is not computed yet.
  // Errors: released, out_of_blocks, invalid_argument (longer than the pool or the limit).
  status append(std::span<const token_id> tokens, step_plan& plan);
  // Makes room for n tokens beyond tokens(), whose ids are not yet known (decode 1, or 1 + k
  // drafts).
  status reserve(std::int64_t n, step_plan& plan);
  // The pass over everything known (and over drafts in reserved room) has run; `tokens` are its
  // outcome: accepted drafts and the sampled token. Afterwards all but the last token are filled.
  // Errors: invalid_argument when reserve made less room.
  status accept(std::span<const token_id> tokens);
  // A pass has computed KV of [0, tokens) (chunked prefill). Errors: beyond tokens(), or fewer than
  // are filled already.
  status mark_filled(std::int64_t tokens);

  // A second sequence with the same tokens; everything is shared until one of them writes.
  [[nodiscard]] result<sequence> fork();
  // Rolls back to n tokens and returns the room behind them (rejected drafts).
  // Errors: n > tokens(), or n < committed_tokens(): those are published.
  status truncate(std::int64_t n);

  // Publishes the first n tokens (default: all filled ones): they become matchable.
  // REQUIRES: the work that fills them is ordered before any work planned after this call; the
  // plans that open, append and reserve wrote to for it have been run, and if one failed,
  // report_failure was called before: what is published stays.
  // Errors: n > filled_tokens(). Fewer than committed already: nothing to do.
  result<commit_result> commit();
  result<commit_result> commit(std::int64_t n);
  // The same, and stores row `row` of the batch's logits as those that follow token n−1; the store
  // is added to `after`, to be run once the pass has produced the logits. Without logits rows in
  // the options, or if every row is in use, the result's slot is no_slot and nothing is stored.
  result<commit_result> commit_logits(std::int64_t n, std::int32_t row, step_plan& after);
  // Adds the load of cached_logits() into row `row` to the plan. Errors: no row is cached.
  status load_logits(std::int32_t row, step_plan& plan);

  // Tells the policy how many tokens were generated, where they are not accepted here; what is
  // outside 0 … max_sequence_tokens counts as the nearer of these.
  void note_output(std::int64_t tokens) noexcept;

  // Hints. They are about this request alone (a fork has none of its parent's), take effect when it
  // is released, and are forgotten with the blocks that they are about. What is matched again later
  // without hints keeps those it has, but for a time to live and ended(), which end with any use.
  // A prefix outlives what follows it, so what is said of tokens holds for all before them, too.
  // Errors: released, invalid_argument naming the value and the limit, busy (max_sequence_hints are
  // in use), out_of_memory.

  // Tokens [first, first + n), as far as they are published, are evicted after everything of a
  // lower priority and, below 0, before everything of a higher one. 0 is what all have that say
  // nothing. Within one priority above 0 the least recently used go first. −100 … 100; at most 64
  // ranges; the same range again replaces, 0 takes back. Where sequences have left more than 64
  // that end in the same run of blocks, one stands for several: more stays, or goes, than was said.
  status set_priority(std::int64_t first, std::int64_t n, int priority);
  // What this sequence leaves behind and others do not share goes first once so many seconds (of
  // the cache's clock) have passed since its release without a use. Until then the policy decides.
  // Within (0, 1e9]; the latest call counts.
  status set_ttl(double seconds);
  // The sequence's tokens will be used again, with this probability, within so many seconds from
  // now (a tool runs, a user types). They stay for that long if that promises more hits per block
  // and second than the cache has had of late; else the policy decides. [0, 1] and (0, 1e9]; the
  // latest of this and ended() counts, and probability 0 is ended().
  status expect_return(double probability, double within_seconds);
  // Nobody comes back (the session was closed): what others do not share goes first.
  status ended();

  // Gives everything back; published blocks stay cached. Idempotent.
  void release() noexcept;

 private:
  friend class kv_cache;
  explicit sequence(std::unique_ptr<detail::sequence_state> state) noexcept;
  std::unique_ptr<detail::sequence_state> state_;
};

}  // namespace radixkv
