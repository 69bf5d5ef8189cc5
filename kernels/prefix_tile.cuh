// What a warp does with a tile of tokens before it asks the index: stage it in shared memory,
// digest its units, sum them up. A tile is 64 units; lane i holds units 2i and 2i + 1.
#pragma once

#include <cstdint>

#include "kernels/prefix_hash.h"

namespace radixkv::kernels::detail {

inline constexpr std::uint32_t full_warp = 0xffffffffu;
inline constexpr std::uint32_t warp_lanes = 32;
inline constexpr std::uint32_t tile_units = 64;
inline constexpr std::uint32_t tile_words = tile_units * max_unit_tokens;
inline constexpr std::uint32_t load_rounds = tile_words / (4 * warp_lanes);

// Blocks of fewer than 16 tokens, of 16, and of more: units per block known when compiling, or not.
enum class block_kind { small, unit, large };

template <block_kind Kind>
__device__ std::uint32_t block_log2_units(std::uint32_t block_tokens) {
  return Kind == block_kind::large ? 31 - __clz(block_tokens / max_unit_tokens) : 0;
}

// Staged words are padded by 4 in 32, so that lanes that read 32 words each do not all meet in one
// bank.
__device__ inline std::uint32_t padded(std::uint32_t word) { return word + ((word >> 5) << 2); }
// A tile, up to 3 words before it, and the rest of the last 16 bytes.
inline constexpr std::uint32_t staged_words = (tile_words + 4) + ((tile_words + 4) / 32 * 4) + 4;

struct alignas(8) packed_unit {
  std::uint32_t source;  // first staged word
  // If the block has a candidate: the unit's place in the block, or, where units are blocks, the
  // candidate. Otherwise UINT32_MAX.
  std::uint32_t place;
};

struct warp_memory {
  // A copy of the key's: as kernel parameters they would occupy 32 registers all the time.
  alignas(16) unit_multipliers multipliers[max_unit_tokens];
  alignas(16) std::uint32_t words[staged_words];
  std::int32_t ids[tile_units + 4];  // of the tile's blocks, after the id of the block before them
  alignas(8) std::uint32_t owners[tile_units];  // of packed units: the lane that has the prompt
  alignas(16) packed_unit packed[tile_units];
};

// The batch's tokens, seen as aligned 16-byte chunks.
struct token_source {
  const std::uint32_t* begin;
  const std::uint32_t* end;
};

template <bool Padded>
__device__ std::uint32_t staged_chunk(std::uint32_t chunk) {
  return Padded ? (chunk << 2) + ((chunk >> 3) << 2) : chunk << 2;
}

// Copies tokens first … first + count − 1 (count ≤ tile_words) to shared memory and returns the
// staged word of the first one, 0 … 3. Loads are aligned, so up to 12 bytes on either side come
// along, but never anything outside of the batch's tokens.
template <bool Padded>
__device__ std::uint32_t stage(warp_memory& memory, const token_source& source,
                               const std::uint32_t* first, std::uint32_t count,
                               std::uint32_t lane) {
  const std::uint32_t shift = static_cast<std::uint32_t>(
      (reinterpret_cast<std::uintptr_t>(first) / sizeof(std::uint32_t)) & 3);
  const std::uint32_t* aligned = first - shift;
  const std::uint32_t chunks = (shift + count + 3) / 4;
  __syncwarp();  // whoever still reads what was staged before
  if (aligned >= source.begin && aligned + 4 * chunks <= source.end) {
    const uint4* from = reinterpret_cast<const uint4*>(aligned) + lane;
    const std::uint32_t left = chunks > lane ? chunks - lane : 0;
    std::uint32_t* to = memory.words + staged_chunk<Padded>(lane);
    uint4 loaded[load_rounds];
    if (chunks >= load_rounds * warp_lanes) {  // the common case, without a test per load
#pragma unroll
      for (std::uint32_t r = 0; r < load_rounds; ++r) loaded[r] = __ldcs(from + r * warp_lanes);
#pragma unroll
      for (std::uint32_t r = 0; r < load_rounds; ++r) {
        *reinterpret_cast<uint4*>(to + staged_chunk<Padded>(r * warp_lanes)) = loaded[r];
      }
    } else {
#pragma unroll
      for (std::uint32_t r = 0; r < load_rounds; ++r) {
        if (r * warp_lanes < left) loaded[r] = __ldcs(from + r * warp_lanes);
      }
#pragma unroll
      for (std::uint32_t r = 0; r < load_rounds; ++r) {
        if (r * warp_lanes < left) {
          *reinterpret_cast<uint4*>(to + staged_chunk<Padded>(r * warp_lanes)) = loaded[r];
        }
      }
    }
    if (chunks > load_rounds * warp_lanes && lane == 0) {
      *reinterpret_cast<uint4*>(memory.words + staged_chunk<Padded>(load_rounds * warp_lanes)) =
          __ldcs(from + load_rounds * warp_lanes);
    }
  } else {  // at either end of the batch
    for (std::uint32_t w = lane; w < shift + count; w += warp_lanes) {
      if (w >= shift) memory.words[Padded ? padded(w) : w] = __ldcs(aligned + w);
    }
  }
  __syncwarp();
  return shift;
}

// Digests of two units of 16 tokens: token i of unit e is token(e, i).
template <class Token>
__device__ void digest_two(const warp_memory& memory, Token token, std::uint64_t (&out)[2]) {
  unit_digest digest[2];
#pragma unroll
  for (std::uint32_t i = 0; i < max_unit_tokens; i += 2) {
    const uint4 by = *reinterpret_cast<const uint4*>(memory.multipliers + i);
#pragma unroll
    for (std::uint32_t e = 0; e < 2; ++e) {
      digest[e].add({by.x, by.y}, token(e, i));
      digest[e].add({by.z, by.w}, token(e, i + 1));
    }
  }
  out[0] = digest[0].value();
  out[1] = digest[1].value();
}

// Digests of a lane's two units of 16 tokens, staged padded, the tile starting at word `shift` ≤ 3.
__device__ inline void digest_pair(const warp_memory& memory, std::uint32_t shift,
                                   std::uint32_t lane, std::uint64_t (&out)[2]) {
  const std::uint32_t* words = memory.words + 36 * lane + shift;
  digest_two(
      memory,
      [words, shift](std::uint32_t e, std::uint32_t i) {
        const std::uint32_t w = 16 * e + i;
        // Only the last three words may lie behind the padding.
        const std::uint32_t skip = w > 28 && w + shift >= 32 ? 4 : 0;
        return words[w + skip];
      },
      out);
}

// Digest of a unit staged anywhere.
template <bool Padded>
__device__ std::uint64_t digest_unit(const warp_memory& memory, std::uint32_t word,
                                     std::uint32_t unit) {
  unit_digest digest;
  for (std::uint32_t i = 0; i < unit; ++i) {
    digest.add(memory.multipliers[i], memory.words[Padded ? padded(word + i) : word + i]);
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

__device__ inline bool differ(const uint4& a, std::uint32_t b0, std::uint32_t b1, std::uint32_t b2,
                              std::uint32_t b3) {
  return ((a.x ^ b0) | (a.y ^ b1) | (a.z ^ b2) | (a.w ^ b3)) != 0;
}

}  // namespace radixkv::kernels::detail
