// Conversion of logits between fp32, fp16 and bf16: round to nearest even, as the CUDA kernels do.
//
// Infinities keep their sign. A value too large for fp16 becomes infinity. A NaN that is narrowed
// becomes 0x7fff, as CUDA's conversions give; one that is widened stays a NaN with its payload.
// Equal types are copied bit for bit.
#pragma once

#include <cstddef>
#include <cstdint>

#include "radixkv/layout.h"

namespace radixkv::detail {

[[nodiscard]] std::uint16_t fp16_from_fp32(float value) noexcept;
[[nodiscard]] std::uint16_t bf16_from_fp32(float value) noexcept;
[[nodiscard]] float fp32_from_fp16(std::uint16_t bits) noexcept;
[[nodiscard]] float fp32_from_bf16(std::uint16_t bits) noexcept;

// Converts n elements. No alignment is needed. REQUIRES: the ranges do not overlap.
void convert_logits(const std::byte* from, logits_type from_type, std::byte* to,
                    logits_type to_type, std::size_t n) noexcept;

}  // namespace radixkv::detail
