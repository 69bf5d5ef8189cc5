// Logits moves as launches of the scatter and gather kernels.
#include "csrc/cuda/cuda_state.h"
#include "csrc/cuda/logits_rows.h"
#include "kernels/logits_cache.h"

namespace radixkv::detail {

cudaError_t cuda_state::move_logits(cudaStream_t stream, logits_direction direction,
                                    const logits_rows_view& rows, std::int32_t first_row,
                                    std::uint32_t count, const logits_slot* slots) const {
  kernels::logits_arguments a;
  a.rows = static_cast<std::byte*>(rows.data) + first_row * rows.row_stride_bytes;
  a.row_stride = row_stride_of(rows, layout_.vocabulary);
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
