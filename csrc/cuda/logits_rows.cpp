#include "csrc/cuda/logits_rows.h"

#include <string>

namespace radixkv::detail {

kernels::element_type element_of(logits_type t) noexcept {
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

std::int64_t row_stride_of(const logits_rows_view& rows, std::int32_t vocabulary) noexcept {
  if (rows.rows == 1) return vocabulary;
  return rows.row_stride_bytes / static_cast<std::int64_t>(bytes_of(rows.type));
}

result<std::uint64_t> check_logits_rows(const logits_rows_view& rows, std::int32_t vocabulary,
                                        std::span<const logits_move> moves) {
  const auto refuse = [](const std::string& text) -> error {
    return {errc::invalid_argument, "logits rows: " + text};
  };
  if (rows.data == nullptr) return refuse("null buffer");
  if (rows.type > logits_type::bf16) {
    return refuse("type " + std::to_string(static_cast<int>(rows.type)) + " is not in [0, 2]");
  }
  if (rows.rows < 1) return refuse(std::to_string(rows.rows) + " rows, at least 1 is needed");
  const std::uint64_t element = bytes_of(rows.type);
  const std::uint64_t row_bytes = static_cast<std::uint64_t>(vocabulary) * element;
  const auto address = reinterpret_cast<std::uintptr_t>(rows.data);
  if (address % element != 0) {
    return refuse("the address is no multiple of an element's " + std::to_string(element) +
                  " bytes");
  }
  if (rows.rows > 1 &&
      (rows.row_stride_bytes < 0 || static_cast<std::uint64_t>(rows.row_stride_bytes) < row_bytes ||
       static_cast<std::uint64_t>(rows.row_stride_bytes) % element != 0)) {
    return refuse("row stride of " + std::to_string(rows.row_stride_bytes) +
                  " bytes, it must be a multiple of " + std::to_string(element) + " and at least " +
                  std::to_string(row_bytes) + " for a vocabulary of " + std::to_string(vocabulary));
  }
  const unsigned __int128 wide_bytes = static_cast<unsigned __int128>(rows.rows - 1) *
                                           static_cast<std::uint64_t>(rows.row_stride_bytes) +
                                       row_bytes;
  if (wide_bytes > ~std::uint64_t{0} - address) {
    return refuse(std::to_string(rows.rows) + " rows of " + std::to_string(rows.row_stride_bytes) +
                  " bytes wrap around the address space");
  }
  for (const logits_move& m : moves) {
    if (m.row >= rows.rows) {
      return refuse("row " + std::to_string(m.row) + " is not in [0, " +
                    std::to_string(rows.rows - 1) + "]");
    }
  }
  return static_cast<std::uint64_t>(wide_bytes);
}

}  // namespace radixkv::detail
