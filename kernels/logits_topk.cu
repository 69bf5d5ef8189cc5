// One thread block reads a slice of a row, tile by tile, into a topk_list and a running
// log-sum-exp. Long rows of small batches are cut into slices, whose lists a second launch merges.

#include <algorithm>
#include <cfloat>

#include <cub/block/block_reduce.cuh>

#include "kernels/launch.h"
#include "kernels/logits_topk.h"
#include "kernels/logits_types.cuh"
#include "kernels/pointer_check.h"
#include "kernels/topk_select.cuh"

namespace radixkv::kernels {
namespace {

constexpr std::uint32_t max_slices = 16;
constexpr std::uint32_t slice_tiles = 8;  // of a slice, at least: each slice costs a selection
constexpr std::uint32_t wanted_thread_blocks = 264;
constexpr std::uint32_t max_grid_y = 65535;
constexpr float log2_e = 1.4426950408889634f;
static_assert(max_top_k <= topk_threads && max_slices * max_top_k <= topk_tile);

// Σ exp(x) as sum × exp(peak); peak is finite, so that infinities and NaNs end up in sum.
struct exp_sum {
  float peak, sum;
};

__device__ float exp_of(float x) { return exp2f(x * log2_e); }

struct add_exp_sums {
  __device__ exp_sum operator()(const exp_sum& a, const exp_sum& b) const {
    const float peak = fmaxf(a.peak, b.peak);
    return {peak, a.sum * exp_of(a.peak - peak) + b.sum * exp_of(b.peak - peak)};
  }
};
using exp_sum_reduce = cub::BlockReduce<exp_sum, topk_threads>;

__device__ void accumulate(exp_sum& total, const float (&x)[topk_items]) {
  float peak = total.peak;
#pragma unroll
  for (int i = 0; i < topk_items; ++i) peak = fmaxf(peak, x[i]);
  peak = fminf(peak, FLT_MAX);
  if (peak > total.peak) {
    total.sum *= exp_of(total.peak - peak);
    total.peak = peak;
  }
#pragma unroll
  for (int i = 0; i < topk_items; ++i) total.sum += __expf(x[i] - peak);
}

struct topk_scope {
  const std::byte* rows;
  std::int64_t row_stride;  // bytes
  std::uint32_t row_count, vocabulary, k, slices, tiles_per_slice;
  const std::int32_t* slots;
  std::int32_t slot_count;
  float* values;
  std::int32_t* ids;
  float* log_sum_exp;
  std::uint32_t* rejected;
  // Of the slices, when there are several: row-major, k entries each; id −1 is none.
  float* slice_values;
  std::int32_t* slice_ids;
  exp_sum* slice_sums;
};

struct block_storage {
  topk_list::storage list;
  typename exp_sum_reduce::TempStorage reduce;
};

// Where row `row`'s result goes, or −1.
__device__ std::int32_t slot_of(const topk_scope& s, std::uint32_t row) {
  const std::int32_t slot = s.slots != nullptr ? s.slots[row] : static_cast<std::int32_t>(row);
  return slot >= 0 && slot < s.slot_count ? slot : -1;
}

__device__ void count_rejected(const topk_scope& s, std::uint32_t row) {
  if (s.slots == nullptr || s.rejected == nullptr || threadIdx.x != 0) return;
  const std::int32_t slot = s.slots[row];
  if (slot < -1 || slot >= s.slot_count) atomicAdd(s.rejected, 1u);
}

// Sorts the finished list by counting the entries that come before each, and writes the result.
__device__ void write_result(const topk_scope& s, std::int32_t slot, topk_list::storage& list,
                             const exp_sum& sum) {
  const std::uint32_t t = threadIdx.x;
  if (t < s.k) list.bins[t] = key_of(list.values[t]);
  __syncthreads();
  if (t < s.k) {
    const std::uint32_t key = list.bins[t];
    std::uint32_t rank = 0;
    for (std::uint32_t j = 0; j < s.k; ++j) {
      rank += list.bins[j] > key || (list.bins[j] == key && j < t);
    }
    const std::int64_t at = std::int64_t{slot} * s.k + rank;
    s.values[at] = list.values[t];
    s.ids[at] = list.ids[t];
  }
  if (t == 0) s.log_sum_exp[slot] = sum.peak + logf(sum.sum);
}

// Reads elements of a row; position p is element p − lead, so that vectors are aligned.
template <class Elements>
struct row_reader {
  using element = typename Elements::element;
  static constexpr int vector = 16 / sizeof(element);
  using layout = topk_layout<vector>;

  const element* base;      // aligned to 16 bytes, up to 15 bytes before the row
  std::uint32_t lead, end;  // positions of the row's first element, and past its last one

  __device__ row_reader(const std::byte* row, std::uint32_t vocabulary) {
    const auto bytes = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(row) % 16);
    base = reinterpret_cast<const element*>(row - bytes);
    lead = bytes / sizeof(element);
    end = lead + vocabulary;
  }

  __device__ static void widen(const uint4& p, float* x) {
    if constexpr (vector == 4) {
      *reinterpret_cast<float4*>(x) = Elements::widen(p);
    } else {
      *reinterpret_cast<float4*>(x) = Elements::widen(uint2{p.x, p.y});
      *reinterpret_cast<float4*>(x + 4) = Elements::widen(uint2{p.z, p.w});
    }
  }

  using packed_items = uint4[layout::tile_windows];

  // A tile of which every item exists can be fetched before it is wanted.
  __device__ bool is_whole(std::uint32_t first) const {
    return first >= lead && first + topk_tile <= end;
  }
  __device__ void fetch(std::uint32_t first, packed_items& packed) const {
    const element* mine = base + first + threadIdx.x * vector;
#pragma unroll
    for (int w = 0; w < layout::tile_windows; ++w) {
      packed[w] = *reinterpret_cast<const uint4*>(mine + w * topk_threads * vector);
    }
  }
  __device__ static void widen(const packed_items& packed, float (&x)[topk_items]) {
#pragma unroll
    for (int w = 0; w < layout::tile_windows; ++w) widen(packed[w], x + w * vector);
  }

  // This thread's items of the tile that begins at `first`; the mask of those that exist. The
  // others are −∞.
  __device__ std::uint32_t load(std::uint32_t first, float (&x)[topk_items]) const {
    const std::uint32_t mine = first + threadIdx.x * vector;
    if (is_whole(first)) {
      packed_items packed;
      fetch(first, packed);
      widen(packed, x);
      return (1u << topk_items) - 1;
    }
    std::uint32_t mask = 0;
#pragma unroll
    for (int i = 0; i < topk_items; ++i) {
      const std::uint32_t p = mine + i / vector * topk_threads * vector + i % vector;
      const bool exists = p >= lead && p < end;
      x[i] = exists ? widen_one<Elements>(base[p]) : -INFINITY;
      mask |= static_cast<std::uint32_t>(exists) << i;
    }
    return mask;
  }
};

template <class Elements>
__global__ void __launch_bounds__(topk_threads, 2)
    topk_slice_kernel(const __grid_constant__ topk_scope s) {
  using reader = row_reader<Elements>;
  __shared__ block_storage shared;
  for (std::uint32_t row = blockIdx.y; row < s.row_count; row += gridDim.y) {
    if (blockIdx.x == 0) count_rejected(s, row);
    const std::int32_t slot = slot_of(s, row);
    if (slot < 0) continue;
    const reader read(s.rows + std::int64_t{row} * s.row_stride, s.vocabulary);
    const std::uint32_t begin = blockIdx.x * s.tiles_per_slice * topk_tile;
    const std::uint32_t end = min(read.end, begin + s.tiles_per_slice * topk_tile);
    topk_list list(shared.list, s.k);
    exp_sum sum{-FLT_MAX, 0};
    typename reader::packed_items ahead;  // of the next tile, on its way meanwhile
    bool fetched = false;
    for (std::uint32_t first = begin; first < end; first += topk_tile) {
      float x[topk_items];
      std::uint32_t mask = (1u << topk_items) - 1;
      if (fetched) {
        reader::widen(ahead, x);
      } else {
        mask = read.load(first, x);
      }
      const std::uint32_t next = first + topk_tile;
      fetched = next < end && read.is_whole(next);
      if (fetched) read.fetch(next, ahead);
      accumulate(sum, x);
      if (!list.accepts_all()) {
        std::uint32_t larger = 0;
#pragma unroll
        for (int i = 0; i < topk_items; ++i) {
          if (!(x[i] <= list.threshold())) larger |= 1u << i;  // true for NaN
        }
        mask = list.saturated() ? 0 : mask & larger;
      }
      list.add<typename reader::layout>(x, mask, [&](int i) {
        const std::uint32_t p = first + threadIdx.x * reader::vector +
                                i / reader::vector * topk_threads * reader::vector +
                                i % reader::vector;
        return static_cast<std::int32_t>(p - read.lead);
      });
    }
    list.finish();
    sum = exp_sum_reduce(shared.reduce).Reduce(sum, add_exp_sums{});
    if (s.slices == 1) {
      write_result(s, slot, shared.list, sum);
    } else {
      const std::uint32_t slice = row * s.slices + blockIdx.x;
      if (threadIdx.x < s.k) {
        const std::int64_t at = std::int64_t{slice} * s.k + threadIdx.x;
        const bool exists = threadIdx.x < list.size();
        s.slice_values[at] = exists ? shared.list.values[threadIdx.x] : 0;
        s.slice_ids[at] = exists ? shared.list.ids[threadIdx.x] : -1;
      }
      if (threadIdx.x == 0) s.slice_sums[slice] = sum;
    }
    __syncthreads();  // before the next row reuses the shared memory
  }
}

__global__ void __launch_bounds__(topk_threads, 2)
    topk_merge_kernel(const __grid_constant__ topk_scope s) {
  using layout = topk_layout<4>;
  __shared__ block_storage shared;
  for (std::uint32_t row = blockIdx.x; row < s.row_count; row += gridDim.x) {
    const std::int32_t slot = slot_of(s, row);
    if (slot < 0) continue;
    const std::uint32_t first_slice = row * s.slices;
    const std::int64_t base = std::int64_t{first_slice} * s.k;
    topk_list list(shared.list, s.k);
    float x[topk_items];
    std::int32_t ids[topk_items];
    std::uint32_t mask = 0;
#pragma unroll
    for (int i = 0; i < topk_items; ++i) {
      const std::uint32_t p = (i / 4 * topk_threads + threadIdx.x) * 4 + i % 4;
      ids[i] = p < s.slices * s.k ? s.slice_ids[base + p] : -1;
      x[i] = ids[i] >= 0 ? s.slice_values[base + p] : 0;
      mask |= static_cast<std::uint32_t>(ids[i] >= 0) << i;
    }
    list.add<layout>(x, mask, [&](int i) { return ids[i]; });
    list.finish();
    exp_sum sum{-FLT_MAX, 0};
    for (std::uint32_t i = 0; i < s.slices; ++i) {
      sum = add_exp_sums{}(sum, s.slice_sums[first_slice + i]);
    }
    write_result(s, slot, shared.list, sum);
    __syncthreads();
  }
}

struct slicing {
  std::uint32_t slices, tiles_per_slice;
};

slicing slice(std::uint32_t row_count, std::uint32_t vocabulary) {
  // A misaligned row has up to 15 bytes in front: 7 elements at most.
  const std::uint32_t tiles = (vocabulary + 7 + topk_tile - 1) / topk_tile;
  const std::uint32_t wanted = (wanted_thread_blocks + row_count - 1) / row_count;
  const std::uint32_t slices = std::clamp(tiles / slice_tiles, 1u, std::min(wanted, max_slices));
  const std::uint32_t per_slice = (tiles + slices - 1) / slices;
  return {(tiles + per_slice - 1) / per_slice, per_slice};
}

cudaError_t check(const logits_topk_arguments& a) {
  if (a.rows == nullptr || a.values == nullptr || a.ids == nullptr || a.log_sum_exp == nullptr ||
      a.vocabulary == 0 || a.vocabulary > max_vocabulary || a.k == 0 || a.k > max_top_k ||
      a.k > a.vocabulary || a.row_count > max_launch_count ||
      a.row_stride < std::int64_t{a.vocabulary} || a.row_type > element_type::bf16 ||
      a.slot_count <= 0 ||
      (a.slots == nullptr && a.row_count > static_cast<std::uint32_t>(a.slot_count))) {
    return cudaErrorInvalidValue;
  }
  const std::size_t scratch = logits_topk_scratch_bytes(a.row_count, a.vocabulary, a.k);
  if (scratch > 0 && (a.scratch == nullptr || a.scratch_bytes < scratch)) {
    return cudaErrorInvalidValue;
  }
  if (!is_aligned(a.rows, bytes_of(a.row_type)) || !is_aligned(a.slots, 4) ||
      !is_aligned(a.values, 4) || !is_aligned(a.ids, 4) || !is_aligned(a.log_sum_exp, 4) ||
      !is_aligned(a.rejected, 4) || !is_aligned(a.scratch, 8)) {
    return cudaErrorMisalignedAddress;
  }
  return cudaSuccess;
}

}  // namespace

std::size_t logits_topk_scratch_bytes(std::uint32_t row_count, std::uint32_t vocabulary,
                                      std::uint32_t k) {
  if (row_count == 0 || vocabulary == 0) return 0;
  // Fewer rows may take more slices each: room for the worst number of rows up to row_count.
  std::size_t worst = 0;
  for (std::uint32_t rows = std::min(row_count, wanted_thread_blocks); rows > 0; --rows) {
    const slicing cut = slice(rows, vocabulary);
    if (cut.slices > 1) worst = std::max<std::size_t>(worst, std::size_t{rows} * cut.slices);
  }
  return worst * (std::size_t{k} * 8 + sizeof(exp_sum));
}

cudaError_t logits_topk(cudaStream_t stream, const logits_topk_arguments& a) {
  if (const cudaError_t error = check(a); error != cudaSuccess) return error;
  if (a.row_count == 0) return cudaSuccess;
  const slicing cut = slice(a.row_count, a.vocabulary);
  topk_scope s{};
  s.rows = static_cast<const std::byte*>(a.rows);
  s.row_stride = a.row_stride * static_cast<std::int64_t>(bytes_of(a.row_type));
  s.row_count = a.row_count;
  s.vocabulary = a.vocabulary;
  s.k = a.k;
  s.slices = cut.slices;
  s.tiles_per_slice = cut.tiles_per_slice;
  s.slots = a.slots;
  s.slot_count = a.slot_count;
  s.values = a.values;
  s.ids = a.ids;
  s.log_sum_exp = a.log_sum_exp;
  s.rejected = a.rejected;
  if (cut.slices > 1) {
    const std::size_t lists = std::size_t{a.row_count} * cut.slices;
    s.slice_sums = static_cast<exp_sum*>(a.scratch);
    s.slice_values = reinterpret_cast<float*>(s.slice_sums + lists);
    s.slice_ids = reinterpret_cast<std::int32_t*>(s.slice_values + lists * a.k);
  }
  const dim3 grid(cut.slices, std::min(a.row_count, max_grid_y)), block(topk_threads);
  cudaError_t error = cudaErrorInvalidValue;
  switch (a.row_type) {
    case element_type::fp32:
      error = launch(stream, topk_slice_kernel<fp32_elements>, grid, block, 0, s);
      break;
    case element_type::fp16:
      error = launch(stream, topk_slice_kernel<fp16_elements>, grid, block, 0, s);
      break;
    case element_type::bf16:
      error = launch(stream, topk_slice_kernel<bf16_elements>, grid, block, 0, s);
      break;
  }
  if (error != cudaSuccess || cut.slices == 1) return error;
  return launch(stream, topk_merge_kernel, dim3(a.row_count), block, 0, s);
}

cudaError_t load_logits_topk() {
  return load(topk_slice_kernel<fp32_elements>, topk_slice_kernel<fp16_elements>,
              topk_slice_kernel<bf16_elements>, topk_merge_kernel);
}

}  // namespace radixkv::kernels
