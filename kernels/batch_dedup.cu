#include <algorithm>
#include <limits>

#include <cub/device/device_scan.cuh>

#include "kernels/batch_dedup.h"
#include "kernels/cub_call.h"
#include "kernels/dedup_heads.cuh"
#include "kernels/dedup_job.cuh"
#include "kernels/dedup_verify.cuh"
#include "kernels/launch.h"
#include "kernels/pointer_check.h"

namespace radixkv::kernels {
namespace {

constexpr std::uint32_t block_threads = 256;
constexpr std::uint32_t warps = block_threads / 32;
constexpr std::uint64_t max_grid = 1u << 20;

// The last prompt whose row begins at or before a slot: only it can own the slot.
__device__ std::uint32_t prompt_of_slot(const dedup_job& job, std::uint32_t slot) {
  std::uint32_t low = 0, high = job.a.prompt_count - 1;
  while (low < high) {
    const std::uint32_t middle = low + (high - low + 1) / 2;
    if (job.a.token_offsets[middle] >> job.log2_block_tokens <= static_cast<std::int64_t>(slot)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

// Begins with tables that hold nothing.
__device__ void clear_tables(const dedup_job& job) {
  const std::uint64_t step = std::uint64_t{gridDim.x} * block_threads;
  const std::uint64_t first = std::uint64_t{blockIdx.x} * block_threads + threadIdx.x;
  for (std::uint64_t i = first; i >> job.log2_heads == 0; i += step) job.memory.heads[i] = no_head;
  for (std::uint64_t p = first; p < job.a.prompt_count; p += step) job.memory.best[p] = 0;
}

// What the blocks add to the hashes of their prompts' prefixes, and whose blocks they are. A warp
// takes 32 slots, a lane each; their tokens come unit by unit through shared memory, so that reads
// are coalesced.
__global__ void __launch_bounds__(block_threads)
    dedup_hash_kernel(const __grid_constant__ dedup_job job) {
  // Rows of an odd number of words: lanes that read a column meet different banks.
  __shared__ std::uint32_t staged[warps][32][max_unit_tokens + 1];
  const std::uint32_t lane = threadIdx.x % 32;
  auto& units = staged[threadIdx.x / 32];
  const std::uint32_t block_tokens = 1u << job.log2_block_tokens;
  const std::uint32_t unit = unit_tokens(block_tokens);
  clear_tables(job);
  const std::uint64_t step = std::uint64_t{gridDim.x} * block_threads;
  std::uint64_t first = std::uint64_t{blockIdx.x} * block_threads + threadIdx.x / 32 * 32;
  for (; first < job.slot_count; first += step) {
    const std::uint64_t slot = first + lane;
    std::uint32_t owner = no_prompt;
    std::int64_t begin = -1;  // of the block's tokens; −1: nothing is to be hashed
    std::uint64_t sum = 0, position = 0;
    if (slot < job.slot_count) {
      const std::uint32_t p = prompt_of_slot(job, static_cast<std::uint32_t>(slot));
      const dedup_prompt prompt = load_prompt(job, p);
      const std::int64_t depth = static_cast<std::int64_t>(slot) - prompt.row;
      if (depth >= prompt.matched && depth < prompt.blocks) {
        owner = p;
        begin = prompt.tokens - job.a.tokens + (depth << job.log2_block_tokens);
        position = static_cast<std::uint64_t>(depth) * block_units(block_tokens);
        if (depth == prompt.matched) {
          sum =
              mix(job.a.hash, job.a.hash.root ^ (static_cast<std::uint64_t>(prompt.matched) << 32 |
                                                 static_cast<std::uint32_t>(prompt.parent)));
        }
      }
    }
    for (std::uint32_t at = 0; at < block_tokens && __any_sync(full_warp, begin >= 0); at += unit) {
      const std::uint32_t in_unit = lane % max_unit_tokens;
#pragma unroll
      for (std::uint32_t pair = 0; pair < 32; pair += 32 / max_unit_tokens) {
        const std::uint32_t item = pair + lane / max_unit_tokens;
        const std::int64_t from = __shfl_sync(full_warp, begin, item);
        units[item][in_unit] = from >= 0 && in_unit < unit ? job.a.tokens[from + at + in_unit] : 0;
      }
      __syncwarp();
      if (begin >= 0) {
        unit_digest digest;
#pragma unroll
        for (std::uint32_t i = 0; i < max_unit_tokens; ++i) {
          digest.add(job.a.hash.multipliers[i], units[lane][i]);
        }
        sum += unit_part(job.a.hash, digest.value(), position++);
      }
      __syncwarp();
    }
    if (slot < job.slot_count) {
      job.memory.prompts[slot] = owner;
      job.memory.sums[slot] = sum;
    }
  }
}

__device__ std::uint64_t key_of(const dedup_job& job, std::uint64_t slot) {
  return index_key(job.a.hash, job.memory.sums[slot] & hash_sum_mask);
}

__global__ void dedup_add_kernel(const __grid_constant__ dedup_job job) {
  const std::uint64_t step = std::uint64_t{gridDim.x} * block_threads;
  for (std::uint64_t slot = std::uint64_t{blockIdx.x} * block_threads + threadIdx.x;
       slot < job.slot_count; slot += step) {
    const std::uint32_t p = job.memory.prompts[slot];
    if (p != no_prompt) add_head(job, key_of(job, slot), p);
  }
}

// For every block: if an earlier prompt has its prefix, that is a candidate; the deepest one
// counts.
__global__ void dedup_find_kernel(const __grid_constant__ dedup_job job) {
  const std::uint32_t lane = threadIdx.x % 32;
  const std::uint64_t step = std::uint64_t{gridDim.x} * block_threads;
  std::uint64_t first = std::uint64_t{blockIdx.x} * block_threads + threadIdx.x / 32 * 32;
  for (; first < job.slot_count; first += step) {
    const std::uint64_t slot = first + lane;
    const std::uint32_t p = slot < job.slot_count ? job.memory.prompts[slot] : no_prompt;
    const std::uint32_t head = p != no_prompt ? head_of(job, key_of(job, slot)) : no_prompt;
    const std::uint32_t sharing = head < p ? p : no_prompt;
    // The next lane's block lies deeper in the same prompt: what it finds counts.
    const bool deeper = __shfl_down_sync(full_warp, sharing, 1) == sharing && lane < 31;
    if (sharing == no_prompt || deeper) continue;
    const std::int64_t row = job.a.token_offsets[p] >> job.log2_block_tokens;
    const auto depth = static_cast<unsigned long long>(static_cast<std::int64_t>(slot) - row + 1);
    atomicMax(job.memory.best + p, depth << 32 | head);
  }
}

// A warp takes `per_warp` prompts, a lane each, and compares together what some of them share.
__global__ void dedup_verify_kernel(const __grid_constant__ dedup_job job, std::uint32_t per_warp) {
  const std::uint32_t lane = threadIdx.x % 32;
  const std::uint64_t step = std::uint64_t{gridDim.x} * warps * per_warp;
  std::uint64_t first = (std::uint64_t{blockIdx.x} * warps + threadIdx.x / 32) * per_warp;
  for (; first < job.a.prompt_count; first += step) {
    const std::uint64_t p = first + lane;
    const bool mine = lane < per_warp && p < job.a.prompt_count;
    const unsigned long long best = mine ? job.memory.best[p] : 0;
    dedup_answer answer = {static_cast<std::uint32_t>(p), 0};
    for (std::uint32_t left = __ballot_sync(full_warp, best != 0); left != 0; left &= left - 1) {
      const std::uint32_t who = __ffs(left) - 1;
      const dedup_answer found =
          verified(job, static_cast<std::uint32_t>(first) + who,
                   __shfl_sync(full_warp, best, static_cast<int>(who)), lane);
      if (lane == who) answer = found;
    }
    if (mine) {
      job.a.representatives[p] = static_cast<std::int32_t>(answer.representative);
      job.a.shared_blocks[p] = static_cast<std::int32_t>(answer.shared);
    }
  }
}

cudaError_t cub_bytes(std::uint32_t slots, std::size_t& bytes) {
  bytes = 0;
  return cub_call([&] {
    return cub::DeviceScan::InclusiveSumByKey(
        nullptr, bytes, static_cast<std::uint32_t*>(nullptr), static_cast<std::uint64_t*>(nullptr),
        static_cast<std::uint64_t*>(nullptr), static_cast<int>(slots));
  });
}

// Lays the arrays out from `base` on.
cudaError_t lay_out(void* base, std::uint32_t prompts, std::uint32_t slots, dedup_memory& m) {
  auto* at = static_cast<std::byte*>(base);
  std::size_t used = 0;
  const auto take = [&](auto*& array, std::size_t count) {
    array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(
        reinterpret_cast<std::uintptr_t>(at) + used);
    used += (count * sizeof(*array) + 255) / 256 * 256;
  };
  m = {};
  take(m.prompts, slots);
  take(m.sums, slots);
  take(m.heads, std::size_t{1} << table_log2_slots(slots));
  take(m.best, prompts);
  const cudaError_t error = cub_bytes(slots, m.temporary_bytes);
  std::byte* temporary = nullptr;
  take(temporary, m.temporary_bytes);
  m.temporary = temporary;
  m.bytes = used;
  return error;
}

bool valid_sizes(std::uint32_t prompts, std::int64_t tokens, std::uint32_t block_tokens) {
  return prompts <= std::numeric_limits<std::int32_t>::max() && tokens >= 0 && block_tokens >= 1 &&
         block_tokens <= max_match_block_tokens && (block_tokens & (block_tokens - 1)) == 0 &&
         tokens / block_tokens <= std::numeric_limits<std::int32_t>::max();
}

dim3 grid_for(std::uint64_t threads) {
  return dim3(static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>((threads + block_threads - 1) / block_threads, 1, max_grid)));
}

cudaError_t sum_by_prompt(cudaStream_t stream, const dedup_memory& m, std::uint32_t slots) {
  std::size_t bytes = m.temporary_bytes;
  return cub_call([&] {
    return cub::DeviceScan::InclusiveSumByKey(m.temporary, bytes, m.prompts, m.sums, m.sums,
                                              static_cast<int>(slots), cuda::std::equal_to<>{},
                                              stream);
  });
}

cudaError_t find_candidates(cudaStream_t stream, const dedup_job& job) {
  const dedup_memory& m = job.memory;
  const dim3 grid = grid_for(job.slot_count);
  cudaError_t error = launch(stream, dedup_hash_kernel, grid, dim3(block_threads), 0, job);
  if (error == cudaSuccess) error = sum_by_prompt(stream, m, job.slot_count);
  if (error == cudaSuccess) {
    error = launch(stream, dedup_add_kernel, grid, dim3(block_threads), 0, job);
  }
  if (error == cudaSuccess) {
    error = launch(stream, dedup_find_kernel, grid, dim3(block_threads), 0, job);
  }
  return error;
}

}  // namespace

cudaError_t batch_dedup_workspace_bytes(std::uint32_t prompt_count, std::int64_t token_count,
                                        std::uint32_t block_tokens, std::size_t& bytes) {
  bytes = 0;
  if (!valid_sizes(prompt_count, token_count, block_tokens)) return cudaErrorInvalidValue;
  dedup_memory memory;
  const cudaError_t error = lay_out(nullptr, prompt_count,
                                    static_cast<std::uint32_t>(token_count / block_tokens), memory);
  if (error == cudaSuccess) bytes = memory.bytes;
  return error;
}

cudaError_t batch_dedup(cudaStream_t stream, const batch_dedup_arguments& a) {
  if (a.prompt_count == 0) return cudaSuccess;
  if (!valid_sizes(a.prompt_count, a.token_count, a.block_tokens)) return cudaErrorInvalidValue;
  dedup_job job = {};
  job.a = a;
  job.slot_count = static_cast<std::uint32_t>(a.token_count / a.block_tokens);
  while ((1u << job.log2_block_tokens) < a.block_tokens) ++job.log2_block_tokens;
  job.log2_heads = table_log2_slots(job.slot_count);
  if (const cudaError_t error = lay_out(a.workspace, a.prompt_count, job.slot_count, job.memory);
      error != cudaSuccess) {
    return error;
  }
  if (a.token_offsets == nullptr || a.matched_blocks == nullptr || a.representatives == nullptr ||
      a.shared_blocks == nullptr || a.workspace == nullptr || a.hash.mask == 0 ||
      (job.slot_count > 0 && (a.tokens == nullptr || a.block_table == nullptr)) ||
      a.workspace_bytes < job.memory.bytes) {
    return cudaErrorInvalidValue;
  }
  if (!is_aligned(a.tokens, 4) || !is_aligned(a.token_offsets, 8) ||
      !is_aligned(a.namespace_ids, 4) || !is_aligned(a.matched_blocks, 4) ||
      !is_aligned(a.block_table, 4) || !is_aligned(a.representatives, 4) ||
      !is_aligned(a.shared_blocks, 4) || !is_aligned(a.workspace, 256)) {
    return cudaErrorMisalignedAddress;
  }
  cudaError_t error = find_candidates(stream, job);
  if (error == cudaSuccess) {
    // As many warps as keep a large device busy; beyond that a warp writes more results at a time.
    const std::uint32_t per_warp = std::clamp(a.prompt_count / 4096, 1u, 32u);
    const std::uint64_t threads = (a.prompt_count + per_warp - 1) / per_warp * std::uint64_t{32};
    error = launch(stream, dedup_verify_kernel, grid_for(threads), dim3(block_threads), 0, job,
                   per_warp);
  }
  return error;
}

cudaError_t load_batch_dedup(cudaStream_t stream, void* workspace, std::size_t workspace_bytes) {
  if (const cudaError_t error =
          load(dedup_hash_kernel, dedup_add_kernel, dedup_find_kernel, dedup_verify_kernel);
      error != cudaSuccess) {
    return error;
  }
  dedup_memory m;
  if (const cudaError_t error = lay_out(workspace, 1, 1, m); error != cudaSuccess) return error;
  if (workspace_bytes < m.bytes) return cudaSuccess;  // no batch will have a block
  for (const auto& [array, bytes] :
       {std::pair<void*, std::size_t>{m.prompts, sizeof *m.prompts}, {m.sums, sizeof *m.sums}}) {
    if (const cudaError_t error = cudaMemsetAsync(array, 0, bytes, stream); error != cudaSuccess) {
      (void)cudaGetLastError();
      return error;
    }
  }
  return sum_by_prompt(stream, m, 1);
}

}  // namespace radixkv::kernels
