// Moves rows of logits between a batch and the slots of a store, converting between element types.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

namespace radixkv::kernels {

enum class element_type : std::uint8_t { fp32, fp16, bf16 };

[[nodiscard]] constexpr std::size_t bytes_of(element_type t) noexcept {
  return t == element_type::fp32 ? 4 : 2;
}

// Elements of a row, at most.
inline constexpr std::uint32_t max_vocabulary = 1u << 27;

struct logits_arguments {
  // Row r of the batch is `vocabulary` elements at rows + r × row_stride (in elements).
  void* rows = nullptr;
  std::int64_t row_stride = 0;
  element_type row_type = element_type::fp32;
  std::uint32_t row_count = 0;

  // Slot s of the store is `vocabulary` elements at store + s × slot_stride (in elements).
  void* store = nullptr;
  std::int64_t slot_stride = 0;
  element_type slot_type = element_type::fp32;
  std::int32_t slot_count = 0;

  std::uint32_t vocabulary = 0;
  // Device memory: row_count slots, one per row; −1: the row has none and is left alone. No two
  // rows of a scatter may name one slot.
  const std::int32_t* slots = nullptr;
  // Device memory, or null: incremented for each slot that is neither −1 nor below slot_count. Such
  // rows are left alone.
  std::uint32_t* rejected = nullptr;
};

// Enqueues one launch on `stream` that copies rows to their slots (scatter) or slots to their rows
// (gather). Never synchronises, allocates nothing, may be captured; slots are read when it runs.
// Conversions round to nearest even; a finite value beyond fp16's range becomes an infinity; NaNs
// stay NaNs (their payload survives only where both types are equal); infinities survive.
// Any alignment of rows that their elements have works; accesses are wide all the same.
// Errors, before anything is launched: cudaErrorInvalidValue (null pointer, vocabulary 0 or above
// max_vocabulary, 2³¹ rows or more, a stride below the vocabulary, no slot, an unknown type, rows
// that overlap the store), cudaErrorMisalignedAddress. No rows is success.
[[nodiscard]] cudaError_t logits_scatter(cudaStream_t stream, const logits_arguments& arguments);
[[nodiscard]] cudaError_t logits_gather(cudaStream_t stream, const logits_arguments& arguments);

[[nodiscard]] cudaError_t load_logits_cache();

}  // namespace radixkv::kernels
