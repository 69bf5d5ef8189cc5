// What the kernels of batch_dedup share: the batch, the memory between them, a prompt of the batch.
#pragma once

#include <cstdint>

#include "kernels/batch_dedup.h"
#include "kernels/prefix_table.h"

namespace radixkv::kernels {

inline constexpr std::uint32_t full_warp = 0xffffffffu;
inline constexpr std::uint32_t no_prompt = 0xffffffffu;
inline constexpr std::uint64_t no_head = ~std::uint64_t{0};

// Slot s of these is slot s of the block table: a whole block of a prompt, or unused.
struct dedup_memory {
  std::uint32_t* prompts;  // the prompt whose uncached block this is, or no_prompt
  std::uint64_t* sums;
  unsigned long long* heads;  // an open-addressing table of 2^log2_heads: see dedup_heads.cuh
  unsigned long long* best;   // per prompt: shared depth in blocks × 2³² + representative
  void* temporary;            // CUB's
  std::size_t temporary_bytes;
  std::size_t bytes;  // of everything
};

struct dedup_job {
  batch_dedup_arguments a;
  dedup_memory memory;
  std::uint32_t slot_count;
  std::uint32_t log2_block_tokens;
  std::uint32_t log2_heads;
};

struct dedup_prompt {
  const std::uint32_t* tokens;
  std::int64_t row;
  std::uint32_t blocks;   // whole
  std::uint32_t matched;  // of them
  std::int32_t parent;    // the last matched block, or the namespace's root
};

__device__ inline dedup_prompt load_prompt(const dedup_job& job, std::uint32_t p) {
  const std::int64_t begin = job.a.token_offsets[p];
  const std::int64_t end = job.a.token_offsets[p + 1];
  dedup_prompt prompt = {};
  prompt.tokens = job.a.tokens + begin;
  prompt.row = begin >> job.log2_block_tokens;
  const bool valid = begin >= 0 && begin <= end && end <= job.a.token_count;
  prompt.blocks = valid ? static_cast<std::uint32_t>((end - begin) >> job.log2_block_tokens) : 0;
  prompt.matched = min(static_cast<std::uint32_t>(max(job.a.matched_blocks[p], 0)), prompt.blocks);
  const std::int32_t namespace_id = job.a.namespace_ids == nullptr ? 0 : job.a.namespace_ids[p];
  prompt.parent = prompt.matched > 0 ? job.a.block_table[prompt.row + prompt.matched - 1]
                                     : root_parent(namespace_id);
  return prompt;
}

}  // namespace radixkv::kernels
