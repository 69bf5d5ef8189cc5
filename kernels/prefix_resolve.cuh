// The exact, sequential answer for what is left of a prompt after a hash collision: one warp
// follows the chain block by block, through every entry of each key, until parent and tokens fit.
#pragma once

#include <cstdint>

#include "kernels/prefix_probe.cuh"
#include "kernels/prefix_table.h"
#include "kernels/prefix_tile.cuh"

namespace radixkv::kernels::detail {

struct prompt_view {
  const std::uint32_t* tokens;
  std::int32_t* row;  // of the block table
  std::uint32_t blocks;
  std::int32_t namespace_id;
};

// The block among the entries of `key` whose parent and tokens are these (staged from `word` on),
// or missing_block. Whole warp; 32 slots at a time.
__device__ inline std::int32_t walk_entries(const prefix_table& table, std::uint64_t key,
                                            std::int32_t parent, const warp_memory& memory,
                                            std::uint32_t word, std::uint32_t lane) {
  const std::uint32_t mask = (1u << table.log2_slots) - 1;
  const std::uint32_t home = home_slot(key, table.log2_slots);
  for (std::uint32_t at = 0; at <= mask; at += warp_lanes) {
    const block_entry entry = table.blocks[(home + at + lane) & mask];
    const std::uint32_t empty = __ballot_sync(full_warp, entry.block < 0);
    std::uint32_t fits =
        __ballot_sync(full_warp, entry.block >= 0 && entry.key == key &&
                                     (!resolver_checks_parent || entry.parent == parent));
    if (empty != 0)
      fits &= (empty & (~empty + 1)) - 1;  // the sequence ends at the first empty slot
    for (; fits != 0; fits &= fits - 1) {
      const std::int32_t block = __shfl_sync(full_warp, entry.block, __ffs(fits) - 1);
      const std::uint32_t* kept =
          table.tokens + static_cast<std::int64_t>(block) * table.block_tokens;
      bool equal = true;
      for (std::uint32_t i = lane; i < table.block_tokens; i += warp_lanes) {
        equal = equal && kept[i] == memory.words[swizzled(word + i)];
      }
      if (__all_sync(full_warp, equal || !resolver_checks_tokens)) return block;
    }
    if (empty != 0) break;
  }
  return missing_block;
}

// Continues a match at block `at`, whose predecessor `parent` is verified. `sum` is the hash sum of
// the prefix before the tile that contains block `at`. Writes ids to the prompt's row and returns
// how many blocks match. Whole warp.
__device__ __noinline__ inline std::uint32_t resolve(const prefix_table& table,
                                                     const prefix_hash_key& key,
                                                     const token_source& source,
                                                     const prompt_view& prompt, std::uint32_t at,
                                                     std::int32_t parent, std::uint64_t sum,
                                                     warp_memory& memory, std::uint32_t lane) {
  const std::uint32_t unit = unit_tokens(table.block_tokens);
  const std::uint32_t units_per_block = block_units(table.block_tokens);
  const std::uint32_t tile_blocks = tile_units / units_per_block;
  for (std::uint32_t begin = at - at % tile_blocks; begin < prompt.blocks; begin += tile_blocks) {
    const std::uint32_t blocks = min(tile_blocks, prompt.blocks - begin);
    const std::uint32_t units = blocks * units_per_block;
    const std::uint32_t shift = stage<true>(
        memory, source, prompt.tokens + static_cast<std::int64_t>(begin) * table.block_tokens,
        units * unit, lane);
    std::uint64_t parts[2] = {};
    for (std::uint32_t e = 0; e < 2; ++e) {
      const std::uint32_t u = 2 * lane + e;
      if (u >= units) break;
      parts[e] = unit_part(key, digest_unit<true>(memory, shift + u * unit, unit),
                           static_cast<std::uint64_t>(begin) * units_per_block + u);
    }
    const std::uint64_t total = scan_units(parts, lane);
    for (std::uint32_t b = at - begin; b < blocks; ++b, ++at) {
      const std::uint64_t end = sum + unit_value(parts, (b + 1) * units_per_block - 1);
      const std::int32_t block = walk_entries(table, index_key(key, end), parent, memory,
                                              shift + b * table.block_tokens, lane);
      if (block == missing_block) return at;
      if (lane == 0) prompt.row[at] = block;
      parent = block;
    }
    sum += total;
  }
  return at;
}

}  // namespace radixkv::kernels::detail
