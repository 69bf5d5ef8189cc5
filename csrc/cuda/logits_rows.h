// What can be known about a batch's rows of logits before kernels use them.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/logits_cache.h"
#include "radixkv/layout.h"
#include "radixkv/result.h"
#include "radixkv/step_plan.h"

namespace radixkv::detail {

[[nodiscard]] kernels::element_type element_of(logits_type t) noexcept;

// The rows' stride in elements. That of a single row is not used, and may be anything.
[[nodiscard]] std::int64_t row_stride_of(const logits_rows_view& rows,
                                         std::int32_t vocabulary) noexcept;

// The bytes that `rows` reach. Errors: invalid_argument, if buffer, type, alignment or stride do
// not fit the vocabulary or a move names a row that is not there.
[[nodiscard]] result<std::uint64_t> check_logits_rows(const logits_rows_view& rows,
                                                      std::int32_t vocabulary,
                                                      std::span<const logits_move> moves);

}  // namespace radixkv::detail
