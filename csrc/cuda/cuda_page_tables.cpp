#include "radixkv/cuda_page_tables.h"

#include <new>
#include <utility>

#include "csrc/core/no_memory.h"
#include "csrc/cuda/cuda_page_tables_state.h"
#include "csrc/cuda/nvtx.h"

namespace radixkv {

cuda_page_tables::cuda_page_tables(std::unique_ptr<detail::cuda_page_tables_state> state) noexcept
    : state_(std::move(state)) {}
cuda_page_tables::cuda_page_tables(cuda_page_tables&&) noexcept = default;
cuda_page_tables& cuda_page_tables::operator=(cuda_page_tables&&) noexcept = default;
cuda_page_tables::~cuda_page_tables() {
  if (state_ == nullptr) return;
  RADIXKV_RANGE("cuda_page_tables::destroy");
  state_.reset();
}

result<cuda_page_tables> cuda_page_tables::create(const cuda_page_tables_options& options) try {
  RADIXKV_RANGE("cuda_page_tables::create");
  auto state = std::make_unique<detail::cuda_page_tables_state>();
  if (status s = state->create(options); !s) return s.error();
  return cuda_page_tables(std::move(state));
} catch (const std::bad_alloc&) {
  return detail::no_memory("for the page tables of", options.rows, "sequences");
}

status cuda_page_tables::set(std::int32_t row, std::span<const block_id> table, std::int64_t tokens,
                             std::int32_t unchanged) try {
  return state_->set(row, table, tokens, unchanged);
} catch (const std::bad_alloc&) {  // only a message allocates
  return detail::no_memory("to say what is wrong");
}

status cuda_page_tables::update(cudaStream_t stream) try {
  RADIXKV_RANGE("cuda_page_tables::update");
  return state_->update(stream);
} catch (const std::bad_alloc&) {  // only a message allocates
  return detail::no_memory("to say why page tables are not updated");
}

status cuda_page_tables::dense(cudaStream_t stream, std::span<const std::int32_t> rows,
                               std::int32_t* out, std::int64_t out_stride, std::int32_t width,
                               std::int32_t padding) try {
  RADIXKV_RANGE("cuda_page_tables::dense");
  return state_->dense(stream, rows, out, out_stride, width, padding);
} catch (const std::bad_alloc&) {  // only a message allocates
  return detail::no_memory("to say why there is no dense table");
}

status cuda_page_tables::csr(cudaStream_t stream, std::span<const std::int32_t> rows,
                             std::int32_t* indptr, std::int32_t* indices,
                             std::int64_t index_capacity, std::int32_t* last_page_len) try {
  RADIXKV_RANGE("cuda_page_tables::csr");
  return state_->csr(stream, rows, indptr, indices, index_capacity, last_page_len);
} catch (const std::bad_alloc&) {  // only a message allocates
  return detail::no_memory("to say why there is no CSR table");
}

status cuda_page_tables::synchronize() {
  RADIXKV_RANGE("cuda_page_tables::synchronize");
  return state_->synchronize();
}

}  // namespace radixkv
