// Matching one tile of a prompt that has tiles of its own.
#pragma once

#include <cstdint>

#include "kernels/prefix_probe.cuh"
#include "kernels/prefix_schedule.cuh"
#include "kernels/prefix_tile.cuh"

namespace radixkv::kernels::detail {

struct tile_view {
  const std::uint32_t* tokens;  // of the tile
  std::int32_t* row;            // where its blocks' ids go
  word64* sums;                 // the prompt's tile slots
  std::uint32_t tile;
  std::uint32_t blocks;  // whole blocks in the tile
  std::int32_t namespace_id;
};

struct tile_verdict {
  std::uint32_t blocks;  // matched
  bool mismatch;         // the next block has a candidate that failed
  std::int32_t parent;   // the block before the next one
};

// Compares the tile's units with what the index keeps for their candidates; 16 bytes a lane and
// round. Returns the first round, counted in blocks, in which the lane sees a difference. `Whole`:
// all units of the tile have candidates.
template <bool Whole>
__device__ std::uint32_t first_difference(const prefix_table& table, const warp_memory& memory,
                                          std::uint32_t shift, std::uint32_t units,
                                          std::uint32_t log2_block_units, std::uint32_t lane) {
  const std::uint32_t mask = (1u << log2_block_units) - 1;
  const std::byte* const kept_tokens =
      reinterpret_cast<const std::byte*>(table.tokens) + 16 * (lane & 3);
  const std::uint32_t* staged[4];
#pragma unroll
  for (std::uint32_t i = 0; i < 4; ++i) staged[i] = memory.words + padded(4 * lane + shift + i);
  uint4 kept[load_rounds];
#pragma unroll
  for (std::uint32_t r = 0; r < load_rounds; ++r) {
    const std::uint32_t unit = 8 * r + (lane >> 2);
    if (Whole || unit < units) {
      const auto block = static_cast<std::uint32_t>(memory.ids[1 + (unit >> log2_block_units)]);
      const std::uint64_t at =
          log2_block_units == 0
              ? block
              : (static_cast<std::uint64_t>(block) << log2_block_units) + (unit & mask);
      kept[r] = __ldg(reinterpret_cast<const uint4*>(kept_tokens + 64 * at));
    }
  }
  std::uint32_t different = 0;  // a bit per round
#pragma unroll
  for (std::uint32_t r = 0; r < load_rounds; ++r) {
    const std::uint32_t unit = 8 * r + (lane >> 2);
    if (Whole || unit < units) {
      const bool differs = differ(kept[r], staged[0][144 * r], staged[1][144 * r],
                                  staged[2][144 * r], staged[3][144 * r]);
      if (differs) different |= 1u << r;
    }
  }
  if (different == 0) return UINT32_MAX;
  const auto round = static_cast<std::uint32_t>(__ffs(different)) - 1;
  return (8 * round + (lane >> 2)) >> log2_block_units;
}

// The same for blocks of fewer than 16 tokens, which are units: two a lane.
__device__ inline std::uint32_t first_difference_of_small(const prefix_table& table,
                                                          const warp_memory& memory,
                                                          std::uint32_t shift, std::uint32_t units,
                                                          std::uint32_t lane) {
  const std::uint32_t size = table.block_tokens;
  std::uint32_t first = UINT32_MAX;
  for (std::uint32_t e = 2; e-- > 0;) {
    const std::uint32_t unit = 2 * lane + e;
    if (unit >= units) continue;
    const std::uint32_t* kept =
        table.tokens + static_cast<std::int64_t>(memory.ids[1 + unit]) * size;
    for (std::uint32_t i = 0; i < size; ++i) {
      if (kept[i] != memory.words[padded(shift + unit * size + i)]) first = unit;
    }
  }
  return first;
}

// Finds candidates for the tile's blocks, down to the first that has none, leaves their ids in
// memory.ids[1 …] and that of the block before in memory.ids[0]. `bad` becomes the lane's first
// block whose parent is not the block before. Returns the number of candidates.
__device__ inline std::uint32_t find_candidates(const prefix_table& table,
                                                const prefix_hash_key& key, const tile_view& view,
                                                const std::uint64_t (&sums)[2], std::uint64_t base,
                                                std::uint32_t log2_block_units, warp_memory& memory,
                                                std::uint32_t lane, std::uint32_t& bad) {
  std::uint32_t grouped = 0;  // blocks found as groups
  int4 half = {0, 0, 0, 0};
  bool in_group = false;
  std::uint32_t group_end = 0;  // the block after the pair's group
  const bool groups = uses_groups(table.block_tokens);
  if (groups) {
    // A group ends with the odd unit of an odd lane.
    const std::uint32_t log2_pair = log2_block_units + 1;  // lanes per group, as a power of two
    const std::uint32_t last_lane = lane | 1;
    group_end = (2 * (last_lane + 1)) >> log2_block_units;
    in_group = ((last_lane + 1) & ((1u << log2_pair) - 1)) == 0 && group_end <= view.blocks;
    const std::uint64_t mine = sums[1];
    const std::uint64_t other = __shfl_xor_sync(full_warp, mine, 1);
    const std::uint64_t group_key = index_key(key, base + (lane & 1 ? mine : other));
    const bool found = probe_group(table, group_key, in_group, lane, half);
    const std::uint32_t lost = __ballot_sync(full_warp, in_group && !found && (lane & 1));
    grouped = lost == 0 ? view.blocks & ~(group_blocks - 1)
                        : ((2u * static_cast<std::uint32_t>(__ffs(lost))) >> log2_block_units) -
                              group_blocks;
    in_group = in_group && group_end <= grouped;
    if (in_group) {
      std::int32_t* ids = memory.ids + 1 + group_end - group_blocks;
      if (lane & 1) {
        ids[1] = half.x;
        ids[2] = half.y;
        ids[3] = half.z;
      } else {
        ids[0] = half.w;
      }
    }
  }
  // Up to three blocks after the last group, or, without groups, all.
  std::uint32_t found_blocks = grouped;
  candidate mine = {missing_block, no_parent};
  const std::uint32_t single = grouped + lane;
  if (grouped < view.blocks) {
    const std::uint32_t unit = min(((single + 1) << log2_block_units) - 1, tile_units - 1);
    const std::uint64_t sum = unit_value(sums, unit);
    const bool asks = single < view.blocks && (!groups || lane < group_blocks - 1);
    if (asks) mine = probe_block(table, index_key(key, base + sum));
    const std::uint32_t lost = __ballot_sync(full_warp, mine.block < 0);
    // Lanes that do not ask count as lost, and at least one does not.
    found_blocks += static_cast<std::uint32_t>(__ffs(lost)) - 1;
    if (single < found_blocks) memory.ids[1 + single] = mine.block;
  }
  // The block before the tile, by the same look-up that its own tile makes.
  if (view.tile == 0) {
    if (lane == 0) memory.ids[0] = root_parent(view.namespace_id);
  } else if (groups) {
    int4 before = {0, 0, 0, 0};
    const bool found = probe_group(table, index_key(key, base), lane < 2, lane, before);
    if (lane == 1) memory.ids[0] = found ? before.z : no_parent;
  } else if (lane == 0) {
    const candidate before = probe_block(table, index_key(key, base));
    memory.ids[0] = before.block < 0 ? no_parent : before.block;
  }
  __syncwarp();
  if (checks_parent) {
    if (in_group && !(lane & 1) && half.z != memory.ids[group_end - group_blocks]) {
      bad = group_end - group_blocks;
    }
    if (grouped < view.blocks && single < found_blocks && mine.parent != memory.ids[single]) {
      bad = min(bad, single);
    }
  }
  return found_blocks;
}

// Whole warp. Publishes the tile's sum, writes its candidates to the row.
template <block_kind Kind>
__device__ tile_verdict match_tile(const prefix_table& table, const prefix_hash_key& key,
                                   const token_source& source, const tile_view& view,
                                   warp_memory& memory, std::uint32_t lane) {
  const std::uint32_t unit = Kind != block_kind::small ? max_unit_tokens : table.block_tokens;
  const std::uint32_t log2_block_units = block_log2_units<Kind>(table.block_tokens);
  const std::uint32_t units = view.blocks << log2_block_units;
  const std::uint32_t shift = stage<true>(memory, source, view.tokens, units * unit, lane);
  std::uint64_t sums[2];
  if (Kind != block_kind::small) {
    digest_pair(memory, shift, lane, sums);
  } else {
    for (std::uint32_t e = 0; e < 2; ++e) {
      sums[e] = digest_unit<true>(memory, shift + (2 * lane + e) * unit, unit);
    }
  }
  const std::uint64_t first_unit = static_cast<std::uint64_t>(view.tile) * tile_units + 2 * lane;
  sums[0] = unit_part(key, sums[0], first_unit);
  sums[1] = unit_part(key, sums[1], first_unit + 1);
  const std::uint64_t total = scan_units(sums, lane);

  std::uint64_t base = root_sum(key, view.namespace_id);
  if (view.tile > 0) {
    if (lane == 0) store_relaxed(view.sums + view.tile, total << 2 | state_aggregate);
    base = look_back(view.sums, view.tile, lane);
  }
  if (lane == 0) store_relaxed(view.sums + view.tile, (base + total) << 2 | state_prefix);

  std::uint32_t bad = UINT32_MAX;
  const std::uint32_t found =
      find_candidates(table, key, view, sums, base, log2_block_units, memory, lane, bad);
  if (checks_tokens) {
    const std::uint32_t found_units = found << log2_block_units;
    if (Kind == block_kind::small) {
      bad = min(bad, first_difference_of_small(table, memory, shift, found_units, lane));
    } else if (found_units == tile_units) {
      bad = min(bad,
                first_difference<true>(table, memory, shift, found_units, log2_block_units, lane));
    } else {
      bad = min(bad,
                first_difference<false>(table, memory, shift, found_units, log2_block_units, lane));
    }
  }
  for (std::uint32_t b = lane; b < found; b += warp_lanes) view.row[b] = memory.ids[1 + b];
  tile_verdict verdict = {found, false, no_parent};
  if (__any_sync(full_warp, bad != UINT32_MAX)) {
    verdict.blocks = __reduce_min_sync(full_warp, bad);
    verdict.mismatch = true;
  }
  verdict.parent = memory.ids[verdict.blocks];
  return verdict;
}

}  // namespace radixkv::kernels::detail
