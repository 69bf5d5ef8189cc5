// Who matches which tile when: the workspace of a match and its ticket queue.
//
// Invariants:
// 1. Between launches every byte of the workspace is zero; whoever finishes with a word zeroes it.
// 2. A warp that waits, waits for a queue slot (filled by a running warp, or never needed once
// every
//    prompt is resolved) or for an earlier tile of its prompt, which was queued earlier and so is
//    held by a running warp. The oldest unfinished tile never waits, so something always advances.
// 3. Words that warps hand to each other are self-contained 8 bytes, stored and loaded relaxed.
// Only
//    the verdict on a segment, rare by comparison, needs fences.
#pragma once

#include <cstdint>

#include "kernels/prefix_tile.cuh"

namespace radixkv::kernels::detail {

using word64 = unsigned long long;

// Tests leave out one of the orderings to see that they would notice.
#if defined(RADIXKV_TEST_DROP_SEGMENT_FENCE)
inline constexpr bool fences_segment = false;
#else
inline constexpr bool fences_segment = true;
#endif
#if defined(RADIXKV_TEST_DROP_TILE_RELEASE)
inline constexpr bool releases_tile = false;
#else
inline constexpr bool releases_tile = true;
#endif

struct match_control {
  std::uint32_t next_pack;
  std::uint32_t queue_head;
  std::uint32_t queue_tail;
  std::uint32_t resolved_prompts;
  std::uint32_t blocks_done;  // thread blocks
  std::uint32_t unused[3];
};

struct prompt_state {
  word64 miss;               // the first miss known, see encode_miss; 0: none
  std::uint32_t tiles_done;  // of the segments released so far
  std::uint32_t unused;
};

struct match_workspace {
  match_control* control;
  prompt_state* prompts;
  word64* sums;   // per tile slot: sum × 4 + state
  word64* queue;  // per tile slot: prompt × 2³² + tile + 1
  std::uint64_t slots;
};

inline constexpr std::uint32_t state_aggregate = 1;  // the sum is of the tile alone
inline constexpr std::uint32_t state_prefix = 2;  // the sum is of the prompt up to the tile's end

__device__ inline word64 load_relaxed(const word64* from) {
  word64 value;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(from) : "memory");
  return value;
}
__device__ inline std::uint32_t load_relaxed(const std::uint32_t* from) {
  std::uint32_t value;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}
__device__ inline void store_relaxed(word64* to, word64 value) {
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(value) : "memory");
}
__device__ inline void store_relaxed(std::uint32_t* to, std::uint32_t value) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}

__device__ inline std::uint32_t add_release(std::uint32_t* to, std::uint32_t value) {
  std::uint32_t before;
  asm volatile("atom.add.release.gpu.global.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(to), "r"(value)
               : "memory");
  return before;
}

// The earliest miss has the largest code. `mismatch`: an entry had the key but not the tokens or
// the parent, so the answer may lie behind it; `parent` is the block before.
__device__ inline word64 encode_miss(std::uint32_t block, bool mismatch, std::int32_t parent) {
  return static_cast<word64>(0x7fffffffu - block) << 33 | static_cast<word64>(mismatch) << 32 |
         static_cast<std::uint32_t>(parent);
}
__device__ inline std::uint32_t missed_block(word64 miss) {
  return 0x7fffffffu - static_cast<std::uint32_t>(miss >> 33);
}

// Tiles released once `tiles` of them matched whole; with 0, the first segment.
__device__ inline std::uint32_t next_release(std::uint32_t tiles, std::uint32_t all) {
  const std::uint64_t next = 3 * std::uint64_t{tiles} + 2;
  return next < all ? static_cast<std::uint32_t>(next) : all;
}
// End of the segment that contains a tile.
__device__ inline std::uint32_t release_of(std::uint32_t tile, std::uint32_t all) {
  std::uint32_t end = 2;
  while (end <= tile) end = 3 * end + 2;  // at most 20 times: tiles < 2³¹
  return min(end, all);
}

// Queues tiles first … end − 1 of a prompt. Whole warp.
__device__ inline void queue_tiles(const match_workspace& work, std::uint32_t prompt,
                                   std::uint32_t first, std::uint32_t end, std::uint32_t lane) {
  std::uint32_t slot = 0;
  if (lane == 0) slot = atomicAdd(&work.control->queue_tail, end - first);
  slot = __shfl_sync(full_warp, slot, 0);
  for (std::uint32_t i = lane; i < end - first; i += warp_lanes) {
    store_relaxed(work.queue + slot + i, (static_cast<word64>(prompt) << 32 | (first + i)) + 1);
  }
}

// Waits for the queue's slot of a ticket and takes its tile; 0 when every prompt is resolved
// instead. One lane.
__device__ inline word64 take_tile(const match_workspace& work, std::uint32_t ticket,
                                   std::uint32_t prompt_count) {
  // Longer and longer naps: a poll is traffic that others wait behind.
  for (std::uint32_t naps = 1;; naps = naps < 8 ? 2 * naps : naps) {
    if (ticket < work.slots) {
      const word64 tile = load_relaxed(work.queue + ticket);
      if (tile != 0) {
        store_relaxed(work.queue + ticket, 0);
        return tile;
      }
    }
    if (load_relaxed(&work.control->resolved_prompts) == prompt_count) return 0;
    for (std::uint32_t i = 0; i < naps; ++i) {
#pragma unroll
      for (int nap = 0; nap < 8; ++nap) __nanosleep(20);
    }
  }
}

// The sum of everything before a tile: that of the nearest predecessor that knows its prefix, and
// the sums of those between. Waits until one of the last 32 knows: walking further back would find
// one no sooner, and at a traffic that grows with the tiles in flight. `slots` are the prompt's;
// tile > 0. Whole warp.
__device__ inline std::uint64_t look_back(const word64* slots, std::uint32_t tile,
                                          std::uint32_t lane) {
  const word64* mine = slots + (static_cast<std::int64_t>(tile) - 1 - lane);
  word64 word = 0;
  // Usually a near one knows; a full window would be traffic for nothing.
  std::uint32_t width = min(8u, tile);
  for (std::uint32_t naps = 1;; naps = naps < 16 ? 2 * naps : naps) {
    if (lane < width && (word & 3) != state_prefix) word = load_relaxed(mine);
    const std::uint32_t prefixes = __ballot_sync(full_warp, (word & 3) == state_prefix);
    const std::uint32_t blank = __ballot_sync(full_warp, (word & 3) == 0);
    // Lanes up to and including the nearest prefix.
    const std::uint32_t upto = prefixes ^ (prefixes - 1);
    if (prefixes != 0 && (blank & upto) == 0) {
      std::uint64_t sum = upto >> lane & 1 ? word >> 2 : 0;
      if (upto == 1) return __shfl_sync(full_warp, sum, 0);
#pragma unroll
      for (std::uint32_t d = 1; d < warp_lanes; d <<= 1) sum += __shfl_xor_sync(full_warp, sum, d);
      return sum & hash_sum_mask;
    }
    if (lane == 0) {
      for (std::uint32_t i = 0; i < naps; ++i) __nanosleep(20);
    }
    __syncwarp();
    width = min(warp_lanes, tile);
  }
}

}  // namespace radixkv::kernels::detail
