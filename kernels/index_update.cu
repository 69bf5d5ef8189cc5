#include <algorithm>

#include "kernels/index_update.h"
#include "kernels/launch.h"
#include "kernels/pointer_check.h"

namespace radixkv::kernels {
namespace {

constexpr std::uint32_t block_threads = 256;
constexpr std::uint64_t max_grid = 1u << 20;

// Moves part `part` of `row`'s `parts` 16-byte parts, or writes an empty slot's, unless the target
// is out of range.
__device__ void write_part(int4* to, const int4* from, std::uint64_t row, std::uint32_t part,
                           std::uint32_t parts, std::uint64_t target, std::uint64_t limit,
                           bool clear, std::uint32_t* rejected) {
  if (target < limit) {
    int4 value = {-1, -1, -1, -1};
    if (!clear) value = __ldcs(from + row * parts + part);
    to[target * parts + part] = value;
  } else if (part == 0 && rejected != nullptr) {
    atomicAdd(rejected, 1u);
  }
}

// The same for a slot that may carry clears_slot.
__device__ void write_slot(void* to, const void* from, std::uint64_t row, std::uint32_t part,
                           std::uint32_t parts, std::uint32_t slot, std::uint64_t slots,
                           std::uint32_t* rejected) {
  write_part(static_cast<int4*>(to), static_cast<const int4*>(from), row, part, parts,
             slot & ~clears_slot, slots, (slot & clears_slot) != 0, rejected);
}

// Each kind of writes begins with a warp of its own, so that warps read whole lines, over a bus
// maybe.
__host__ __device__ std::uint64_t whole_warps(std::uint64_t threads) {
  return (threads + 31) / 32 * 32;
}

// A thread per 16 bytes (per token, when a block has fewer than 4): first block slots, then group
// slots, then tokens.
__global__ void index_update_kernel(const __grid_constant__ index_update_arguments a,
                                    std::uint64_t all) {
  const std::uint64_t slots = std::uint64_t{1} << a.table.log2_slots;
  const std::uint64_t step = std::uint64_t{gridDim.x} * block_threads;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * block_threads + threadIdx.x; i < all;
       i += step) {
    std::uint64_t at = i;
    if (at < whole_warps(a.block_slot_count)) {
      if (at >= a.block_slot_count) continue;
      write_slot(a.table.blocks, a.block_entries, at, 0, 1, __ldcs(a.block_slots + at), slots,
                 a.rejected);
      continue;
    }
    at -= whole_warps(a.block_slot_count);
    const std::uint64_t group_parts = 2 * std::uint64_t{a.group_slot_count};
    if (at < whole_warps(group_parts)) {
      if (at >= group_parts) continue;
      write_slot(a.table.groups, a.group_entries, at / 2, static_cast<std::uint32_t>(at % 2), 2,
                 __ldcs(a.group_slots + at / 2), slots, a.rejected);
      continue;
    }
    at -= whole_warps(group_parts);
    const std::uint32_t size = a.table.block_tokens;
    const std::uint32_t parts = size >= 4 ? size / 4 : size;
    const std::uint64_t row = at / parts;
    const auto part = static_cast<std::uint32_t>(at % parts);
    // A negative id becomes a large one.
    const std::uint64_t block = static_cast<std::uint32_t>(__ldcs(a.token_blocks + row));
    const auto limit = static_cast<std::uint64_t>(a.table.block_count);
    if (size >= 4) {
      write_part(reinterpret_cast<int4*>(a.table.tokens), reinterpret_cast<const int4*>(a.tokens),
                 row, part, parts, block, limit, false, a.rejected);
    } else if (block < limit) {
      a.table.tokens[block * size + part] = __ldcs(a.tokens + row * size + part);
    } else if (part == 0 && a.rejected != nullptr) {
      atomicAdd(a.rejected, 1u);
    }
  }
}

bool missing(std::uint32_t count, const void* a, const void* b, const void* target) {
  return count > 0 && (a == nullptr || b == nullptr || target == nullptr);
}

}  // namespace

cudaError_t index_update(cudaStream_t stream, const index_update_arguments& a) {
  const std::uint32_t size = a.table.block_tokens;
  if (a.table.block_count < 1 || size < 1 || size > max_match_block_tokens ||
      (size & (size - 1)) != 0 || a.table.log2_slots < min_log2_slots ||
      a.table.log2_slots > max_log2_slots ||
      missing(a.block_slot_count, a.block_slots, a.block_entries, a.table.blocks) ||
      missing(a.group_slot_count, a.group_slots, a.group_entries, a.table.groups) ||
      missing(a.token_block_count, a.token_blocks, a.tokens, a.table.tokens)) {
    return cudaErrorInvalidValue;
  }
  for (const void* pointer :
       {static_cast<const void*>(a.table.blocks), static_cast<const void*>(a.table.tokens),
        static_cast<const void*>(a.block_entries), static_cast<const void*>(a.group_entries)}) {
    if (!is_aligned(pointer, 16)) return cudaErrorMisalignedAddress;
  }
  if (!is_aligned(a.table.groups, 32) || !is_aligned(a.tokens, size >= 4 ? 16 : 4) ||
      !is_aligned(a.block_slots, 4) || !is_aligned(a.group_slots, 4) ||
      !is_aligned(a.token_blocks, 4) || !is_aligned(a.rejected, 4)) {
    return cudaErrorMisalignedAddress;
  }
  const std::uint64_t parts = size >= 4 ? size / 4 : size;
  const std::uint64_t all = whole_warps(a.block_slot_count) +
                            whole_warps(2 * std::uint64_t{a.group_slot_count}) +
                            parts * a.token_block_count;
  if (all == 0) return cudaSuccess;
  const auto grid =
      static_cast<std::uint32_t>(std::min((all + block_threads - 1) / block_threads, max_grid));
  return launch(stream, index_update_kernel, dim3(grid), dim3(block_threads), 0, a, all);
}

cudaError_t load_index_update() { return load(index_update_kernel); }

}  // namespace radixkv::kernels
