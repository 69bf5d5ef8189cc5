// A match as its kernel gets it, and what a prompt of it looks like tile by tile.
#pragma once

#include <climits>
#include <cstdint>

#include "kernels/prefix_resolve.cuh"
#include "kernels/prefix_schedule.cuh"
#include "kernels/prefix_table.h"

namespace radixkv::kernels::detail {

// 28 warps a multiprocessor, as many as the shared memory of one has room for since sm_90. On an
// H100 24 took 2 % longer, and 32, with the registers that are left then, 5 %.
inline constexpr std::uint32_t blocks_per_multiprocessor = 7;

struct match_job {
  prefix_table table;
  prefix_hash_key hash;
  token_source source;
  const std::int64_t* token_offsets;
  const std::int32_t* namespace_ids;
  std::int64_t token_count;
  std::int32_t* matched_blocks;
  std::int32_t* block_table;
  match_workspace work;
  std::uint32_t prompt_count;
  std::uint32_t log2_block_tokens;
  std::uint32_t log2_block_units;
};

// Whole blocks of the prompt begin … end; none if the offsets are outside of the batch.
__device__ inline std::uint32_t whole_blocks(const match_job& job, std::int64_t begin,
                                             std::int64_t end) {
  const bool valid = begin >= 0 && begin <= end && end <= job.token_count;
  return valid ? static_cast<std::uint32_t>((end - begin) >> job.log2_block_tokens) : 0;
}

// Whether no other prompt for which this holds shares a token with the lane's: always, where
// offsets ascend. Where they do not, prompts would share tile slots and wait for ever for what one
// took from the other. Of any two prompts both look at the offset of a prompt that lies behind the
// one and is the other or lies before it: the one that is a multiple of the highest power of two in
// which their numbers differ. Every look is at a place that follows from the number alone, so they
// overlap. Whole warp: lanes hold prompts `first` …, of which `first` is a multiple of 32, so that
// the lanes differ in five of these looks and share the others, one a lane.
__device__ __noinline__ inline bool lies_apart_exactly(const match_job& job, std::uint32_t first,
                                                       std::int64_t begin, std::int64_t end,
                                                       std::uint32_t lane) {
  long long highest_before = INT64_MIN, lowest_behind = INT64_MAX;
  if (const std::uint64_t size = std::uint64_t{warp_lanes} << lane; size <= job.prompt_count) {
    const std::uint64_t before = first & ~(size - 1);
    highest_before = __ldg(job.token_offsets + before);
    lowest_behind = __ldg(job.token_offsets + min(before + size, std::uint64_t{job.prompt_count}));
  }
#pragma unroll
  for (std::uint32_t d = 1; d < warp_lanes; d <<= 1) {
    highest_before = max(highest_before, __shfl_xor_sync(full_warp, highest_before, d));
    lowest_behind = min(lowest_behind, __shfl_xor_sync(full_warp, lowest_behind, d));
  }
  bool apart = highest_before <= begin && lowest_behind >= end;
  const long long last_end = __shfl_sync(full_warp, static_cast<long long>(end), warp_lanes - 1);
#pragma unroll
  for (std::uint32_t size = 1; size < warp_lanes; size <<= 1) {
    if (size > job.prompt_count) break;
    const std::uint32_t before = lane & ~(size - 1);
    const std::uint32_t behind = min(before + size, job.prompt_count - first);
    const auto offset = [begin](std::uint32_t of) {
      return __shfl_sync(full_warp, static_cast<long long>(begin), of % warp_lanes);
    };
    const long long offset_before = offset(before), offset_behind = offset(behind);
    apart &= offset_before <= begin;
    apart &= (behind == warp_lanes ? last_end : offset_behind) >= end;
  }
  return apart;
}

// The same, said by a vote where offsets ascend as they should; the rest is code that only a wrong
// batch runs, and so not in the way of the others.
__device__ inline bool lies_apart(const match_job& job, std::uint32_t first, std::int64_t begin,
                                  std::int64_t end, std::uint32_t lane) {
  const std::uint32_t last = min(warp_lanes, job.prompt_count - first) - 1;
  const long long warp_begin = __shfl_sync(full_warp, static_cast<long long>(begin), 0);
  const long long warp_end = __shfl_sync(full_warp, static_cast<long long>(end), last);
  bool ascends = lane > last || begin <= end;
  if (const std::uint64_t size = std::uint64_t{warp_lanes} << lane; size <= job.prompt_count) {
    const std::uint64_t before = first & ~(size - 1);
    const std::uint64_t behind = min(before + size, std::uint64_t{job.prompt_count});
    ascends &= __ldg(job.token_offsets + before) <= warp_begin;
    ascends &= __ldg(job.token_offsets + behind) >= warp_end;
  }
  return __all_sync(full_warp, ascends) || lies_apart_exactly(job, first, begin, end, lane);
}

__device__ inline std::int32_t namespace_of(const match_job& job, std::uint32_t prompt) {
  return job.namespace_ids == nullptr ? 0 : __ldg(job.namespace_ids + prompt);
}

// First tile slot of a prompt: slots of different prompts never overlap.
__device__ inline std::uint64_t tile_slot(const match_job& job, std::int64_t begin,
                                          std::uint32_t prompt) {
  const std::uint32_t log2_tile_tokens = job.log2_block_tokens - job.log2_block_units + 6;
  return (static_cast<std::uint64_t>(begin) >> log2_tile_tokens) + prompt;
}

// The prompt, tile by tile. Reads the offsets: kept in registers from a tile's begin to its end,
// all this would have to be spilled.
struct tiled_prompt {
  std::uint32_t prompt;
  std::uint32_t tiles;
  std::uint64_t slot;  // of the first tile
  prompt_view view;

  __device__ tiled_prompt(const match_job& job, std::uint32_t prompt) : prompt(prompt) {
    const std::int64_t begin = __ldg(job.token_offsets + prompt);
    const std::int64_t end = __ldg(job.token_offsets + prompt + 1);
    view = {job.source.begin + begin, job.block_table + (begin >> job.log2_block_tokens),
            whole_blocks(job, begin, end), namespace_of(job, prompt)};
    slot = tile_slot(job, begin, prompt);
    const std::uint32_t tile_blocks = tile_units >> job.log2_block_units;
    tiles = (view.blocks + tile_blocks - 1) / tile_blocks;
  }
};

}  // namespace radixkv::kernels::detail
