// Logits moves as launches of the scatter and gather kernels.
#include "csrc/cuda/cuda_state.h"
#include "kernels/logits_cache.h"

namespace radixkv::detail {

namespace {

kernels::element_type element_of(logits_type t) {
  switch (t) {
    case logits_type::fp32:
      return kernels::element_type::fp32;
    case logits_type::fp16:
      return kernels::element_type::fp16;
    case logits_type::bf16:
      break;
  }
  return kernels::element_type::bf16;
}

}  // namespace

cudaError_t cuda_state::move_logits(cudaStream_t stream, logits_direction direction,
                                    const logits_rows_view& rows, std::int32_t first_row,
                                    std::uint32_t count, const logits_slot* slots) const {
  const auto row_element = static_cast<std::int64_t>(bytes_of(rows.type));
  kernels::logits_arguments a;
  a.rows = static_cast<std::byte*>(rows.data) + first_row * rows.row_stride_bytes;
  // The stride of a single row is not used, and may be anything.
  a.row_stride = rows.rows == 1 ? layout_.vocabulary : rows.row_stride_bytes / row_element;
  a.row_type = element_of(rows.type);
  a.row_count = count;
  a.store = logits_.get();
  a.slot_stride = static_cast<std::int64_t>(logits_stride_ / bytes_of(layout_.logits));
  a.slot_type = element_of(layout_.logits);
  a.slot_count = layout_.logits_rows;
  a.vocabulary = static_cast<std::uint32_t>(layout_.vocabulary);
  a.slots = slots;
  return direction == logits_direction::store ? kernels::logits_scatter(stream, a)
                                              : kernels::logits_gather(stream, a);
}

}  // namespace radixkv::detail
