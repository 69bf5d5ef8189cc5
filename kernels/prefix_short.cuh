// Matching prompts of at most 32 units, several to a warp: consecutive prompts lie side by side in
// the batch, so their tokens are staged in one piece.
#pragma once

#include <cstdint>

#include "kernels/prefix_probe.cuh"
#include "kernels/prefix_resolve.cuh"
#include "kernels/prefix_tile.cuh"

namespace radixkv::kernels::detail {

inline constexpr std::uint32_t short_units = 32;

// A lane's prompt. A batch has fewer than 2³¹ tokens.
struct short_prompt {
  std::uint32_t offset;  // its first token in the batch
  std::uint32_t row;     // its row in the block table
  std::uint32_t units;   // of its whole blocks; 0: nothing to match here, and no more is known
  std::int32_t namespace_id;
};

// Lanes first … end − 1, of which the first has units, fit one tile: returns `end`.
__device__ inline std::uint32_t pack_end(const short_prompt& mine, std::uint32_t first,
                                         std::uint32_t unit, std::uint32_t lane,
                                         std::uint32_t& first_unit) {
  const std::uint32_t units = lane >= first ? mine.units : 0;
  std::uint32_t sum = units;
#pragma unroll
  for (std::uint32_t d = 1; d < warp_lanes; d <<= 1) {
    const std::uint32_t before = __shfl_up_sync(full_warp, sum, d);
    if (lane >= d) sum += before;
  }
  first_unit = sum - units;
  const std::uint32_t begin = __shfl_sync(full_warp, mine.offset, first);
  // One that begins before the first one, where offsets descend, is far behind it in 32 bits.
  const bool fits =
      units == 0 || (sum <= tile_units && mine.offset - begin <= tile_words - units * unit);
  const std::uint32_t over = __ballot_sync(full_warp, !fits);
  return over == 0 ? warp_lanes : static_cast<std::uint32_t>(__ffs(over)) - 1;
}

// The first unit of a lane's prompt, from its own first, whose bit is set; bits of even and odd
// units.
__device__ inline std::uint32_t first_set(std::uint32_t even, std::uint32_t odd,
                                          std::uint32_t first_unit) {
  even = (first_unit + 1) / 2 < 32 ? even >> ((first_unit + 1) / 2) : 0;
  odd >>= first_unit / 2;
  const std::uint32_t e = even != 0 ? 2 * static_cast<std::uint32_t>(__ffs(even)) - 2 : 64;
  const std::uint32_t o = odd != 0 ? 2 * static_cast<std::uint32_t>(__ffs(odd)) - 1 : 64;
  return first_unit & 1 ? min(e + 1, o - 1) : min(e, o);
}

// Matches the prompts of lanes first … end − 1; returns how many blocks of the lane's prompt match,
// and sets `mismatch` where a candidate failed and the prompt must be resolved.
template <block_kind Kind>
__device__ std::uint32_t match_pack(const prefix_table& table, const prefix_hash_key& key,
                                    const token_source& source, const short_prompt& mine,
                                    std::uint32_t first, std::uint32_t end,
                                    std::uint32_t first_unit, std::int32_t* block_table,
                                    warp_memory& memory, std::uint32_t lane, bool& mismatch) {
  const std::uint32_t unit = Kind != block_kind::small ? max_unit_tokens : table.block_tokens;
  const std::uint32_t log2_block_units = block_log2_units<Kind>(table.block_tokens);
  const std::uint32_t unit_mask = (1u << log2_block_units) - 1;
  const bool in_pack = lane >= first && lane < end && mine.units > 0;
  const std::uint32_t busy = __ballot_sync(full_warp, in_pack);
  const std::uint32_t last = 31 - __clz(busy);
  const std::uint32_t begin = __shfl_sync(full_warp, mine.offset, first);
  const std::uint32_t all_units = __shfl_sync(full_warp, first_unit + mine.units, last);
  const std::uint32_t words = __shfl_sync(full_warp, mine.offset + mine.units * unit, last) - begin;
  const std::uint32_t shift = stage<false>(memory, source, source.begin + begin, words, lane);
  if (in_pack) {
    for (std::uint32_t u = 0; u < mine.units; ++u) {
      memory.owners[first_unit + u] = lane;
      memory.packed[first_unit + u].source = shift + (mine.offset - begin) + u * unit;
    }
  }
  __syncwarp();

  std::uint64_t sums[2] = {};
  std::uint32_t owner[2], position[2], source_word[2];
  {
    const uint2 owners = *reinterpret_cast<const uint2*>(memory.owners + 2 * lane);
    const uint4 packed = *reinterpret_cast<const uint4*>(memory.packed + 2 * lane);
    const bool exists[2] = {2 * lane < all_units, 2 * lane + 1 < all_units};
    owner[0] = exists[0] ? owners.x : first;
    owner[1] = exists[1] ? owners.y : first;
    source_word[0] = packed.x;
    source_word[1] = exists[1] ? packed.z : 0;
#pragma unroll
    for (std::uint32_t e = 0; e < 2; ++e) {
      position[e] = 2 * lane + e - __shfl_sync(full_warp, first_unit, owner[e]);
    }
  }
  if (2 * lane < all_units) {
    if (Kind != block_kind::small) {
      // A unit that does not exist is read from the first word and not used.
      digest_two(
          memory,
          [&](std::uint32_t e, std::uint32_t i) { return memory.words[source_word[e] + i]; }, sums);
    } else {
      for (std::uint32_t e = 0; e < 2; ++e) {
        sums[e] = digest_unit<false>(memory, source_word[e], unit);
      }
    }
    sums[0] = unit_part(key, sums[0], position[0]);
    sums[1] = unit_part(key, sums[1], position[1]);
  }
  const std::uint64_t part0 = sums[0];
  scan_units(sums, lane);
  // What stands before a prompt's first unit; taken away, its root takes its place.
  const std::uint64_t before_even = sums[0] - part0;
  const std::uint64_t before[2] = {before_even, sums[0]};
  const std::uint64_t root =
      root_sum(key, mine.namespace_id) - unit_value(before, min(first_unit, tile_units - 1));

  // Candidates, one per block, at its last unit.
  bool lost[2];
  candidate found[2];
#pragma unroll
  for (std::uint32_t e = 0; e < 2; ++e) {
    const std::uint32_t u = 2 * lane + e;
    const std::uint64_t base = __shfl_sync(full_warp, root, owner[e]);
    found[e] = {missing_block, no_parent};
    lost[e] = false;
    if (u < all_units && (position[e] & unit_mask) == unit_mask) {
      found[e] = probe_block(table, index_key(key, base + sums[e]));
      memory.ids[1 + u] = found[e].block;
      lost[e] = found[e].block < 0;
    }
  }
  const std::uint32_t lost_even = __ballot_sync(full_warp, lost[0]);
  const std::uint32_t lost_odd = __ballot_sync(full_warp, lost[1]);
  __syncwarp();
  std::uint32_t blocks = 0;
  if (in_pack) {
    blocks = min(first_set(lost_even, lost_odd, first_unit), mine.units) >> log2_block_units;
  }

  // Parents and tokens of what is below each prompt's first miss.
  std::uint32_t failed = 0;  // bits of lanes whose prompts failed
  const std::uint32_t first_row = __shfl_sync(full_warp, mine.row, first);
  std::int32_t* const rows = block_table + first_row;
  const std::uint32_t summary = (mine.row - first_row) << 8 | blocks;
#pragma unroll
  for (std::uint32_t e = 0; e < 2; ++e) {
    const std::uint32_t u = 2 * lane + e;
    const std::uint32_t whose = __shfl_sync(full_warp, summary, owner[e]);
    const std::int32_t namespace_id = __shfl_sync(full_warp, mine.namespace_id, owner[e]);
    if (u >= all_units) continue;
    const std::uint32_t block = position[e] >> log2_block_units;
    const bool below = block < (whose & 0xff);
    if (Kind == block_kind::unit) {
      memory.packed[u].place = below ? static_cast<std::uint32_t>(found[e].block) : UINT32_MAX;
    } else {
      memory.packed[u].place = below ? position[e] & unit_mask : UINT32_MAX;
    }
    if (!below || found[e].block < 0) continue;
    rows[(whose >> 8) + block] = found[e].block;
    const std::int32_t parent =
        block == 0 ? root_parent(namespace_id) : memory.ids[1 + u - (1u << log2_block_units)];
    bool bad = checks_parent && found[e].parent != parent;
    if (Kind == block_kind::small && checks_tokens) {
      const std::uint32_t* kept = table.tokens + static_cast<std::int64_t>(found[e].block) * unit;
      const std::uint32_t* staged = memory.words + memory.packed[u].source;
      for (std::uint32_t i = 0; i < unit; ++i) bad = bad || kept[i] != staged[i];
    }
    if (bad) failed |= 1u << owner[e];
  }
  if (Kind != block_kind::small && checks_tokens) {
    __syncwarp();
    const std::uint32_t at = 4 * (lane & 3);
    const uint4* kept_tokens = reinterpret_cast<const uint4*>(table.tokens) + (lane & 3);
    constexpr std::uint32_t in_flight = 2;
    uint4 kept[in_flight] = {};
    for (std::uint32_t first_u = lane >> 2; first_u < all_units; first_u += 8 * in_flight) {
      packed_unit of[in_flight];
#pragma unroll
      for (std::uint32_t i = 0; i < in_flight; ++i) {
        const std::uint32_t u = first_u + 8 * i;
        of[i] = u < all_units ? memory.packed[u] : packed_unit{0, UINT32_MAX};
        if (of[i].place == UINT32_MAX) continue;
        std::uint64_t kept_unit = of[i].place;
        if (Kind == block_kind::large) {  // a block's id stands at its last unit
          const auto block =
              static_cast<std::uint32_t>(memory.ids[1 + u + (unit_mask - of[i].place)]);
          kept_unit += static_cast<std::uint64_t>(block) << log2_block_units;
        }
        kept[i] = __ldg(kept_tokens + 4 * kept_unit);
      }
#pragma unroll
      for (std::uint32_t i = 0; i < in_flight; ++i) {
        if (of[i].place == UINT32_MAX) continue;
        const std::uint32_t* staged = memory.words + (of[i].source + at);
        if (differ(kept[i], {staged[0], staged[1], staged[2], staged[3]})) {
          failed |= 1u << memory.owners[first_u + 8 * i];
        }
      }
    }
  }
  mismatch =
      __any_sync(full_warp, failed != 0) && (__reduce_or_sync(full_warp, failed) >> lane & 1) != 0;
  return blocks;
}

}  // namespace radixkv::kernels::detail
