// Finds prompts of a batch that share a prefix which nobody has cached yet, so that a scheduler
// computes it once: after prefix_match, on the device, no host synchronisation.
//
// Every uncached whole block of the batch gets the hash of its prefix, from the last cached block
// on (a scan by CUB); a hash table finds the lowest prompt that has it. Token comparison decides;
// where hashes lied, the prompt is compared with all before it.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/prefix_hash.h"

namespace radixkv::kernels {

struct batch_dedup_arguments {
  prefix_hash_key hash;
  std::uint32_t block_tokens = 0;  // power of two, 1 … 1024

  // Device memory: the batch and the results of its match, as in prefix_match_arguments.
  const std::uint32_t* tokens = nullptr;
  const std::int64_t* token_offsets = nullptr;  // REQUIRES: not decreasing, 0 … token_count
  const std::int32_t* namespace_ids = nullptr;  // null: all 0
  std::uint32_t prompt_count = 0;
  std::int64_t token_count = 0;  // at most 2³¹ − 1 blocks
  const std::int32_t* matched_blocks = nullptr;
  const std::int32_t* block_table = nullptr;

  // Device memory, written, prompt_count each. Among the prompts before p that have whole blocks in
  // common with p beyond what is cached, `representatives[p]` is the one that has the most of them
  // (the lowest of those that tie), and shared_blocks[p] says how many. Without any: p itself and
  // 0.
  std::int32_t* representatives = nullptr;
  std::int32_t* shared_blocks = nullptr;

  // Device memory, 256-byte aligned; any content. One call at a time may use it.
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

// Bytes of workspace for at most so many prompts and tokens. Errors, with `bytes` 0:
// cudaErrorInvalidValue (more prompts or blocks than there may be, an invalid block_tokens),
// others if the device could not be asked.
[[nodiscard]] cudaError_t batch_dedup_workspace_bytes(std::uint32_t prompt_count,
                                                      std::int64_t token_count,
                                                      std::uint32_t block_tokens,
                                                      std::size_t& bytes);

// Enqueues the search on `stream` (several launches); never synchronises, allocates nothing, may be
// captured. Errors, before anything is launched: cudaErrorInvalidValue (null pointers, sizes out of
// range, a workspace that is too small), cudaErrorMisalignedAddress, others if the device could not
// be asked. After the error of a launch, those before it are enqueued. No prompt is success.
[[nodiscard]] cudaError_t batch_dedup(cudaStream_t stream, const batch_dedup_arguments& arguments);

// CUB's kernels can only be loaded by running them: enqueues a scan of one item on `stream`, which
// overwrites the workspace, of any size that batch_dedup_workspace_bytes says.
[[nodiscard]] cudaError_t load_batch_dedup(cudaStream_t stream, void* workspace,
                                           std::size_t workspace_bytes);

}  // namespace radixkv::kernels
