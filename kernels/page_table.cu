// Deltas are applied by one thread each. The CSR form takes an exclusive scan (CUB) over the
// sequences' numbers of blocks, then copies each sequence to its place, a chunk per thread block.

#include <algorithm>

#include <cub/device/device_scan.cuh>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>

#include "kernels/cub_call.h"
#include "kernels/launch.h"
#include "kernels/page_table.h"
#include "kernels/pointer_check.h"

namespace radixkv::kernels {
namespace {

constexpr unsigned threads = 256;
constexpr std::int32_t chunk_blocks = 4 * threads;  // of a sequence, copied by one thread block
constexpr unsigned max_grid_x = 64, max_grid_y = 65535;

// One sequence of a batch, as its thread blocks see it.
struct batch_sequence {
  std::int32_t row;  // of the store, or −1
  std::int32_t tokens;
  std::int64_t begin;  // of its blocks in the CSR form
};

// Row of the store of sequence i of the batch, or −1.
__device__ std::int32_t row_of(const page_table_store& s, const page_table_batch& b,
                               std::uint32_t i) {
  const std::int32_t row = b.rows != nullptr ? b.rows[i] : static_cast<std::int32_t>(i);
  return row >= 0 && row < s.store_rows ? row : -1;
}

__device__ std::int32_t blocks_of(const page_table_store& s, std::int32_t tokens) {
  return (tokens + s.block_tokens - 1) / s.block_tokens;
}

// Number of blocks of sequence i; 0 for i == count, so that a scan over count + 1 ends in the
// total.
struct block_count {
  page_table_store store;
  page_table_batch batch;
  __device__ std::int32_t operator()(std::uint32_t i) const {
    const std::int32_t row = i < batch.count ? row_of(store, batch, i) : -1;
    return row < 0 ? 0 : blocks_of(store, store.tokens[row]);
  }
};

using block_counts =
    thrust::transform_iterator<block_count, thrust::counting_iterator<std::uint32_t>>;

block_counts counts_of(const page_table_store& s, const page_table_batch& b) {
  return {thrust::counting_iterator<std::uint32_t>(0u), block_count{s, b}};
}

// Reads what is known of sequence i once for the whole thread block. indptr may be null.
__device__ batch_sequence load_sequence(const page_table_store& s, const page_table_batch& b,
                                        const std::int32_t* indptr, std::uint32_t i) {
  __shared__ batch_sequence shared;
  __syncthreads();  // of the sequence before
  if (threadIdx.x == 0) {
    const std::int32_t row = row_of(s, b, i);
    shared = {row, row < 0 ? 0 : s.tokens[row], indptr == nullptr ? 0 : indptr[i]};
  }
  __syncthreads();
  return shared;
}

__global__ void page_table_update_kernel(page_table_store s, const page_table_delta* deltas,
                                         std::uint32_t delta_count,
                                         const std::uint32_t* device_delta_count,
                                         std::uint32_t* rejected) {
  if (device_delta_count != nullptr) delta_count = min(delta_count, *device_delta_count);
  for (std::uint32_t i = blockIdx.x * threads + threadIdx.x; i < delta_count;
       i += gridDim.x * threads) {
    const page_table_delta d = deltas[i];
    const bool good = d.row >= 0 && d.row < s.store_rows && d.position >= -1 &&
                      d.position < s.row_capacity && (d.position < 0 || d.block >= 0) &&
                      d.tokens >= -1 &&
                      std::int64_t{d.tokens} <= std::int64_t{s.row_capacity} * s.block_tokens;
    if (!good) {
      if (rejected != nullptr) atomicAdd(rejected, 1u);
      continue;
    }
    if (d.position >= 0) s.blocks[std::int64_t{d.row} * s.row_capacity + d.position] = d.block;
    if (d.tokens >= 0) s.tokens[d.row] = d.tokens;
  }
}

__global__ void page_table_dense_kernel(page_table_store s, page_table_batch b, std::int32_t* out,
                                        std::int64_t out_stride, std::int32_t max_blocks,
                                        std::int32_t padding) {
  for (std::uint32_t i = blockIdx.y; i < b.count; i += gridDim.y) {
    const batch_sequence sequence = load_sequence(s, b, nullptr, i);
    const std::int32_t blocks = blocks_of(s, sequence.tokens);
    const std::int32_t* from = s.blocks + std::int64_t{sequence.row} * s.row_capacity;
    std::int32_t* to = out + std::int64_t{i} * out_stride;
    for (std::int64_t j = std::int64_t{blockIdx.x} * threads + threadIdx.x; j < max_blocks;
         j += std::int64_t{gridDim.x} * threads) {
      to[j] = j < blocks ? from[j] : padding;
    }
  }
}

__global__ void page_table_csr_kernel(page_table_store s, page_table_batch b,
                                      const std::int32_t* indptr, std::int32_t* indices,
                                      std::int64_t index_capacity, std::int32_t* last_page_len) {
  for (std::uint32_t i = blockIdx.y; i < b.count; i += gridDim.y) {
    const batch_sequence sequence = load_sequence(s, b, indptr, i);
    const std::int32_t blocks = blocks_of(s, sequence.tokens);
    if (blockIdx.x == 0 && threadIdx.x == 0) {
      last_page_len[i] = blocks == 0 ? 0 : sequence.tokens - (blocks - 1) * s.block_tokens;
    }
    const std::int32_t* from = s.blocks + std::int64_t{sequence.row} * s.row_capacity;
    for (std::int64_t j = std::int64_t{blockIdx.x} * threads + threadIdx.x; j < blocks;
         j += std::int64_t{gridDim.x} * threads) {
      if (sequence.begin + j < index_capacity) indices[sequence.begin + j] = from[j];
    }
  }
}

dim3 grid_of(std::int32_t blocks, std::uint32_t count) {
  const unsigned chunks = (static_cast<unsigned>(blocks) + chunk_blocks - 1) / chunk_blocks;
  return {std::min(chunks, max_grid_x), std::min(count, max_grid_y)};
}

cudaError_t check(const page_table_store& s) {
  if (s.blocks == nullptr || s.tokens == nullptr || s.store_rows <= 0 || s.row_capacity <= 0 ||
      s.block_tokens <= 0 ||
      std::int64_t{s.row_capacity} * s.block_tokens > INT32_MAX - s.block_tokens) {
    return cudaErrorInvalidValue;
  }
  if (!is_aligned(s.blocks, 4) || !is_aligned(s.tokens, 4)) return cudaErrorMisalignedAddress;
  return cudaSuccess;
}

cudaError_t check(const page_table_store& s, const page_table_batch& b) {
  if (const cudaError_t error = check(s); error != cudaSuccess) return error;
  const auto limit =
      b.rows == nullptr ? static_cast<std::uint32_t>(s.store_rows) : max_launch_count;
  if (b.count > limit) return cudaErrorInvalidValue;
  return is_aligned(b.rows, 4) ? cudaSuccess : cudaErrorMisalignedAddress;
}

}  // namespace

cudaError_t page_table_update(cudaStream_t stream, const page_table_store& store,
                              const page_table_delta* deltas, std::uint32_t delta_count,
                              const std::uint32_t* device_delta_count, std::uint32_t* rejected) {
  if (const cudaError_t error = check(store); error != cudaSuccess) return error;
  if (deltas == nullptr || delta_count > max_launch_count) return cudaErrorInvalidValue;
  if (!is_aligned(deltas, alignof(page_table_delta)) || !is_aligned(device_delta_count, 4) ||
      !is_aligned(rejected, 4)) {
    return cudaErrorMisalignedAddress;
  }
  if (delta_count == 0) return cudaSuccess;
  const unsigned blocks = std::min((delta_count - 1) / threads + 1, 1024u);
  return launch(stream, page_table_update_kernel, dim3(blocks), dim3(threads), 0, store, deltas,
                delta_count, device_delta_count, rejected);
}

cudaError_t page_table_dense(cudaStream_t stream, const page_table_store& store,
                             const page_table_batch& batch, std::int32_t* out,
                             std::int64_t out_stride, std::int32_t max_blocks,
                             std::int32_t padding) {
  if (const cudaError_t error = check(store, batch); error != cudaSuccess) return error;
  if (out == nullptr || max_blocks <= 0 || out_stride < max_blocks) return cudaErrorInvalidValue;
  if (!is_aligned(out, 4)) return cudaErrorMisalignedAddress;
  if (batch.count == 0) return cudaSuccess;
  return launch(stream, page_table_dense_kernel, grid_of(max_blocks, batch.count), dim3(threads), 0,
                store, batch, out, out_stride, max_blocks, padding);
}

cudaError_t page_table_scratch_bytes(std::uint32_t count, std::size_t& bytes) {
  bytes = 0;
  return cub_call([&] {
    return cub::DeviceScan::ExclusiveSum(nullptr, bytes, counts_of({}, {}),
                                         static_cast<std::int32_t*>(nullptr),
                                         std::int64_t{count} + 1, cudaStream_t{nullptr});
  });
}

cudaError_t page_table_csr(cudaStream_t stream, const page_table_store& store,
                           const page_table_batch& batch, const page_table_csr_arguments& out) {
  if (const cudaError_t error = check(store, batch); error != cudaSuccess) return error;
  if (out.indptr == nullptr || out.indices == nullptr || out.last_page_len == nullptr ||
      out.scratch == nullptr || out.index_capacity < 0 ||
      std::int64_t{store.row_capacity} * batch.count > INT32_MAX) {
    return cudaErrorInvalidValue;
  }
  if (!is_aligned(out.indptr, 4) || !is_aligned(out.indices, 4) ||
      !is_aligned(out.last_page_len, 4)) {
    return cudaErrorMisalignedAddress;
  }
  std::size_t bytes = 0;
  if (const cudaError_t error = page_table_scratch_bytes(batch.count, bytes);
      error != cudaSuccess) {
    return error;
  }
  if (out.scratch_bytes < bytes) return cudaErrorInvalidValue;
  if (const cudaError_t error = cub_call([&] {
        return cub::DeviceScan::ExclusiveSum(out.scratch, bytes, counts_of(store, batch),
                                             out.indptr, std::int64_t{batch.count} + 1, stream);
      });
      error != cudaSuccess) {
    return error;
  }
  if (batch.count == 0) return cudaSuccess;
  return launch(stream, page_table_csr_kernel, grid_of(store.row_capacity, batch.count),
                dim3(threads), 0, store, batch, out.indptr, out.indices, out.index_capacity,
                out.last_page_len);
}

cudaError_t load_page_table() {
  return load(page_table_update_kernel, page_table_dense_kernel, page_table_csr_kernel);
}

}  // namespace radixkv::kernels
