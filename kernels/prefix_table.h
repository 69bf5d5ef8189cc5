// The flat index that prompts are matched against on the device, and its limits.
//
// Invariants, kept by the index mirror (csrc/cuda/index_mirror.h):
// 1. `blocks` holds one entry per matchable block, under the key of the prefix that ends with it.
// 2. `groups` holds one entry per block whose depth is a multiple of group_blocks, with the ids of
//    the last group_blocks blocks of its path, each the parent of the next. Only if uses_groups().
// 3. Entries are found by linear probing from home_slot(key); there is no empty slot between. Keys
//    may repeat. At most half of the slots are in use.
// 4. An entry's parent is an entry too, or names a namespace.
#pragma once

#include <cstdint>

#include "kernels/prefix_hash.h"

namespace radixkv::kernels {

inline constexpr std::uint32_t max_match_block_tokens = 1024;
inline constexpr std::uint32_t group_blocks = 4;
inline constexpr std::uint32_t min_log2_slots = 6;
inline constexpr std::uint32_t max_log2_slots = 31;  // leaves a bit for clears_slot

struct alignas(16) block_entry {
  std::uint64_t key;
  std::int32_t block;   // −1: the slot is empty
  std::int32_t parent;  // the block before it in the path, or root_parent(namespace)
};

struct alignas(32) group_entry {
  std::uint64_t key;  // of the prefix that ends with blocks[3]
  std::int32_t parent;
  std::int32_t blocks[group_blocks];  // blocks[0] = −1: the slot is empty
  std::uint32_t unused;
};

static_assert(sizeof(block_entry) == 16 && sizeof(group_entry) == 32);

// A bit of a slot number in an update: the slot becomes empty, and the entry that comes with it is
// not read. Such slots are best kept together, so that their entries cost no traffic.
inline constexpr std::uint32_t clears_slot = 1u << 31;

// A table in device memory, owned by the caller. Entries are 16-byte (blocks) and 32-byte (groups)
// aligned, tokens 16-byte. Every byte of an empty slot is 0xff: cudaMemsetAsync(…, 0xff, …) makes
// an empty table.
struct prefix_table {
  block_entry* blocks = nullptr;    // 2^log2_slots slots
  group_entry* groups = nullptr;    // 2^log2_slots slots; null if !uses_groups(block_tokens)
  std::uint32_t* tokens = nullptr;  // tokens[block × block_tokens + i]
  std::int32_t block_count = 0;     // block ids are 0 … block_count − 1
  std::uint32_t block_tokens = 0;   // power of two, 1 … max_match_block_tokens
  std::uint32_t log2_slots = 0;     // table_log2_slots(block_count)
};

// Large blocks need no groups, and a tile would not hold one.
RADIXKV_HOST_DEVICE inline constexpr bool uses_groups(std::uint32_t block_tokens) {
  return block_tokens <= 256;
}

// Parent of the first block of a path. namespace_id ≥ 0.
RADIXKV_HOST_DEVICE inline constexpr std::int32_t root_parent(std::int32_t namespace_id) {
  return -1 - namespace_id;
}

RADIXKV_HOST_DEVICE inline std::uint32_t home_slot(std::uint64_t key, std::uint32_t log2_slots) {
  return static_cast<std::uint32_t>((key * 0x9e3779b97f4a7c15ull) >> (64 - log2_slots));
}

// Slots, as a power of two, that hold block_count entries at a load of at most one half.
inline constexpr std::uint32_t table_log2_slots(std::int64_t block_count) {
  std::uint32_t log2 = min_log2_slots;
  while ((std::int64_t{1} << log2) < 2 * block_count) ++log2;
  return log2;
}

}  // namespace radixkv::kernels
