// Who matches which tile when: the workspace of a match and its ticket queue.
//
// Invariants:
// 1. Between launches every byte of the workspace is zero; whoever finishes with a word zeroes it,
//    once it has seen the last value that others write there.
// 2. A warp that waits, waits for a queue slot (filled by a running warp, or never needed once
//    every prompt is resolved) or for an earlier tile of its prompt, which was queued earlier and
//    so is held by a running warp. Packs, too, are only held by running warps, and no warp waits
//    before all are taken. The oldest unfinished tile never waits, so something always advances.
// 3. Words that warps hand to each other are self-contained 8 bytes, stored and loaded relaxed: a
//    fence per tile took a sixth of the kernel's time on an H100.
// 4. Only what overwrites rows of other warps needs more: prompts with a hash collision are left to
//    the last thread block to finish, after a fence in every one.
#pragma once

#include <cstdint>

#include "kernels/prefix_tile.cuh"

namespace radixkv::kernels::detail {

using word64 = unsigned long long;

// Tests leave out one of the orderings to see that they would notice.
#if defined(RADIXKV_TEST_DROP_BLOCK_RELEASE)
inline constexpr bool releases_block = false;
#else
inline constexpr bool releases_block = true;
#endif
#if defined(RADIXKV_TEST_DROP_RESOLVER_ACQUIRE)
inline constexpr bool resolver_acquires = false;
#else
inline constexpr bool resolver_acquires = true;
#endif

// Words that many warps add to or wait for lie 128 bytes apart: with all of them on one line of the
// L2, where their requests wait for each other, a match took up to 8 % longer on an H100.
struct alignas(8) match_control {
  std::uint32_t queue_tail;
  std::uint32_t unused0[31];
  word64 taken;  // tickets for the queue, and packs × 2³²
  std::uint32_t unused1[30];
  std::uint32_t resolved_prompts;
  std::uint32_t unused2[31];
  std::uint32_t blocks_done;  // thread blocks
  std::uint32_t unresolved;   // prompts left to the last thread block
  std::uint32_t unused3[30];
};

__device__ inline void clear(match_control& control) {
  control.taken = 0;
  control.queue_tail = control.resolved_prompts = control.blocks_done = control.unresolved = 0;
}

struct match_workspace {
  match_control* control;
  word64* prompts;  // per prompt: first miss (encode_miss) × 2³² + tiles done
  word64* sums;     // per tile slot: sum × 4 + state
  word64* queue;    // per tile slot: prompt × 2³² + tile + 1
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

// Not atomicAdd: the compiler would add up the warp's lanes, and wait for the answer at once.
__device__ inline std::uint32_t add_relaxed(std::uint32_t* to, std::uint32_t value) {
  std::uint32_t before;
  asm volatile("atom.add.relaxed.gpu.global.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(to), "r"(value)
               : "memory");
  return before;
}

__device__ inline word64 add_relaxed(word64* to, word64 value) {
  word64 before;
  asm volatile("atom.add.relaxed.gpu.global.u64 %0, [%1], %2;"
               : "=l"(before)
               : "l"(to), "l"(value)
               : "memory");
  return before;
}

// The earliest miss has the largest code; no miss is 0. `mismatch`: an entry had the key but not
// the tokens or the parent, so the answer may lie behind it.
__device__ inline std::uint32_t encode_miss(std::uint32_t block, bool mismatch) {
  return (0x7fffffffu - block) << 1 | static_cast<std::uint32_t>(mismatch);
}
__device__ inline std::uint32_t missed_block(std::uint32_t miss) {
  return 0x7fffffffu - (miss >> 1);
}
__device__ inline bool is_mismatch(std::uint32_t miss) { return (miss & 1) != 0; }

// Counts a tile as done that found `miss`, and returns the prompt's state with it. One lane.
__device__ inline word64 finish_tile(word64* state, std::uint32_t miss) {
  if (miss == 0) return add_relaxed(state, 1) + 1;
  word64 old = load_relaxed(state);
  while (true) {
    const word64 first = max(static_cast<std::uint32_t>(old >> 32), miss);
    const word64 now = first << 32 | (static_cast<std::uint32_t>(old) + 1);
    const word64 found = atomicCAS(state, old, now);
    if (found == old) return now;
    old = found;
  }
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

__device__ inline std::uint32_t take_ticket(const warp_memory& memory) {
  return static_cast<std::uint32_t>(add_relaxed(&memory.control->taken, 1));
}

// The tile that a ticket stands for, or 0 while there is none. One lane.
__device__ inline word64 look_for_tile(const match_workspace& work, std::uint32_t ticket) {
  return ticket < work.slots ? load_relaxed(work.queue + ticket) : 0;
}

// Takes a ticket's tile; waits for it if none was seen. Returns 0 when every prompt is resolved
// instead. One lane.
__device__ inline word64 take_tile(const match_workspace& work, const warp_memory& memory,
                                   std::uint32_t prompt_count) {
  const std::uint32_t ticket = memory.next.ticket;
  word64 tile = memory.next.seen;
  // Longer and longer naps: a poll is traffic that others wait behind. Nobody else polls the
  // ticket's own slot, in which there was nothing a moment ago; what all share, which says when
  // nothing will come, every other time.
  std::uint32_t nap = 64;
  for (std::uint32_t poll = 0; tile == 0; ++poll) {
    if (poll % 2 == 0 && load_relaxed(&memory.control->resolved_prompts) == prompt_count) return 0;
    if (poll > 1) tile = look_for_tile(work, ticket);
    if (tile == 0) {
      __nanosleep(nap);
      nap = min(2 * nap, 256u);
    }
  }
  store_relaxed(work.queue + ticket, 0);
  return tile;
}

// What a warp may do next is a tile of the queue or a pack; 0: nothing is left.
__device__ inline word64 pack_entry(std::uint32_t pack) { return ~word64{0} << 32 | pack; }
__device__ inline bool is_pack(word64 entry) { return entry >> 32 == 0xffffffffu; }

// Packs first: whoever waits for the queue must know that running warps have all of them. One lane.
__device__ inline word64 take_entry(const match_workspace& work, warp_memory& memory,
                                    std::uint32_t packs, std::uint32_t prompt_count) {
  if (memory.packs_left) {
    word64 taken;
    if (memory.has_ticket) {
      taken = add_relaxed(&memory.control->taken, word64{1} << 32);
      if (taken >> 32 < packs) return pack_entry(static_cast<std::uint32_t>(taken >> 32));
    } else {
      // The same word says whether there are packs that nobody took.
      taken = add_relaxed(&memory.control->taken, 1);
      memory.next = {0, static_cast<std::uint32_t>(taken)};
      memory.has_ticket = true;
      if (taken >> 32 < packs) return pack_entry(packs);  // none yet: asks again
    }
    memory.packs_left = false;
  }
  return take_tile(work, memory, prompt_count);
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
  for (std::uint32_t nap = 32;; nap = min(2 * nap, 256u)) {
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
    __nanosleep(nap);
    width = min(warp_lanes, tile);
  }
}

}  // namespace radixkv::kernels::detail
