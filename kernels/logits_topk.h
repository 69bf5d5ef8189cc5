// The top-k form of logits: k values, k ids and the log-sum-exp of each row.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/logits_cache.h"

namespace radixkv::kernels {

inline constexpr std::uint32_t max_top_k = 256;

struct logits_topk_arguments {
  // Row r is `vocabulary` elements at rows + r × row_stride (in elements).
  const void* rows = nullptr;
  std::int64_t row_stride = 0;
  element_type row_type = element_type::fp32;
  std::uint32_t row_count = 0;
  std::uint32_t vocabulary = 0;
  std::uint32_t k = 0;  // 1 … min(vocabulary, max_top_k)

  // Device memory: where each row's result goes, or null: row r to slot r. −1: nowhere. No two rows
  // may name one slot.
  const std::int32_t* slots = nullptr;
  std::int32_t slot_count = 0;
  float* values = nullptr;            // device, slot_count × k
  std::int32_t* ids = nullptr;        // device, slot_count × k
  float* log_sum_exp = nullptr;       // device, slot_count
  std::uint32_t* rejected = nullptr;  // device, or null: counts slots out of range

  void* scratch =
      nullptr;  // device, 8-byte aligned, logits_topk_scratch_bytes or more; of this call
  std::size_t scratch_bytes = 0;
};

// Finds the k largest elements of every row, in descending order, in one read of the row.
// Exact: equal values are ordered by id, lower first, so that k = 1 is a greedy sampler's choice;
// −0 and +0 are equal; a NaN is larger than every number, and all NaNs are equal (as in
// torch.topk). values hold the elements as fp32, which every type converts to exactly. log_sum_exp
// is fp32 with a relative error of about 1e-6 of the sum; NaN if the row holds one, +∞ if it holds
// +∞ and no NaN, −∞ if it holds nothing else. Every row costs the same within a factor of three,
// whatever it holds and in whichever order. Enqueues at most two launches on `stream`; never
// synchronises, allocates nothing, may be captured. Errors, before anything is launched:
// cudaErrorInvalidValue (null pointer, k or vocabulary out of range, 2³¹ rows or more, a stride
// below the vocabulary, an unknown type, fewer slots than rows without `slots`, scratch too small),
// cudaErrorMisalignedAddress. No rows is success.
[[nodiscard]] cudaError_t logits_topk(cudaStream_t stream, const logits_topk_arguments& arguments);

// Bytes of scratch for at most `row_count` rows.
[[nodiscard]] std::size_t logits_topk_scratch_bytes(std::uint32_t row_count,
                                                    std::uint32_t vocabulary, std::uint32_t k);

[[nodiscard]] cudaError_t load_logits_topk();

}  // namespace radixkv::kernels
