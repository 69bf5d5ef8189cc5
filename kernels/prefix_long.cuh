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
};

// What the index keeps for the candidates of a tile's units, beyond memory.kept.
struct kept_registers {
  uint4 rounds[load_rounds - kept_rounds];
};

// Starts to fetch it: 16 bytes a lane and round. `Whole`: all units of the tile have candidates.
template <bool Whole>
__device__ kept_registers fetch_kept(const prefix_table& table, warp_memory& memory,
                                     std::uint32_t units, std::uint32_t log2_block_units,
                                     std::uint32_t lane) {
  kept_registers registers = {};
  const std::uint32_t mask = (1u << log2_block_units) - 1;
  const std::byte* const kept_tokens =
      reinterpret_cast<const std::byte*>(table.tokens) + 16 * (lane & 3);
#pragma unroll
  for (std::uint32_t r = 0; r < load_rounds; ++r) {
    const std::uint32_t unit = 8 * r + (lane >> 2);
    if (Whole || unit < units) {
      const auto block = static_cast<std::uint32_t>(memory.ids[1 + (unit >> log2_block_units)]);
      const std::uint64_t at =
          log2_block_units == 0
              ? block
              : (static_cast<std::uint64_t>(block) << log2_block_units) + (unit & mask);
      const std::byte* from = kept_tokens + 64 * at;
      if (r < kept_rounds) {
        copy_async(memory.kept + r * warp_lanes + lane, from);
      } else {
        registers.rounds[r - kept_rounds] = __ldg(reinterpret_cast<const uint4*>(from));
      }
    }
  }
  return registers;
}

// Compares what the lane fetched with the tile, which starts at staged word Shift. Returns the
// first round, counted in blocks, in which it sees a difference.
template <std::uint32_t Shift>
__device__ std::uint32_t first_difference(const warp_memory& memory, kept_registers registers,
                                          std::uint32_t units, std::uint32_t log2_block_units,
                                          std::uint32_t lane) {
  const auto* chunks = reinterpret_cast<const uint4*>(memory.words);
  std::uint32_t different = 0;  // a bit per round
#pragma unroll
  for (std::uint32_t r = 0; r < load_rounds; ++r) {
    const uint4 low = chunks[swizzled_chunk(r, lane)];
    const uint4 high = Shift != 0 ? chunks[swizzled_chunk(r, lane + 1)] : low;
    if (8 * r + (lane >> 2) < units) {
      uint4 kept;
      if (r < kept_rounds) {
        kept = memory.kept[r * warp_lanes + lane];
      } else {
        kept = registers.rounds[r - kept_rounds];
      }
      if (differ(kept, shifted<Shift>(low, high))) different |= 1u << r;
    }
  }
  if (different == 0) return UINT32_MAX;
  const auto round = static_cast<std::uint32_t>(__ffs(different)) - 1;
  return (8 * round + (lane >> 2)) >> log2_block_units;
}

__device__ inline std::uint32_t first_difference(const warp_memory& memory, std::uint32_t shift,
                                                 const kept_registers& registers,
                                                 std::uint32_t units,
                                                 std::uint32_t log2_block_units,
                                                 std::uint32_t lane) {
  switch (shift) {
    case 0:
      return first_difference<0>(memory, registers, units, log2_block_units, lane);
    case 1:
      return first_difference<1>(memory, registers, units, log2_block_units, lane);
    case 2:
      return first_difference<2>(memory, registers, units, log2_block_units, lane);
    default:
      return first_difference<3>(memory, registers, units, log2_block_units, lane);
  }
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
      if (kept[i] != memory.words[swizzled(shift + unit * size + i)]) first = unit;
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
    const std::uint64_t before_key = index_key(key, base);
    const bool asks_before = lane < 2 && view.tile > 0;
    // Both first reads are on their way before either is waited for.
    int4 before = {0, 0, 0, 0};
    if (in_group) half = load_group_half(table, home_slot(group_key, table.log2_slots), lane);
    if (asks_before) before = load_group_half(table, home_slot(before_key, table.log2_slots), lane);
    const bool found = settle_group(table, group_key, in_group, lane, half);
    const bool found_before = settle_group(table, before_key, asks_before, lane, before);
    if (lane == 1 && asks_before) memory.ids[0] = found_before ? before.z : no_parent;
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
  // The block before the tile, found by the same look-up that its own tile makes.
  if (view.tile == 0) {
    if (lane == 0) memory.ids[0] = root_parent(view.namespace_id);
  } else if (!groups && lane == 0) {
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

// Whole warp. Publishes the tile's sum, writes its candidates to the row. Calls `meanwhile` while
// it waits for the last of its reads.
template <block_kind Kind, class Meanwhile>
__device__ tile_verdict match_tile(const prefix_table& table, const prefix_hash_key& key,
                                   const token_source& source, const tile_view& view,
                                   warp_memory& memory, std::uint32_t lane, Meanwhile meanwhile) {
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
  const std::uint32_t found_units = found << log2_block_units;
  kept_registers kept = {};
  if (checks_tokens && Kind != block_kind::small) {
    if (found_units == tile_units) {
      kept = fetch_kept<true>(table, memory, found_units, log2_block_units, lane);
    } else {
      kept = fetch_kept<false>(table, memory, found_units, log2_block_units, lane);
    }
  }
#pragma unroll
  for (std::uint32_t r = 0; r < tile_units / warp_lanes; ++r) {
    const std::uint32_t b = r * warp_lanes + lane;
    if (b < found) view.row[b] = memory.ids[1 + b];
  }
  meanwhile();
  if (checks_tokens) {
    if (Kind == block_kind::small) {
      bad = min(bad, first_difference_of_small(table, memory, shift, found_units, lane));
    } else {
      wait_for_copies();
      bad = min(bad, first_difference(memory, shift, kept, found_units, log2_block_units, lane));
    }
  }
  tile_verdict verdict = {found, false};
  if (__any_sync(full_warp, bad != UINT32_MAX)) {
    verdict.blocks = __reduce_min_sync(full_warp, bad);
    verdict.mismatch = true;
  }
  return verdict;
}

}  // namespace radixkv::kernels::detail
