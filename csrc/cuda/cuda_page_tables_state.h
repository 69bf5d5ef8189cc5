// The host's copy of the page tables, what of it the device lacks, and the order of calls.
//
// 1. Outside of the dirty range of its row, the device's table equals blocks_; a row that is not in
//    dirty_rows_ has no dirty range and its tokens are sent.
// 2. Calls that enqueue take effect in the order in which they are made: order_.
#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

#include "csrc/cuda/call_order.h"
#include "csrc/cuda/device_memory.h"
#include "csrc/cuda/staging_ring.h"
#include "kernels/page_table.h"
#include "radixkv/cuda_page_tables.h"

namespace radixkv::detail {

class cuda_page_tables_state {
 public:
  cuda_page_tables_state() = default;
  cuda_page_tables_state(const cuda_page_tables_state&) = delete;
  cuda_page_tables_state& operator=(const cuda_page_tables_state&) = delete;
  ~cuda_page_tables_state();

  [[nodiscard]] status create(const cuda_page_tables_options& options);
  [[nodiscard]] status set(std::int32_t row, std::span<const block_id> table, std::int64_t tokens,
                           std::int32_t unchanged);
  [[nodiscard]] status update(cudaStream_t stream);
  // Stages `rows` and lets `launch` (batch → cudaError_t) enqueue a table of them.
  template <class Launch>
  [[nodiscard]] status build(cudaStream_t stream, std::span<const std::int32_t> rows,
                             const char* what, Launch launch);
  [[nodiscard]] status dense(cudaStream_t stream, std::span<const std::int32_t> rows,
                             std::int32_t* out, std::int64_t out_stride, std::int32_t width,
                             std::int32_t padding);
  [[nodiscard]] status csr(cudaStream_t stream, std::span<const std::int32_t> rows,
                           std::int32_t* indptr, std::int32_t* indices, std::int64_t index_capacity,
                           std::int32_t* last_page_len);
  [[nodiscard]] status synchronize() noexcept;

 private:
  struct row_state {
    std::int32_t tokens = 0;
    std::int32_t dirty_begin = 0, dirty_end = 0;  // positions that the device may lack
    bool dirty = false;                           // in dirty_rows_
  };

  [[nodiscard]] status load_kernels();  // of create()
  // REQUIRE the lock.
  [[nodiscard]] status enter(cudaStream_t stream);
  [[nodiscard]] status leave(cudaStream_t stream, const char* what, cudaError_t failed);
  // Writes as many changes as fit to `out`; nothing counts as sent before forget_changes.
  [[nodiscard]] std::uint32_t stage_changes(kernels::page_table_delta* out) const;
  void forget_changes(std::uint32_t count);

  cuda_page_tables_options options_;
  int device_ = 0;
  kernels::page_table_store store_;
  device_buffer blocks_memory_, tokens_memory_, scratch_;
  std::size_t scratch_bytes_ = 0;

  std::mutex mutex_;  // guards what follows
  staging_ring ring_;
  std::vector<block_id> blocks_;  // rows × row_blocks
  std::vector<row_state> rows_;
  std::vector<std::int32_t> dirty_rows_;
  call_order order_{"the page tables"};
};

}  // namespace radixkv::detail
