// Matches a batch of prompts against the index on the device: one launch, no host synchronisation.
//
// A prompt is cut into tiles of 64 units (1,024 tokens when blocks have 16 or more), a warp each. A
// tile's prefix hash comes from its predecessors by decoupled look-back (Merrill and Garland 2016).
// Tiles of a prompt are released in segments that triple (2, 6, 18, … tiles), each when the one
// before it matched whole, so that at most 3 × matched + 2 tiles of a prompt are read. Prompts of
// at most 32 units share a warp. A hit is a candidate; tokens and parent decide. Where they differ
// (a hash collision), one warp walks the rest of that prompt's chain through all entries of each
// key; long prompts are left for that to the thread block that finishes last.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/prefix_table.h"

namespace radixkv::kernels {

struct prefix_match_arguments {
  prefix_table table;
  prefix_hash_key hash;  // the one that the table's keys were computed with

  // Device memory. Prompt p is tokens[token_offsets[p]] … tokens[token_offsets[p + 1] − 1].
  // REQUIRES: offsets do not decrease; from 0 … token_count. Where they do, results of the batch
  // are undefined (a prompt that is outside of the batch or, being long, overlaps others counts as
  // empty), and nothing else: the match ends, stays in its memory and leaves its workspace as it
  // found it. `tokens` is 4-byte aligned, and nothing before it or after its token_count tokens is
  // read.
  const std::uint32_t* tokens = nullptr;
  const std::int64_t* token_offsets = nullptr;  // prompt_count + 1
  const std::int32_t* namespace_ids = nullptr;  // prompt_count, each ≥ 0; null: all 0
  std::uint32_t prompt_count = 0;
  std::int64_t token_count = 0;  // below 2³¹

  // Device memory, written. Results of a prompt: how many of its whole blocks are cached, and their
  // ids at block_table[token_offsets[p] / block_tokens + i]: rows never overlap. Of a row only the
  // matched blocks are defined afterwards.
  std::int32_t* matched_blocks = nullptr;  // prompt_count
  std::int32_t* block_table = nullptr;     // token_count / block_tokens

  // Device memory, 16-byte aligned, prefix_match_workspace_bytes() long, zeroed once before its
  // first use. A match leaves it as it found it. One match at a time may use it.
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;

  // Multiprocessors to fill; 0: ask the runtime.
  std::int32_t multiprocessors = 0;
};

// Bytes of workspace for batches of at most so many prompts and tokens in total. Grows with both.
[[nodiscard]] std::size_t prefix_match_workspace_bytes(std::uint32_t prompt_count,
                                                       std::int64_t token_count,
                                                       std::uint32_t block_tokens);

// Enqueues the match as one launch on `stream`; never synchronises, allocates nothing, may be
// captured. The result equals what a trie over the table's blocks gives, whatever collides. Errors,
// before anything is launched: cudaErrorInvalidValue (a null pointer, a block size that is not a
// power of two up to 1024, a workspace that is too small, sizes out of range),
// cudaErrorMisalignedAddress. No prompt is success.
[[nodiscard]] cudaError_t prefix_match(cudaStream_t stream,
                                       const prefix_match_arguments& arguments);

// For an index of such blocks.
[[nodiscard]] cudaError_t load_prefix_match(std::uint32_t block_tokens);

}  // namespace radixkv::kernels
