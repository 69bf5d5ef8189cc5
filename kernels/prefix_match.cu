// The kernel: warps first take packs of 32 prompts, match the short ones and queue the first tiles
// of the long ones; then they take tiles from the queue until every prompt is resolved. Whoever
// finishes a segment releases the next one, or settles the prompt.

#include <algorithm>

#include "kernels/launch.h"
#include "kernels/pointer_check.h"
#include "kernels/prefix_job.cuh"
#include "kernels/prefix_long.cuh"
#include "kernels/prefix_match.h"
#include "kernels/prefix_settle.cuh"
#include "kernels/prefix_short.cuh"

namespace radixkv::kernels {
namespace {

using namespace detail;

// So that blocks and offsets fit a word.
constexpr std::int64_t max_match_tokens = std::int64_t{1} << 31;

__device__ void queue_first_tiles(const match_job& job, std::uint32_t prompt, bool is_long,
                                  std::uint32_t units, std::uint32_t lane) {
  const std::uint32_t one = __ballot_sync(full_warp, is_long);
  if (one == 0) return;
  const std::uint32_t two = __ballot_sync(full_warp, is_long && units > tile_units);
  std::uint32_t slot = 0;
  if (lane == 0) {
    slot = atomicAdd(&job.work.control->queue_tail,
                     static_cast<std::uint32_t>(__popc(one) + __popc(two)));
  }
  const std::uint32_t below = (1u << lane) - 1;
  slot = __shfl_sync(full_warp, slot, 0) + __popc(one & below) + __popc(two & below);
  if (!is_long) return;
  const word64 entry = (static_cast<word64>(prompt) << 32) + 1;
  store_relaxed(job.work.queue + slot, entry);
  if (units > tile_units) store_relaxed(job.work.queue + slot + 1, entry + 1);
}

// 32 prompts, one a lane: memory.entry is their pack.
template <block_kind Kind>
__device__ void match_prompts(const match_job& job, warp_memory& memory, std::uint32_t lane) {
  const auto first_prompt = [&memory] {
    return static_cast<std::uint32_t>(memory.entry) * warp_lanes;
  };
  const std::uint32_t prompt = first_prompt() + lane;
  const bool valid = prompt < job.prompt_count;
  std::int64_t begin = 0;
  if (prompt <= job.prompt_count) begin = __ldg(job.token_offsets + prompt);
  std::int64_t end = __shfl_down_sync(full_warp, begin, 1);
  if (valid && lane == warp_lanes - 1) end = __ldg(job.token_offsets + prompt + 1);
  std::uint32_t all_blocks = valid ? whole_blocks(job, begin, end) : 0;
  bool is_long = all_blocks > (short_units >> job.log2_block_units);
  if (__any_sync(full_warp, is_long)) {
    const bool apart = lies_apart(job, first_prompt(), begin, end, lane);
    if (is_long && !apart) {
      is_long = false;
      all_blocks = 0;
    }
  }
  queue_first_tiles(job, prompt, is_long, is_long ? all_blocks << job.log2_block_units : 0, lane);

  short_prompt mine;
  mine.units = is_long ? 0 : all_blocks << job.log2_block_units;
  mine.offset = static_cast<std::uint32_t>(begin);
  mine.row = static_cast<std::uint32_t>(begin >> job.log2_block_tokens);
  mine.namespace_id = mine.units > 0 ? namespace_of(job, prompt) : 0;
  const std::uint32_t unit = Kind != block_kind::small ? max_unit_tokens : job.table.block_tokens;
  std::uint32_t matched = 0;
  std::uint32_t left = __ballot_sync(full_warp, mine.units > 0);
  while (left != 0) {
    const std::uint32_t first = static_cast<std::uint32_t>(__ffs(left)) - 1;
    std::uint32_t first_unit;
    const std::uint32_t pack = pack_end(mine, first, unit, lane, first_unit);
    bool mismatch;
    const std::uint32_t found =
        match_pack<Kind>(job.table, job.hash, job.source, mine, first, pack, first_unit,
                         job.block_table, memory, lane, mismatch);
    if (lane >= first && lane < pack) matched = found;
    for (std::uint32_t wrong = __ballot_sync(full_warp, mismatch); wrong != 0; wrong &= wrong - 1) {
      const int who = __ffs(wrong) - 1;
      const std::uint32_t exact =
          resolve_whole(job, first_prompt() + static_cast<std::uint32_t>(who), memory, lane);
      if (lane == static_cast<std::uint32_t>(who)) matched = exact;
    }
    left = pack < warp_lanes ? left >> pack << pack : 0;
  }
  if (valid && !is_long) job.matched_blocks[prompt] = static_cast<std::int32_t>(matched);
  const std::uint32_t settled = __ballot_sync(full_warp, valid && !is_long);
  if (lane == 0 && settled != 0) {
    atomicAdd(&job.work.control->resolved_prompts, static_cast<std::uint32_t>(__popc(settled)));
  }
}

// Leaves in memory.next what comes next.
template <block_kind Kind>
__device__ void match_queued_tile(const match_job& job, warp_memory& memory, std::uint32_t lane) {
  const auto prompt = static_cast<std::uint32_t>((memory.entry - 1) >> 32);
  const auto tile = static_cast<std::uint32_t>(memory.entry - 1);
  const tiled_prompt of(job, prompt);
  const std::uint32_t tiles = of.tiles;
  const std::uint32_t tile_blocks = tile_units >> job.log2_block_units;
  const std::uint32_t first_block = tile * tile_blocks;
  word64* state = job.work.prompts + prompt;

  std::uint32_t ticket = 0;  // of lane 0
  std::uint32_t miss = 0;
  const auto known = static_cast<std::uint32_t>(load_relaxed(state) >> 32);
  if (known != 0 && missed_block(known) < first_block) {
    // Settled by an earlier tile. Later ones may wait for a sum: any will do.
    if (lane == 0) {
      store_relaxed(job.work.sums + of.slot + tile, state_prefix);
      ticket = take_ticket(memory);
    }
  } else {
    const tile_view view = {
        of.view.tokens + (static_cast<std::int64_t>(first_block) << job.log2_block_tokens),
        of.view.row + first_block,
        job.work.sums + of.slot,
        tile,
        min(tile_blocks, of.view.blocks - first_block),
        of.view.namespace_id};
    // The next ticket while this tile's last reads are on their way, not sooner: the tile that it
    // stands for is one that others may wait for.
    const tile_verdict verdict =
        match_tile<Kind>(job.table, job.hash, job.source, view, memory, lane, [&] {
          if (lane == 0) ticket = take_ticket(memory);
        });
    if (verdict.mismatch || verdict.blocks < view.blocks) {
      miss = encode_miss(first_block + verdict.blocks, verdict.mismatch);
    }
  }
  word64 now = 0;
  if (lane == 0) {
    const word64 seen = look_for_tile(job.work, ticket);
    now = finish_tile(state, miss);
    memory.next = {seen, ticket};
  }
  now = __shfl_sync(full_warp, now, 0);
  const std::uint32_t released = release_of(tile, tiles);
  if (static_cast<std::uint32_t>(now) == released) {
    finish_segment(job, prompt, static_cast<std::uint32_t>(now >> 32), released, lane);
  }
}

template <block_kind Kind>
__global__ void __launch_bounds__(block_warps* warp_lanes, blocks_per_multiprocessor)
    prefix_match_kernel(const __grid_constant__ match_job job) {
  __shared__ warp_memory shared[block_warps];
  const auto memory = [&]() -> warp_memory& { return shared[thread_in_block() / warp_lanes]; };
  const auto lane = [] { return thread_in_block() % warp_lanes; };
  if (threadIdx.x < max_unit_tokens) {
    constexpr std::uint32_t part = block_multipliers::part;
    shared[threadIdx.x / part].multipliers[threadIdx.x % part] = job.hash.multipliers[threadIdx.x];
  }
  if (threadIdx.x == 0) {
    shared->first_pack = static_cast<std::uint32_t>(
        add_relaxed(&job.work.control->taken, word64{block_warps} << 32) >> 32);
  }
  if (lane() == 0) {
    memory().control = job.work.control;
    memory().packs_left = true;
    memory().has_ticket = false;
  }
  __syncthreads();

  // Packs are taken, not dealt: the grid may be larger than what the device holds at once, and
  // blocks that have not started would keep theirs while all others wait for them.
  const std::uint32_t packs = (job.prompt_count - 1) / warp_lanes + 1;
  if (lane() == 0) {
    memory().entry = pack_entry(shared->first_pack + threadIdx.x / warp_lanes);
  }
  __syncwarp();
  while (const word64 entry = memory().entry) {
    if (!is_pack(entry)) {
      match_queued_tile<Kind>(job, memory(), lane());
    } else if (static_cast<std::uint32_t>(entry) < packs) {
      match_prompts<Kind>(job, memory(), lane());
    }
    __syncwarp();
    if (lane() == 0) {
      warp_memory& mine = memory();
      mine.entry = take_entry(job.work, mine, packs, job.prompt_count);
    }
    __syncwarp();
  }
  // The last block to come here sees all that the others wrote.
  __syncthreads();
  bool is_last = false;
  if (threadIdx.x == 0) {
    if (releases_block) __threadfence();
    is_last = add_relaxed(&job.work.control->blocks_done, 1) == gridDim.x - 1;
    if (is_last && resolver_acquires) __threadfence();
  }
  if (!__syncthreads_or(is_last)) return;
  if (load_relaxed(&job.work.control->unresolved) != 0) {
    resolve_prompts(job, memory(), thread_in_block() / warp_lanes, lane());
    __syncthreads();
  }
  if (threadIdx.x == 0) clear(*job.work.control);
}

std::uint64_t tile_slots(std::uint32_t prompt_count, std::int64_t token_count,
                         std::uint32_t block_tokens) {
  const std::uint64_t tile_tokens = tile_units * std::uint64_t{unit_tokens(block_tokens)};
  return static_cast<std::uint64_t>(token_count) / tile_tokens + prompt_count + 2;
}

bool valid_sizes(std::uint32_t prompt_count, std::int64_t token_count, std::uint32_t block_tokens) {
  return prompt_count < (1u << 31) && token_count >= 0 && token_count < max_match_tokens &&
         block_tokens >= 1 && block_tokens <= max_match_block_tokens &&
         (block_tokens & (block_tokens - 1)) == 0 &&
         tile_slots(prompt_count, token_count, block_tokens) < (std::uint64_t{1} << 31);
}

cudaError_t check(const prefix_match_arguments& a) {
  const prefix_table& table = a.table;
  if (!valid_sizes(a.prompt_count, a.token_count, table.block_tokens)) return cudaErrorInvalidValue;
  if (table.block_count < 1 || table.log2_slots < min_log2_slots ||
      table.log2_slots > max_log2_slots ||
      (std::int64_t{1} << table.log2_slots) < 2 * std::int64_t{table.block_count}) {
    return cudaErrorInvalidValue;
  }
  if (table.blocks == nullptr || table.tokens == nullptr || a.token_offsets == nullptr ||
      a.matched_blocks == nullptr || a.workspace == nullptr ||
      (uses_groups(table.block_tokens) && table.groups == nullptr) ||
      (a.token_count > 0 && a.tokens == nullptr) ||
      (a.token_count >= table.block_tokens && a.block_table == nullptr) || a.multiprocessors < 0 ||
      a.hash.mask == 0 ||
      a.workspace_bytes <
          prefix_match_workspace_bytes(a.prompt_count, a.token_count, table.block_tokens)) {
    return cudaErrorInvalidValue;
  }
  if (!is_aligned(table.blocks, 16) || !is_aligned(table.groups, 32) ||
      !is_aligned(table.tokens, 16) || !is_aligned(a.tokens, 4) ||
      !is_aligned(a.token_offsets, 8) || !is_aligned(a.namespace_ids, 4) ||
      !is_aligned(a.matched_blocks, 4) || !is_aligned(a.block_table, 4) ||
      !is_aligned(a.workspace, 16)) {
    return cudaErrorMisalignedAddress;
  }
  return cudaSuccess;
}

auto* kernel_for(std::uint32_t block_tokens) {
  if (block_tokens < max_unit_tokens) return prefix_match_kernel<block_kind::small>;
  if (block_tokens == max_unit_tokens) return prefix_match_kernel<block_kind::unit>;
  return prefix_match_kernel<block_kind::large>;
}

std::uint32_t log2_of(std::uint32_t power) {
  std::uint32_t log2 = 0;
  while ((1u << log2) < power) ++log2;
  return log2;
}

}  // namespace

std::size_t prefix_match_workspace_bytes(std::uint32_t prompt_count, std::int64_t token_count,
                                         std::uint32_t block_tokens) {
  if (!valid_sizes(prompt_count, token_count, block_tokens)) return 0;
  return sizeof(match_control) + prompt_count * sizeof(word64) +
         2 * tile_slots(prompt_count, token_count, block_tokens) * sizeof(word64);
}

cudaError_t prefix_match(cudaStream_t stream, const prefix_match_arguments& arguments) {
  if (arguments.prompt_count == 0) return cudaSuccess;
  if (const cudaError_t error = check(arguments); error != cudaSuccess) return error;
  std::int32_t multiprocessors = arguments.multiprocessors;
  if (multiprocessors == 0) {
    int device = 0;
    if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) return error;
    if (const cudaError_t error =
            cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
        error != cudaSuccess) {
      return error;
    }
  }
  const prefix_table& table = arguments.table;
  match_job job = {};
  job.table = table;
  job.hash = arguments.hash;
  job.source = {arguments.tokens, arguments.tokens + arguments.token_count};
  job.token_offsets = arguments.token_offsets;
  job.namespace_ids = arguments.namespace_ids;
  job.token_count = arguments.token_count;
  job.matched_blocks = arguments.matched_blocks;
  job.block_table = arguments.block_table;
  job.prompt_count = arguments.prompt_count;
  job.log2_block_tokens = log2_of(table.block_tokens);
  job.log2_block_units = log2_of(block_units(table.block_tokens));
  job.work.slots = tile_slots(arguments.prompt_count, arguments.token_count, table.block_tokens);
  auto* memory = static_cast<std::byte*>(arguments.workspace);
  job.work.control = reinterpret_cast<match_control*>(memory);
  memory += sizeof(match_control);
  job.work.prompts = reinterpret_cast<word64*>(memory);
  memory += arguments.prompt_count * sizeof(word64);
  job.work.sums = reinterpret_cast<word64*>(memory);
  job.work.queue = job.work.sums + job.work.slots;

  // As many warps as there can be packs and tiles at once, at most a full device. A prompt's last
  // segment is two thirds of it.
  const std::uint64_t tile_tokens = tile_units * std::uint64_t{unit_tokens(table.block_tokens)};
  const std::uint64_t work = 2 * (arguments.token_count / tile_tokens) / 3 +
                             (arguments.prompt_count + warp_lanes - 1) / warp_lanes + 1;
  const auto grid = static_cast<std::uint32_t>(std::min<std::uint64_t>(
      (work + block_warps - 1) / block_warps,
      static_cast<std::uint64_t>(multiprocessors) * blocks_per_multiprocessor));
  return launch(stream, kernel_for(table.block_tokens), dim3(grid), dim3(block_warps * warp_lanes),
                0, job);
}

cudaError_t load_prefix_match(std::uint32_t block_tokens) { return load(kernel_for(block_tokens)); }

}  // namespace radixkv::kernels
