// Look-ups in the flat index. A hit is the first entry of the probe sequence with the key: only a
// candidate, because keys may repeat. The same key always finds the same candidate, so two warps
// agree on the block between their tiles without talking to each other.
#pragma once

#include <climits>
#include <cstdint>

#include "kernels/prefix_table.h"
#include "kernels/prefix_tile.cuh"

namespace radixkv::kernels::detail {

// Tests compile the kernel without one of its checks, to see that they would notice.
#if defined(RADIXKV_TEST_DROP_TOKEN_CHECK)
inline constexpr bool checks_tokens = false;
#else
inline constexpr bool checks_tokens = true;
#endif
#if defined(RADIXKV_TEST_DROP_PARENT_CHECK)
inline constexpr bool checks_parent = false;
#else
inline constexpr bool checks_parent = true;
#endif
#if defined(RADIXKV_TEST_DROP_RESOLVER_TOKEN_CHECK)
inline constexpr bool resolver_checks_tokens = false;
#else
inline constexpr bool resolver_checks_tokens = true;
#endif
#if defined(RADIXKV_TEST_DROP_RESOLVER_PARENT_CHECK)
inline constexpr bool resolver_checks_parent = false;
#else
inline constexpr bool resolver_checks_parent = true;
#endif

inline constexpr std::int32_t missing_block = -1;
// Parent of nothing: what stands for a block before a tile that is not in the index.
inline constexpr std::int32_t no_parent = INT_MIN;

struct candidate {
  std::int32_t block;  // missing_block: no entry has the key
  std::int32_t parent;
};

// Each lane for itself.
__device__ inline candidate probe_block(const prefix_table& table, std::uint64_t key) {
  const std::uint32_t mask = (1u << table.log2_slots) - 1;
  std::uint32_t slot = home_slot(key, table.log2_slots);
  for (;; slot = (slot + 1) & mask) {
    const int4 raw = __ldg(reinterpret_cast<const int4*>(table.blocks) + slot);
    const auto found = static_cast<std::uint64_t>(static_cast<std::uint32_t>(raw.y)) << 32 |
                       static_cast<std::uint32_t>(raw.x);
    if (raw.z < 0) return {missing_block, no_parent};
    if (found == key) return {raw.z, raw.w};
  }
}

// The halves of a group entry, read by two neighbouring lanes in one request: the even lane gets
// {key, parent, first id}, the odd lane {second, third, fourth id}.
__device__ inline int4 load_group_half(const prefix_table& table, std::uint32_t slot,
                                       std::uint32_t lane) {
  return __ldg(reinterpret_cast<const int4*>(table.groups) + 2 * static_cast<std::size_t>(slot) +
               (lane & 1));
}

// Ends a look-up that has read `half` at the home slot of `key`: moves on until the entry is found
// or there is none. `key` and `active` are the same in both lanes of a pair. Whole warp. Returns
// whether there is an entry, in both; if so `half` is the lane's half of it.
__device__ inline bool settle_group(const prefix_table& table, std::uint64_t key, bool active,
                                    std::uint32_t lane, int4& half) {
  const std::uint32_t mask = (1u << table.log2_slots) - 1;
  std::uint32_t slot = home_slot(key, table.log2_slots);
  bool found = false;
  while (true) {
    const bool empty = half.w < 0;
    const bool match = static_cast<std::uint32_t>(half.x) == static_cast<std::uint32_t>(key) &&
                       static_cast<std::uint32_t>(half.y) == static_cast<std::uint32_t>(key >> 32);
    std::uint32_t verdict = empty ? 2 : match ? 1 : 0;
    verdict = __shfl_sync(full_warp, verdict, lane & ~1u);
    if (active && verdict != 0) {
      active = false;
      found = verdict == 1;
    }
    if (!__any_sync(full_warp, active)) return found;
    slot = (slot + 1) & mask;
    if (active) half = load_group_half(table, slot, lane);
  }
}

}  // namespace radixkv::kernels::detail
