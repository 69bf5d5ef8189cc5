// The prefix index mirrored on a CUDA device: whole batches of prompts are matched there, without
// the host. It is fed by what the cache publishes and drops; its answer is the cache's, floored to
// whole blocks, as of the last update.
//
// 1. A match reads one published state: changes become visible all together, by update().
// 2. Two tables: a match reads one while the other is updated; both sides order themselves on the
//    device, by events. Matches are ordered among themselves.
// 3. A block that was removed may still be named by a match that was launched before the update
//    that published its removal. Its KV memory may be filled anew only once retired() has reached
//    that update's number: see remove(), match() and finish().
// 4. Nothing but create, synchronize and destruction allocates device memory or waits.
// 5. Every call may fail with out_of_memory, too, when the host has none for what it does or for
//    the message of another error. Nothing is half done then: call again.
//
// Thread-safety: every member may be called from any thread; calls are serialised by a lock, which
// synchronize() does not hold while it waits (unless an event could not be recorded before).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include <cuda_runtime_api.h>

#include "radixkv/export.h"
#include "radixkv/result.h"
#include "radixkv/types.h"

namespace radixkv {

namespace detail {
class cuda_index_state;
}

struct cuda_index_options {
  std::int64_t blocks = 0;                   // of the cache
  std::uint32_t block_tokens = 16;           // of the cache; 1 … 1024 here
  std::uint32_t max_prompts = 4096;          // of one match
  std::int64_t max_prompt_tokens = 4 << 20;  // of one match, all prompts together
  std::uint32_t staging_bytes = 4 << 20;     // pinned memory that updates go through
  std::uint32_t matches_in_flight = 64;      // launched and not finished
  bool find_shared = false;                  // allocates the workspace of find_shared()
  // Keys the hashes, against inputs that collide on purpose; the same on all devices that are fed
  // the same updates. 0: random.
  std::uint64_t secret = 0;
  std::uint32_t hash_bits = 62;  // fewer only in tests, to force collisions: answers stay the same

  [[nodiscard]] status validate() const;
};

// Prompts of one match and where its results go; all pointers are device memory. Prompt p is
// tokens[offsets[p]] … tokens[offsets[p + 1] − 1].
struct cuda_match_batch {
  const token_id* tokens = nullptr;  // token_count
  // prompts + 1, ascending from 0 to token_count. Where they do not, the batch's results are
  // undefined, but the match ends, and stays in its memory.
  const std::int64_t* offsets = nullptr;
  const std::int32_t* namespace_ids = nullptr;  // prompts, each ≥ 0; null: all 0
  std::uint32_t prompts = 0;
  std::int64_t token_count = 0;
  // Written: how many whole blocks of each prompt are cached, and their ids from
  // block_table[offsets[p] / block_tokens] on. The rest of a prompt's row is undefined.
  std::int32_t* matched_blocks = nullptr;  // prompts
  block_id* block_table = nullptr;         // token_count / block_tokens
};

// What find_shared() writes, device memory, one element per prompt of the batch. Among the prompts
// before p of p's namespace that have whole blocks in common with p beyond those that are cached,
// representatives[p] is the one that has the most (the lowest of those that tie), and
// shared_blocks[p] says how many. Without any: p itself and 0.
struct cuda_shared_prefixes {
  std::int32_t* representatives = nullptr;
  std::int32_t* shared_blocks = nullptr;
};

class RADIXKV_EXPORT cuda_index {
 public:
  // Allocates both tables (about 2 × blocks × (96 to 192 + 4 × block_tokens) bytes) and the
  // workspaces of match() and, if options ask for it, find_shared() on the current device, and
  // staging_bytes of pinned memory. Synchronises. Errors: invalid_argument, out_of_memory, device.
  [[nodiscard]] static result<cuda_index> create(const cuda_index_options& options);

  cuda_index(cuda_index&&) noexcept;
  cuda_index& operator=(cuda_index&&) noexcept;
  ~cuda_index();  // waits for what it has enqueued

  // A whole block became matchable. `parent` is the block before it in its path, no_block for the
  // first one of a namespace; tokens are the block's own, block_tokens of them. Parents come first.
  // Errors, changing nothing: invalid_argument (an id out of range or in the index already, an
  // unknown parent, a wrong number of tokens).
  status add(block_id block, block_id parent, std::int32_t namespace_id,
             std::span<const token_id> tokens);
  // A block is no longer matchable. Its children went before it. Gives the number of the update
  // that will publish this: the block may be filled anew once retired() has reached it. Errors,
  // changing nothing: not_found, invalid_argument (the block has children).
  result<std::uint64_t> remove(block_id block);

  // Enqueues the publication of everything added and removed so far.
  // Errors: busy (staging is in flight: what fitted is enqueued, and matches go on reading the
  // state before; call again), invalid_argument (a capturing stream, one of another device),
  // device, out_of_memory (published() has not advanced; call again).
  status update(cudaStream_t stream);

  // Enqueues a match, one launch. Gives a ticket, to be handed to finish().
  // Errors: invalid_argument (null pointers, sizes beyond the options, a capturing stream, one of
  // another device), busy (`matches_in_flight` matches are not finished), device (the match may
  // have been enqueued: synchronize() before its memory is used otherwise).
  result<std::uint64_t> match(cudaStream_t stream, const cuda_match_batch& batch);
  // Enqueues the search for prefixes that prompts of a batch share and nobody has cached, so that
  // they are computed once. Reads the batch and what match() wrote for it: enqueue it behind that
  // match, on its stream or ordered by events. Calls are ordered among themselves, on the device.
  // Errors: invalid_argument (options.find_shared is off, null or misaligned pointers, sizes beyond
  // the options, a capturing stream, one of another device), device.
  status find_shared(cudaStream_t stream, const cuda_match_batch& batch,
                     const cuda_shared_prefixes& results);
  // The results of a match are no longer used by anything behind what is on `stream` now.
  // Errors, with the match unfinished: not_found (no such ticket, or finished already),
  // invalid_argument (a capturing stream, one of another device), device.
  status finish(cudaStream_t stream, std::uint64_t ticket);

  // The number of the last update that is published; 0 before the first.
  [[nodiscard]] std::uint64_t published() const;
  // All matches that were launched before this update was published are finished on the device.
  [[nodiscard]] result<std::uint64_t> retired();

  // Waits until everything that was enqueued has run, and what finish() was called behind: if every
  // match is finished, retired() has reached published() then. Errors: device.
  status synchronize();
  // Blocks in the index, changes not yet published included.
  [[nodiscard]] std::int64_t size() const;
  // Empty when the host's invariants hold, else the first violation. For tests.
  [[nodiscard]] std::string check_invariants() const;

 private:
  explicit cuda_index(std::unique_ptr<detail::cuda_index_state> state) noexcept;
  std::unique_ptr<detail::cuda_index_state> state_;
};

}  // namespace radixkv
