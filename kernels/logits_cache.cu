// Grid (tiles of a row, rows); a warp moves a tile of a row at a time, see segment_mover.cuh. Rows
// of equal types are moved as bytes, so that they arrive bit for bit.

#include <algorithm>

#include "kernels/launch.h"
#include "kernels/logits_cache.h"
#include "kernels/logits_types.cuh"
#include "kernels/pointer_check.h"

namespace radixkv::kernels {
namespace {

constexpr std::uint32_t warps = 8;  // per thread block
constexpr std::uint32_t max_grid_y = 65535;

struct row_move {
  const std::byte* source;
  std::byte* destination;
  std::int64_t source_stride;       // bytes
  std::int64_t destination_stride;  // bytes
  const std::int32_t* slots;
  std::uint32_t* rejected;
  std::uint32_t row_count;
  std::int32_t slot_count;
  std::uint32_t units;  // of a row: elements, or bytes when types are equal
  bool scatter;
};

template <class Access>
__global__ void __launch_bounds__(warps* warp_lanes, 2)
    logits_move_kernel(const __grid_constant__ row_move m) {
  __shared__ std::int32_t shared_slot;
  const std::uint32_t lane = threadIdx.x % warp_lanes;
  const std::uint32_t first = blockIdx.x * warps + threadIdx.x / warp_lanes;
  for (std::uint32_t row = blockIdx.y; row < m.row_count; row += gridDim.y) {
    __syncthreads();
    if (threadIdx.x == 0) {
      std::int32_t slot = m.slots[row];
      if (slot < -1 || slot >= m.slot_count) {
        slot = -1;
        if (m.rejected != nullptr && blockIdx.x == 0) atomicAdd(m.rejected, 1u);
      }
      shared_slot = slot;
    }
    __syncthreads();
    if (shared_slot < 0) continue;
    const std::int64_t from = m.scatter ? std::int64_t{row} : std::int64_t{shared_slot};
    const std::int64_t to = m.scatter ? std::int64_t{shared_slot} : std::int64_t{row};
    const Access access{m.source + from * m.source_stride,
                        m.destination + to * m.destination_stride};
    const auto phase =
        static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(access.destination) %
                                   destination_alignment / Access::destination_unit);
    const std::uint32_t tiles = tiles_of<Access>(m.units, phase);
#pragma unroll 1
    for (std::uint32_t t = first; t < tiles; t += gridDim.x * warps) {
      move_tile<Access, true>(access, m.units, t, lane);
    }
  }
}

template <class Access>
cudaError_t launch_move(cudaStream_t stream, const row_move& m) {
  const std::uint32_t tiles =
      tiles_of<Access>(m.units, destination_alignment / Access::destination_unit - 1);
  const dim3 grid((tiles + warps - 1) / warps, std::min(m.row_count, max_grid_y));
  return launch(stream, logits_move_kernel<Access>, grid, dim3(warps * warp_lanes), 0, m);
}

template <class Source>
cudaError_t launch_from(cudaStream_t stream, element_type destination, const row_move& m) {
  switch (destination) {
    case element_type::fp32:
      return launch_move<convert_access<Source, fp32_elements>>(stream, m);
    case element_type::fp16:
      return launch_move<convert_access<Source, fp16_elements>>(stream, m);
    case element_type::bf16:
      return launch_move<convert_access<Source, bf16_elements>>(stream, m);
  }
  return cudaErrorInvalidValue;
}

bool known(element_type t) { return t <= element_type::bf16; }

bool overlap(const void* a, std::uint64_t a_bytes, const void* b, std::uint64_t b_bytes) {
  const auto first = reinterpret_cast<std::uintptr_t>(a),
             second = reinterpret_cast<std::uintptr_t>(b);
  return first < second + b_bytes && second < first + a_bytes;
}

cudaError_t check(const logits_arguments& a) {
  if (a.rows == nullptr || a.store == nullptr || a.slots == nullptr || a.slot_count <= 0 ||
      a.vocabulary == 0 || a.vocabulary > max_vocabulary || a.row_count > max_launch_count ||
      !known(a.row_type) || !known(a.slot_type) || a.row_stride < std::int64_t{a.vocabulary} ||
      a.slot_stride < std::int64_t{a.vocabulary}) {
    return cudaErrorInvalidValue;
  }
  if (!is_aligned(a.rows, bytes_of(a.row_type)) || !is_aligned(a.store, bytes_of(a.slot_type)) ||
      !is_aligned(a.slots, alignof(std::int32_t)) ||
      !is_aligned(a.rejected, alignof(std::uint32_t))) {
    return cudaErrorMisalignedAddress;
  }
  const auto reach = [&](std::uint64_t count, std::int64_t stride, element_type t) {
    return ((count - 1) * static_cast<std::uint64_t>(stride) + a.vocabulary) * bytes_of(t);
  };
  if (a.row_count > 0 &&
      overlap(a.rows, reach(a.row_count, a.row_stride, a.row_type), a.store,
              reach(static_cast<std::uint64_t>(a.slot_count), a.slot_stride, a.slot_type))) {
    return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}

cudaError_t move(cudaStream_t stream, const logits_arguments& a, bool scatter) {
  if (const cudaError_t error = check(a); error != cudaSuccess) return error;
  if (a.row_count == 0) return cudaSuccess;
  const std::int64_t row_bytes = a.row_stride * static_cast<std::int64_t>(bytes_of(a.row_type));
  const std::int64_t slot_bytes = a.slot_stride * static_cast<std::int64_t>(bytes_of(a.slot_type));
  auto* rows = static_cast<std::byte*>(a.rows);
  auto* store = static_cast<std::byte*>(a.store);
  row_move m{};
  m.source = scatter ? rows : store;
  m.destination = scatter ? store : rows;
  m.source_stride = scatter ? row_bytes : slot_bytes;
  m.destination_stride = scatter ? slot_bytes : row_bytes;
  m.slots = a.slots;
  m.rejected = a.rejected;
  m.row_count = a.row_count;
  m.slot_count = a.slot_count;
  m.units = a.vocabulary;
  m.scatter = scatter;
  if (a.row_type == a.slot_type) {
    m.units *= static_cast<std::uint32_t>(bytes_of(a.row_type));
    return launch_move<raw_access>(stream, m);
  }
  const element_type from = scatter ? a.row_type : a.slot_type;
  const element_type to = scatter ? a.slot_type : a.row_type;
  switch (from) {
    case element_type::fp32:
      return launch_from<fp32_elements>(stream, to, m);
    case element_type::fp16:
      return launch_from<fp16_elements>(stream, to, m);
    case element_type::bf16:
      return launch_from<bf16_elements>(stream, to, m);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t logits_scatter(cudaStream_t stream, const logits_arguments& arguments) {
  return move(stream, arguments, true);
}

cudaError_t logits_gather(cudaStream_t stream, const logits_arguments& arguments) {
  return move(stream, arguments, false);
}

cudaError_t load_logits_cache() {
  return load(logits_move_kernel<raw_access>,
              logits_move_kernel<convert_access<fp32_elements, fp16_elements>>,
              logits_move_kernel<convert_access<fp32_elements, bf16_elements>>,
              logits_move_kernel<convert_access<fp16_elements, fp32_elements>>,
              logits_move_kernel<convert_access<fp16_elements, bf16_elements>>,
              logits_move_kernel<convert_access<bf16_elements, fp32_elements>>,
              logits_move_kernel<convert_access<bf16_elements, fp16_elements>>);
}

}  // namespace radixkv::kernels
