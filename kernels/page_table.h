// Page tables in the forms attention kernels read, kept on the device and updated by deltas.
//
// The store holds, for each of `store_rows` sequences, its block ids (`blocks`, one row of
// `row_capacity` per sequence) and its tokens. The host sends only what changed; page_table_update
// applies it, and page_table_dense and page_table_csr build the tables of a batch of sequences. All
// memory is the caller's, so that everything can be allocated once.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

namespace radixkv::kernels {

struct page_table_store {
  std::int32_t* blocks = nullptr;  // device, store_rows × row_capacity block ids
  std::int32_t* tokens = nullptr;  // device, store_rows: tokens of each sequence, 0 at first
  std::int32_t store_rows = 0;
  std::int32_t row_capacity = 0;  // blocks of a sequence, at most
  std::int32_t block_tokens = 0;  // tokens of a whole block
};

// One change: block `position` of sequence `row` is now `block`, and the sequence has `tokens`
// tokens. position −1: no block changes; tokens −1: the number of tokens stays. In one update no
// (row, position) may appear twice, and at most one delta of a row may set its tokens.
struct alignas(16) page_table_delta {  // one read
  std::int32_t row;
  std::int32_t position;
  std::int32_t block;
  std::int32_t tokens;
};

// Applies `delta_count` deltas in device (or pinned) memory; with `device_delta_count`, a device
// counter that a replayed graph may change, min(*device_delta_count, delta_count) of them.
// A delta whose row, position, block (below 0) or tokens (beyond row_capacity blocks) is out of
// range changes nothing and is counted in `rejected` (device, or null).
[[nodiscard]] cudaError_t page_table_update(cudaStream_t stream, const page_table_store& store,
                                            const page_table_delta* deltas,
                                            std::uint32_t delta_count,
                                            const std::uint32_t* device_delta_count,
                                            std::uint32_t* rejected);

// The sequences of a batch: device memory, `count` rows of the store in the batch's order; −1 (and
// whatever else is out of range) is an empty sequence, with which a graph of fixed size is padded.
// Null: rows 0 … count - 1.
struct page_table_batch {
  const std::int32_t* rows = nullptr;
  std::uint32_t count = 0;
};

// Dense form: out[i × out_stride + j] is block j of sequence i of the batch, for j < max_blocks,
// or `padding` past its last block. A longer sequence is cut to max_blocks.
[[nodiscard]] cudaError_t page_table_dense(cudaStream_t stream, const page_table_store& store,
                                           const page_table_batch& batch, std::int32_t* out,
                                           std::int64_t out_stride, std::int32_t max_blocks,
                                           std::int32_t padding);

// FlashInfer's form: the blocks of sequence i are indices[indptr[i]] … indices[indptr[i + 1] - 1],
// and its last block holds last_page_len[i] tokens (0 for an empty sequence).
struct page_table_csr_arguments {
  std::int32_t* indptr = nullptr;         // device, count + 1
  std::int32_t* indices = nullptr;        // device, index_capacity
  std::int32_t* last_page_len = nullptr;  // device, count
  // Blocks that do not fit are not written; the caller sees from indptr[count] that it was too
  // small.
  std::int64_t index_capacity = 0;
  void* scratch = nullptr;  // device, page_table_scratch_bytes(count) or more; of this call alone
  std::size_t scratch_bytes = 0;
};
[[nodiscard]] cudaError_t page_table_csr(cudaStream_t stream, const page_table_store& store,
                                         const page_table_batch& batch,
                                         const page_table_csr_arguments& out);

// Bytes of scratch for batches of at most `count` sequences; grows with count.
[[nodiscard]] cudaError_t page_table_scratch_bytes(std::uint32_t count, std::size_t& bytes);

// All launchers: enqueue on `stream`, never synchronise, allocate nothing, may be captured. Errors,
// before anything is launched: cudaErrorInvalidValue (null pointer, nothing in the store, scratch
// too small, a stride below max_blocks, 2³¹ deltas or sequences or more, a store whose tables can
// exceed int32), cudaErrorMisalignedAddress. An empty update or dense batch is success; an empty
// CSR batch writes indptr[0] = 0.

// Loads what these launch on the current device; see kernels/launch.h. CUB's kernels of
// page_table_csr are loaded by a call with no sequence.
[[nodiscard]] cudaError_t load_page_table();

}  // namespace radixkv::kernels
