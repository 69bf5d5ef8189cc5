#include <algorithm>
#include <limits>

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_run_length_encode.cuh>
#include <cub/device/device_scan.cuh>

#include "kernels/batch_dedup.h"
#include "kernels/cub_call.h"
#include "kernels/launch.h"
#include "kernels/pointer_check.h"
#include "kernels/prefix_table.h"

namespace radixkv::kernels {
namespace {

constexpr std::uint32_t block_threads = 256;
constexpr std::uint32_t item_lanes = 16;  // threads that hash a block's tokens
constexpr std::uint32_t full_warp = 0xffffffffu;
constexpr std::uint32_t no_prompt = 0xffffffffu;
constexpr std::uint64_t no_key = ~std::uint64_t{0};
constexpr std::uint64_t max_grid = 1u << 20;

// Slot s of these is slot s of the block table: a whole block of a prompt, or unused.
struct dedup_memory {
  std::uint32_t* prompts;  // the prompt whose uncached block this is, or no_prompt
  std::uint64_t* sums;
  std::uint64_t* keys;
  std::uint64_t* sorted_keys;
  std::uint32_t* slots;
  std::uint32_t* sorted_slots;
  std::uint64_t* run_keys;
  std::uint32_t* run_lengths;
  std::uint32_t* run_starts;
  std::uint32_t* run_count;
  unsigned long long* best;  // per prompt: shared depth in blocks × 2³² + representative
  void* temporary;
  std::size_t temporary_bytes;
  std::size_t bytes;  // of everything
};

struct dedup_job {
  batch_dedup_arguments a;
  dedup_memory memory;
  std::uint32_t slot_count;
  std::uint32_t log2_block_tokens;
};

struct dedup_prompt {
  const std::uint32_t* tokens;
  std::int64_t row;
  std::uint32_t blocks;   // whole
  std::uint32_t matched;  // of them
  std::int32_t parent;    // the last matched block, or the namespace's root
};

__device__ dedup_prompt load_prompt(const dedup_job& job, std::uint32_t p) {
  const std::int64_t begin = job.a.token_offsets[p];
  const std::int64_t end = job.a.token_offsets[p + 1];
  dedup_prompt prompt = {};
  prompt.tokens = job.a.tokens + begin;
  prompt.row = begin >> job.log2_block_tokens;
  const bool valid = begin >= 0 && begin <= end && end <= job.a.token_count;
  prompt.blocks = valid ? static_cast<std::uint32_t>((end - begin) >> job.log2_block_tokens) : 0;
  prompt.matched = min(static_cast<std::uint32_t>(max(job.a.matched_blocks[p], 0)), prompt.blocks);
  const std::int32_t namespace_id = job.a.namespace_ids == nullptr ? 0 : job.a.namespace_ids[p];
  prompt.parent = prompt.matched > 0 ? job.a.block_table[prompt.row + prompt.matched - 1]
                                     : root_parent(namespace_id);
  return prompt;
}

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

__global__ void hash_items(const __grid_constant__ dedup_job job) {
  const std::uint32_t lane = threadIdx.x % item_lanes;
  const std::uint64_t groups = std::uint64_t{gridDim.x} * block_threads / item_lanes;
  std::uint64_t slot = (std::uint64_t{blockIdx.x} * block_threads + threadIdx.x) / item_lanes;
  // Both halves of a warp go round together, for the shuffles.
  for (; slot / 2 * 2 < job.slot_count; slot += groups) {
    std::uint64_t sum = 0;
    std::uint32_t owner = no_prompt;
    if (slot < job.slot_count) {
      const std::uint32_t p = prompt_of_slot(job, static_cast<std::uint32_t>(slot));
      const dedup_prompt prompt = load_prompt(job, p);
      const std::int64_t depth = static_cast<std::int64_t>(slot) - prompt.row;
      if (depth >= prompt.matched && depth < prompt.blocks) {
        owner = p;
        const std::uint32_t* tokens = prompt.tokens + (depth << job.log2_block_tokens);
        const std::uint64_t at = static_cast<std::uint64_t>(depth) << job.log2_block_tokens;
        for (std::uint32_t i = lane; i < job.a.block_tokens; i += item_lanes) {
          sum += unit_part(job.a.hash, tokens[i], at + i);
        }
        if (lane == 0 && depth == prompt.matched) {
          sum +=
              mix(job.a.hash, job.a.hash.root ^ (static_cast<std::uint64_t>(prompt.matched) << 32 |
                                                 static_cast<std::uint32_t>(prompt.parent)));
        }
      }
    }
    for (std::uint32_t d = item_lanes / 2; d > 0; d /= 2) {
      sum += __shfl_xor_sync(full_warp, sum, d);
    }
    if (lane == 0 && slot < job.slot_count) {
      job.memory.prompts[slot] = owner;
      job.memory.sums[slot] = sum;
    }
  }
}

__global__ void make_keys(const __grid_constant__ dedup_job job) {
  const std::uint64_t step = std::uint64_t{gridDim.x} * block_threads;
  const std::uint64_t first = std::uint64_t{blockIdx.x} * block_threads + threadIdx.x;
  for (std::uint64_t s = first; s < job.slot_count; s += step) {
    job.memory.keys[s] = job.memory.prompts[s] == no_prompt
                             ? no_key
                             : index_key(job.a.hash, job.memory.sums[s] & hash_sum_mask);
    job.memory.slots[s] = static_cast<std::uint32_t>(s);
  }
}

__global__ void clear_best(const __grid_constant__ dedup_job job) {
  const std::uint64_t step = std::uint64_t{gridDim.x} * block_threads;
  for (std::uint64_t p = std::uint64_t{blockIdx.x} * block_threads + threadIdx.x;
       p < job.a.prompt_count; p += step) {
    job.memory.best[p] = 0;
  }
}

// For every block: if an earlier prompt heads its run, that is a candidate; the deepest one counts.
__global__ void find_heads(const __grid_constant__ dedup_job job) {
  const dedup_memory& m = job.memory;
  const std::uint32_t runs = *m.run_count;
  const std::uint64_t step = std::uint64_t{gridDim.x} * block_threads;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * block_threads + threadIdx.x;
       i < job.slot_count; i += step) {
    if (m.sorted_keys[i] == no_key) continue;
    std::uint32_t low = 0, high = runs - 1;
    while (low < high) {
      const std::uint32_t middle = low + (high - low + 1) / 2;
      if (m.run_starts[middle] <= i) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    const std::uint32_t slot = m.sorted_slots[i];
    const std::uint32_t p = m.prompts[slot];
    const std::uint32_t head = m.prompts[m.sorted_slots[m.run_starts[low]]];
    if (head >= p) continue;
    const std::int64_t row = job.a.token_offsets[p] >> job.log2_block_tokens;
    const auto depth = static_cast<unsigned long long>(slot - row + 1);
    atomicMax(m.best + p, depth << 32 | head);
  }
}

// Whole blocks that two prompts have in common beyond the cached ones, at most `limit`. Whole warp.
__device__ std::uint32_t common_blocks(const dedup_job& job, const dedup_prompt& a,
                                       const dedup_prompt& b, std::uint32_t limit,
                                       std::uint32_t lane) {
  // The same cached block is the same prefix before it.
  if (a.matched != b.matched || a.parent != b.parent) return 0;
  limit = min(limit, min(a.blocks, b.blocks) - a.matched);
  const std::int64_t begin = static_cast<std::int64_t>(a.matched) << job.log2_block_tokens;
  const std::int64_t end = begin + (static_cast<std::int64_t>(limit) << job.log2_block_tokens);
  for (std::int64_t t = begin; t < end; t += 32) {
    const bool differs = t + lane < end && a.tokens[t + lane] != b.tokens[t + lane];
    if (const std::uint32_t where = __ballot_sync(full_warp, differs); where != 0) {
      return static_cast<std::uint32_t>((t + __ffs(where) - 1 - begin) >> job.log2_block_tokens);
    }
  }
  return limit;
}

// A warp per prompt.
__global__ void verify_heads(const __grid_constant__ dedup_job job) {
  const std::uint32_t lane = threadIdx.x % 32;
  const std::uint64_t step = std::uint64_t{gridDim.x} * block_threads / 32;
  for (std::uint64_t i = (std::uint64_t{blockIdx.x} * block_threads + threadIdx.x) / 32;
       i < job.a.prompt_count; i += step) {
    const auto p = static_cast<std::uint32_t>(i);
    const unsigned long long best = job.memory.best[p];
    std::uint32_t representative = p, shared = 0;
    if (best != 0) {
      const dedup_prompt mine = load_prompt(job, p);
      const auto depth = static_cast<std::uint32_t>(best >> 32);
      representative = static_cast<std::uint32_t>(best);
      shared = depth - mine.matched;
      if (common_blocks(job, mine, load_prompt(job, representative), shared, lane) != shared) {
        // Hashes collided. Nothing deeper than `shared` can be common, or its keys would be equal
        // too.
        const std::uint32_t limit = shared;
        representative = p;
        shared = 0;
        for (std::uint32_t q = 0; q < p && shared < limit; ++q) {
          const std::uint32_t common = common_blocks(job, mine, load_prompt(job, q), limit, lane);
          if (common > shared) {
            shared = common;
            representative = q;
          }
        }
      }
    }
    if (lane == 0) {
      job.a.representatives[p] = static_cast<std::int32_t>(representative);
      job.a.shared_blocks[p] = static_cast<std::int32_t>(shared);
    }
  }
}

std::size_t cub_bytes(std::uint32_t slots) {
  std::size_t sum = 0, sort = 0, encode = 0, starts = 0;
  std::uint32_t* words = nullptr;
  std::uint64_t* longs = nullptr;
  const auto n = static_cast<int>(slots);
  const auto size = [](auto call) { return cub_call(call) == cudaSuccess; };
  const bool sized =
      size([&] {
        return cub::DeviceScan::InclusiveSumByKey(nullptr, sum, words, longs, longs, n);
      }) &&
      size([&] {
        return cub::DeviceRadixSort::SortPairs(nullptr, sort, longs, longs, words, words, n);
      }) &&
      size([&] {
        return cub::DeviceRunLengthEncode::Encode(nullptr, encode, longs, longs, words, words, n);
      }) &&
      size([&] { return cub::DeviceScan::ExclusiveSum(nullptr, starts, words, words, n); });
  if (!sized) return 0;
  return std::max(std::max(sum, sort), std::max(encode, starts));
}

// Lays the arrays out from `base` on.
dedup_memory lay_out(void* base, std::uint32_t prompts, std::uint32_t slots) {
  auto* at = static_cast<std::byte*>(base);
  std::size_t used = 0;
  const auto take = [&](auto*& array, std::size_t count) {
    array = reinterpret_cast<std::remove_reference_t<decltype(array)>>(
        reinterpret_cast<std::uintptr_t>(at) + used);
    used += (count * sizeof(*array) + 255) / 256 * 256;
  };
  dedup_memory m = {};
  take(m.prompts, slots);
  take(m.sums, slots);
  take(m.keys, slots);
  take(m.sorted_keys, slots);
  take(m.slots, slots);
  take(m.sorted_slots, slots);
  take(m.run_keys, slots);
  take(m.run_lengths, slots);
  take(m.run_starts, slots);
  take(m.run_count, 1);
  take(m.best, prompts);
  m.temporary_bytes = cub_bytes(slots);
  std::byte* temporary = nullptr;
  take(temporary, m.temporary_bytes);
  m.temporary = temporary;
  m.bytes = used;
  return m;
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

cudaError_t find_candidates(cudaStream_t stream, const dedup_job& job) {
  const dedup_memory& m = job.memory;
  const auto n = static_cast<int>(job.slot_count);
  std::size_t bytes = m.temporary_bytes;
  cudaError_t error =
      launch(stream, hash_items, grid_for(std::uint64_t{job.slot_count} * item_lanes),
             dim3(block_threads), 0, job);
  if (error == cudaSuccess) {
    error = cub_call([&] {
      return cub::DeviceScan::InclusiveSumByKey(m.temporary, bytes, m.prompts, m.sums, m.sums, n,
                                                cuda::std::equal_to<>{}, stream);
    });
  }
  if (error == cudaSuccess) {
    error = launch(stream, make_keys, grid_for(job.slot_count), dim3(block_threads), 0, job);
  }
  if (error == cudaSuccess) {
    error = cub_call([&] {
      return cub::DeviceRadixSort::SortPairs(m.temporary, bytes, m.keys, m.sorted_keys, m.slots,
                                             m.sorted_slots, n, 0, 64, stream);
    });
  }
  // There are fewer runs than slots: the scan below must not meet what is left of an earlier call.
  if (error == cudaSuccess) {
    error = cudaMemsetAsync(m.run_lengths, 0, job.slot_count * sizeof(*m.run_lengths), stream);
  }
  if (error == cudaSuccess) {
    error = cub_call([&] {
      return cub::DeviceRunLengthEncode::Encode(m.temporary, bytes, m.sorted_keys, m.run_keys,
                                                m.run_lengths, m.run_count, n, stream);
    });
  }
  if (error == cudaSuccess) {
    error = cub_call([&] {
      return cub::DeviceScan::ExclusiveSum(m.temporary, bytes, m.run_lengths, m.run_starts, n,
                                           stream);
    });
  }
  if (error == cudaSuccess) {
    error = launch(stream, find_heads, grid_for(job.slot_count), dim3(block_threads), 0, job);
  }
  return error;
}

}  // namespace

std::size_t batch_dedup_workspace_bytes(std::uint32_t prompt_count, std::int64_t token_count,
                                        std::uint32_t block_tokens) {
  if (!valid_sizes(prompt_count, token_count, block_tokens)) return 0;
  return lay_out(nullptr, prompt_count, static_cast<std::uint32_t>(token_count / block_tokens))
      .bytes;
}

cudaError_t batch_dedup(cudaStream_t stream, const batch_dedup_arguments& a) {
  if (a.prompt_count == 0) return cudaSuccess;
  if (!valid_sizes(a.prompt_count, a.token_count, a.block_tokens)) return cudaErrorInvalidValue;
  dedup_job job = {};
  job.a = a;
  job.slot_count = static_cast<std::uint32_t>(a.token_count / a.block_tokens);
  while ((1u << job.log2_block_tokens) < a.block_tokens) ++job.log2_block_tokens;
  job.memory = lay_out(a.workspace, a.prompt_count, job.slot_count);
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
  cudaError_t error =
      launch(stream, clear_best, grid_for(a.prompt_count), dim3(block_threads), 0, job);
  if (error == cudaSuccess && job.slot_count > 0) error = find_candidates(stream, job);
  if (error == cudaSuccess) {
    error = launch(stream, verify_heads, grid_for(std::uint64_t{a.prompt_count} * 32),
                   dim3(block_threads), 0, job);
  }
  return error;
}

}  // namespace radixkv::kernels
