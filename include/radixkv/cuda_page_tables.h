// Block tables of running sequences on a CUDA device, in the forms that attention kernels read. The
// host sends what changed since the last step; the tables of a batch are built on the device.
//
// 1. Nothing but create, synchronize and destruction allocates or waits.
// 2. Calls take effect in the order in which they are made, whatever streams they name.
// 3. Every call may fail with out_of_memory, too, when the host has none for the message of another
//    error. What was set and not updated stays so: call again.
//
// Thread-safety: every member may be called from any thread; calls are serialised by a lock, which
// synchronize() does not hold while it waits (unless an event could not be recorded before).
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include <cuda_runtime_api.h>

#include "radixkv/export.h"
#include "radixkv/result.h"
#include "radixkv/types.h"

namespace radixkv {

namespace detail {
class cuda_page_tables_state;
}

struct cuda_page_tables_options {
  std::int32_t rows = 0;            // sequences that may be kept at once
  std::int32_t row_blocks = 0;      // blocks of a sequence, at most
  std::uint32_t block_tokens = 16;  // of the cache
  std::uint32_t max_batch = 1024;   // sequences of one batch
  // Pinned staging: slots for so many changes of 16 bytes each, or the rows of a batch, 4 bytes
  // each, for which there is as much device memory.
  std::uint32_t staging_slots = 64;
  std::uint32_t slot_changes = 4096;

  [[nodiscard]] status validate() const;
};

class RADIXKV_EXPORT cuda_page_tables {
 public:
  // Allocates on the current device. Synchronises.
  // Errors: invalid_argument, out_of_memory, device.
  [[nodiscard]] static result<cuda_page_tables> create(const cuda_page_tables_options& options);

  cuda_page_tables(cuda_page_tables&&) noexcept;
  cuda_page_tables& operator=(cuda_page_tables&&) noexcept;
  ~cuda_page_tables();  // waits for what it has enqueued

  // Row `row` now holds a sequence of `tokens` tokens in `table` (at least ⌈tokens / block_tokens⌉
  // blocks; what lies beyond is ignored). `unchanged`: so many of its first blocks are the ones
  // that the row has already (0 for a new sequence); the others are compared, and only those that
  // differ are sent. Nothing is enqueued before update(). Errors, changing nothing:
  // invalid_argument.
  status set(std::int32_t row, std::span<const block_id> table, std::int64_t tokens,
             std::int32_t unchanged = 0);

  // Enqueues everything that was set. Errors: busy (staging is in flight: a part is enqueued, call
  // again before the tables are built), device (call again).
  status update(cudaStream_t stream);

  // Enqueues the dense table of the batch `rows` (−1: an empty sequence): out[i × out_stride + j]
  // is block j of sequence i for j < width, `padding` behind its last one. `out` is device
  // memory. Errors: invalid_argument, busy (staging is in flight), device.
  status dense(cudaStream_t stream, std::span<const std::int32_t> rows, std::int32_t* out,
               std::int64_t out_stride, std::int32_t width, std::int32_t padding);

  // Enqueues FlashInfer's form: indptr (rows + 1), indices, last_page_len (rows), device memory.
  // Blocks beyond index_capacity are not written. Errors: as dense; and invalid_argument for a
  // batch of which rows.size() × row_blocks exceeds 2³¹ − 1, what indptr can count to.
  status csr(cudaStream_t stream, std::span<const std::int32_t> rows, std::int32_t* indptr,
             std::int32_t* indices, std::int64_t index_capacity, std::int32_t* last_page_len);

  // Waits until everything that was enqueued has run.
  status synchronize();

 private:
  explicit cuda_page_tables(std::unique_ptr<detail::cuda_page_tables_state> state) noexcept;
  std::unique_ptr<detail::cuda_page_tables_state> state_;
};

}  // namespace radixkv
