// How a prompt whose tiles are done ends: its answer is written and its words are zeroed; or, where
// hashes collided, it is left to the last thread block, which follows the chain.
#pragma once

#include <cstdint>

#include "kernels/prefix_job.cuh"

namespace radixkv::kernels::detail {

// Settles a prompt whose tiles are done.
__device__ inline void settle(const match_job& job, const tiled_prompt& of, std::uint32_t matched,
                              std::uint32_t released, std::uint32_t lane) {
  // A tile's last word may still be on its way: the zero must come after it.
  for (std::uint32_t t = lane; t < released; t += warp_lanes) {
    while ((atomicExch(job.work.sums + of.slot + t, 0) & 3) != state_prefix) {
    }
  }
  if (lane == 0) {
    job.matched_blocks[of.prompt] = static_cast<std::int32_t>(matched);
    store_relaxed(job.work.prompts + of.prompt, 0);
  }
}

// All tiles released so far are done: release more, or settle the prompt. `miss`: the first one.
__device__ __noinline__ inline void finish_segment(const match_job& job, std::uint32_t prompt,
                                                   std::uint32_t miss, std::uint32_t released,
                                                   std::uint32_t lane) {
  const tiled_prompt of(job, prompt);
  if (miss == 0 && released < of.tiles) {
    queue_tiles(job.work, prompt, released, next_release(released, of.tiles), lane);
    return;
  }
  const bool settles = !is_mismatch(miss);
  if (settles) settle(job, of, miss != 0 ? missed_block(miss) : of.view.blocks, released, lane);
  if (lane == 0) {
    if (!settles) add_relaxed(&job.work.control->unresolved, 1);
    add_relaxed(&job.work.control->resolved_prompts, 1);
  }
}

// The exact answer for a prompt of which nothing is known.
__device__ __noinline__ inline std::uint32_t resolve_whole(const match_job& job,
                                                           std::uint32_t prompt,
                                                           warp_memory& memory,
                                                           std::uint32_t lane) {
  const tiled_prompt of(job, prompt);
  return resolve(job.table, job.hash, job.source, of.view, 0, root_parent(of.view.namespace_id),
                 root_sum(job.hash, of.view.namespace_id), memory, lane);
}

// Settles what is left of all prompts with a hash collision. A whole thread block, after all
// others.
__device__ __noinline__ inline void resolve_prompts(const match_job& job, warp_memory& memory,
                                                    std::uint32_t warp, std::uint32_t lane) {
  for (std::uint32_t first = warp * warp_lanes; first < job.prompt_count;
       first += block_warps * warp_lanes) {
    word64 mine = 0;
    if (first + lane < job.prompt_count) mine = load_relaxed(job.work.prompts + first + lane);
    for (std::uint32_t left = __ballot_sync(full_warp, mine != 0); left != 0; left &= left - 1) {
      const int who = __ffs(left) - 1;
      const word64 state = __shfl_sync(full_warp, mine, who);
      const tiled_prompt of(job, first + static_cast<std::uint32_t>(who));
      const std::uint32_t begin = missed_block(static_cast<std::uint32_t>(state >> 32));
      const std::uint32_t tile = begin / (tile_units >> job.log2_block_units);
      const std::int32_t parent =
          begin == 0 ? root_parent(of.view.namespace_id) : __ldcg(of.view.row + (begin - 1));
      const std::uint64_t sum = tile == 0 ? root_sum(job.hash, of.view.namespace_id)
                                          : load_relaxed(job.work.sums + of.slot + tile - 1) >> 2;
      const std::uint32_t matched =
          resolve(job.table, job.hash, job.source, of.view, begin, parent, sum, memory, lane);
      settle(job, of, matched, static_cast<std::uint32_t>(state), lane);
    }
  }
}

}  // namespace radixkv::kernels::detail
