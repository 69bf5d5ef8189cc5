// What a warp does with a tile of tokens before it asks the index: stage it in shared memory,
// digest its units, sum them up. A tile is 64 units; lane i holds units 2i and 2i + 1.
#pragma once

#include <cstdint>

#include "kernels/prefix_hash.h"

namespace radixkv::kernels::detail {

inline constexpr std::uint32_t full_warp = 0xffffffffu;
inline constexpr std::uint32_t warp_lanes = 32;
inline constexpr std::uint32_t block_warps = 4;
inline constexpr std::uint32_t tile_units = 64;
inline constexpr std::uint32_t tile_words = tile_units * max_unit_tokens;
inline constexpr std::uint32_t load_rounds = tile_words / (4 * warp_lanes);
// Of the rounds in which a tile's tokens are fetched from the index, those that go to shared
// memory; the last one takes registers. So balanced, 28 warps fit a multiprocessor.
inline constexpr std::uint32_t kept_rounds = 7;

// Blocks of fewer than 16 tokens, of 16, and of more: units per block known when compiling, or not.
enum class block_kind { small, unit, large };

template <block_kind Kind>
__device__ std::uint32_t block_log2_units(std::uint32_t block_tokens) {
  return Kind == block_kind::large ? 31 - __clz(block_tokens / max_unit_tokens) : 0;
}

// Staged chunks of 16 bytes are swizzled, so that lanes that read every eighth chunk meet in no
// bank.
__device__ inline std::uint32_t swizzled_chunk(std::uint32_t chunk) {
  return chunk ^ ((chunk >> 3) & 7);
}
__device__ inline std::uint32_t swizzled(std::uint32_t word) {
  return swizzled_chunk(word >> 2) << 2 | (word & 3);
}
// Of chunk 32 × round + at; at ≤ 32, and not a constant, `round` one: most of it is computed once.
__device__ inline std::uint32_t swizzled_chunk(std::uint32_t round, std::uint32_t at) {
  return warp_lanes * round + (at ^ (at >> 3) ^ (round & 1) << 2);
}
// A tile, up to 3 words before it, and the rest of the last 16 bytes.
inline constexpr std::uint32_t staged_words = tile_words + 4;

struct alignas(8) packed_unit {
  std::uint32_t source;  // first staged word
  // If the block has a candidate: the unit's place in the block, or, where units are blocks, the
  // candidate. Otherwise UINT32_MAX.
  std::uint32_t place;
};

struct match_control;

// What a warp does next.
struct next_tile {
  std::uint64_t seen;  // what its queue slot held when last looked at
  std::uint32_t ticket;
};

// What copies go to begins at a multiple of 128 bytes: where it began 16 bytes behind one, a match
// took 4 % longer on an H100, and 64 bytes behind one 1 %.
struct alignas(128) warp_memory {
  union {
    // Long prompts: what the index has for a tile.
    alignas(128) uint4 kept[kept_rounds * warp_lanes];
    struct {                                        // short prompts
      alignas(8) std::uint32_t owners[tile_units];  // of packed units: the lane that has the prompt
      alignas(16) packed_unit packed[tile_units];
    };
  };
  alignas(128) std::uint32_t words[staged_words];
  std::int32_t ids[tile_units + 1];  // of the tile's blocks, after the id of the block before them
  bool packs_left, has_ticket;
  next_tile next;
  // What the warp is at, and the job's control: here they are not spilled.
  std::uint64_t entry;
  match_control* control;
  // The thread block's: a part of the key's multipliers, and the first of its packs.
  alignas(16) unit_multipliers multipliers[max_unit_tokens / block_warps];
  std::uint32_t first_pack;
};
// As much as seven thread blocks a multiprocessor have room for since sm_90.
static_assert(block_warps * sizeof(warp_memory) <= 32'256);

// What identifies the thread, asked anew: a register that is kept across a call would be spilled
// everywhere.
__device__ inline std::uint32_t thread_in_block() {
  std::uint32_t thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

// The thread block's copy of the key's multipliers, spread over its warps' memories: as kernel
// parameters they would occupy 32 registers all the time, and there is no room for them elsewhere.
struct block_multipliers {
  static constexpr std::uint32_t part = max_unit_tokens / block_warps;
  const warp_memory* block;

  // Of the thread's warp.
  __device__ explicit block_multipliers(const warp_memory& memory)
      : block(&memory - thread_in_block() / warp_lanes) {}
  __device__ const unit_multipliers& operator[](std::uint32_t token) const {
    return block[token / part].multipliers[token % part];
  }
  // Of token and token + 1; token is even.
  __device__ uint4 two(std::uint32_t token) const {
    return reinterpret_cast<const uint4&>((*this)[token]);
  }
};

// The batch's tokens, seen as aligned 16-byte chunks.
struct token_source {
  const std::uint32_t* begin;
  const std::uint32_t* end;
};

// Copies to shared memory that occupy no registers while they are on their way. 16-byte aligned.
__device__ inline void copy_async(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                   static_cast<std::uint32_t>(__cvta_generic_to_shared(to))),
               "l"(from)
               : "memory");
}
// The lane's copies are complete; for those of others a __syncwarp must follow.
__device__ inline void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// Copies tokens first … first + count − 1 (count ≤ tile_words) to shared memory and returns the
// staged word of the first one, 0 … 3. Loads are aligned, so up to 12 bytes on either side come
// along, but never anything outside of the batch's tokens.
template <bool Swizzled>
__device__ std::uint32_t stage(warp_memory& memory, const token_source& source,
                               const std::uint32_t* first, std::uint32_t count,
                               std::uint32_t lane) {
  const std::uint32_t shift = static_cast<std::uint32_t>(
      (reinterpret_cast<std::uintptr_t>(first) / sizeof(std::uint32_t)) & 3);
  const std::uint32_t* aligned = first - shift;
  const std::uint32_t chunks = (shift + count + 3) / 4;
  __syncwarp();  // whoever still reads what was staged before
  if (aligned >= source.begin && aligned + 4 * chunks <= source.end) {
    auto* to = reinterpret_cast<uint4*>(memory.words);
    const uint4* from = reinterpret_cast<const uint4*>(aligned);
    if (chunks >= load_rounds * warp_lanes) {  // the common case, without a test per copy
#pragma unroll
      for (std::uint32_t r = 0; r < load_rounds; ++r) {
        const std::uint32_t chunk = r * warp_lanes + lane;
        copy_async(to + (Swizzled ? swizzled_chunk(r, lane) : chunk), from + chunk);
      }
    } else {
#pragma unroll
      for (std::uint32_t r = 0; r < load_rounds; ++r) {
        const std::uint32_t chunk = r * warp_lanes + lane;
        if (chunk < chunks) {
          copy_async(to + (Swizzled ? swizzled_chunk(r, lane) : chunk), from + chunk);
        }
      }
    }
    if (chunks > load_rounds * warp_lanes && lane == 0) {
      constexpr std::uint32_t last = load_rounds * warp_lanes;
      copy_async(to + last, from + last);  // swizzled to its own place
    }
    wait_for_copies();
  } else {  // at either end of the batch
    for (std::uint32_t w = lane; w < shift + count; w += warp_lanes) {
      if (w >= shift) memory.words[Swizzled ? swizzled(w) : w] = __ldcs(aligned + w);
    }
  }
  __syncwarp();
  return shift;
}

// Words `Shift` … Shift + 3 of two adjacent chunks.
template <std::uint32_t Shift>
__device__ uint4 shifted(const uint4& low, const uint4& high) {
  if constexpr (Shift == 1) return {low.y, low.z, low.w, high.x};
  if constexpr (Shift == 2) return {low.z, low.w, high.x, high.y};
  if constexpr (Shift == 3) return {low.w, high.x, high.y, high.z};
  return low;
}

// Digests of two units of 16 tokens: token i of unit e is token(e, i).
template <class Token>
__device__ void digest_two(const warp_memory& memory, Token token, std::uint64_t (&out)[2]) {
  unit_digest digest[2];
  const block_multipliers multipliers(memory);
#pragma unroll
  for (std::uint32_t i = 0; i < max_unit_tokens; i += 2) {
    const uint4 by = multipliers.two(i);
#pragma unroll
    for (std::uint32_t e = 0; e < 2; ++e) {
      digest[e].add({by.x, by.y}, token(e, i));
      digest[e].add({by.z, by.w}, token(e, i + 1));
    }
  }
  out[0] = digest[0].value();
  out[1] = digest[1].value();
}

// Digests of a lane's two units of 16 tokens, staged swizzled, the tile starting at word Shift.
template <std::uint32_t Shift>
__device__ void digest_pair(const warp_memory& memory, std::uint32_t lane,
                            std::uint64_t (&out)[2]) {
  const auto* chunks = reinterpret_cast<const uint4*>(memory.words);
  const uint4* mine = chunks + 8 * lane;
  const std::uint32_t turn = lane & 7;
  const auto chunk = [&](std::uint32_t k) {
    return k < 8 ? mine[k ^ turn] : chunks[swizzled_chunk(8 * lane + 8)];
  };
  unit_digest digest[2];
  const block_multipliers multipliers(memory);
  uint4 low[2];
  if constexpr (Shift != 0) {
    low[0] = chunk(0);
    low[1] = chunk(4);
  }
#pragma unroll
  for (std::uint32_t q = 0; q < max_unit_tokens / 4; ++q) {
    const uint4 by01 = multipliers.two(4 * q);
    const uint4 by23 = multipliers.two(4 * q + 2);
#pragma unroll
    for (std::uint32_t e = 0; e < 2; ++e) {
      const uint4 high = chunk(4 * e + q + (Shift != 0 ? 1 : 0));
      const uint4 tokens = shifted<Shift>(Shift != 0 ? low[e] : high, high);
      digest[e].add({by01.x, by01.y}, tokens.x);
      digest[e].add({by01.z, by01.w}, tokens.y);
      digest[e].add({by23.x, by23.y}, tokens.z);
      digest[e].add({by23.z, by23.w}, tokens.w);
      low[e] = high;
    }
  }
  out[0] = digest[0].value();
  out[1] = digest[1].value();
}

__device__ inline void digest_pair(const warp_memory& memory, std::uint32_t shift,
                                   std::uint32_t lane, std::uint64_t (&out)[2]) {
  switch (shift) {
    case 0:
      return digest_pair<0>(memory, lane, out);
    case 1:
      return digest_pair<1>(memory, lane, out);
    case 2:
      return digest_pair<2>(memory, lane, out);
    default:
      return digest_pair<3>(memory, lane, out);
  }
}

// Digest of a unit staged anywhere.
template <bool Swizzled>
__device__ std::uint64_t digest_unit(const warp_memory& memory, std::uint32_t word,
                                     std::uint32_t unit) {
  unit_digest digest;
  const block_multipliers multipliers(memory);
  for (std::uint32_t i = 0; i < unit; ++i) {
    digest.add(multipliers[i], memory.words[Swizzled ? swizzled(word + i) : word + i]);
  }
  return digest.value();
}

// Turns the parts of a lane's two units into sums over all units up to and including each; returns
// the sum over the warp.
__device__ inline std::uint64_t scan_units(std::uint64_t (&parts)[2], std::uint32_t lane) {
  parts[1] += parts[0];
  std::uint64_t sum = parts[1];
#pragma unroll
  for (std::uint32_t d = 1; d < warp_lanes; d <<= 1) {
    const std::uint64_t before = __shfl_up_sync(full_warp, sum, d);
    if (lane >= d) sum += before;
  }
  const std::uint64_t before = sum - parts[1];
  parts[0] += before;
  parts[1] = sum;
  return __shfl_sync(full_warp, sum, warp_lanes - 1);
}

// What a lane holds for a unit: `of(unit)` for units 2 × lane and 2 × lane + 1.
template <class T>
__device__ T unit_value(const T (&mine)[2], std::uint32_t unit) {
  const T even = __shfl_sync(full_warp, mine[0], unit >> 1);
  const T odd = __shfl_sync(full_warp, mine[1], unit >> 1);
  return unit & 1 ? odd : even;
}

__device__ inline bool differ(const uint4& a, const uint4& b) {
  return ((a.x ^ b.x) | (a.y ^ b.y) | (a.z ^ b.z) | (a.w ^ b.w)) != 0;
}

}  // namespace radixkv::kernels::detail
