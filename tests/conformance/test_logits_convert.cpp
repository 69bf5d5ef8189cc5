// Every 16-bit pattern, and every boundary between two of them, against the definition of the
// types.
#include <cmath>

#include <gtest/gtest.h>

#include "csrc/host/logits_convert.h"
#include "tests/conformance/logits_oracle.h"

namespace radixkv {
namespace {

using conformance::nearest;
using conformance::value_of;

struct half_type {
  int mantissa;
  float (*widen)(std::uint16_t) noexcept;
  std::uint16_t (*narrow)(float) noexcept;
};
constexpr half_type half_types[] = {{10, detail::fp32_from_fp16, detail::fp16_from_fp32},
                                    {7, detail::fp32_from_bf16, detail::bf16_from_fp32}};

TEST(logits_convert, every_pattern_widens_to_its_value_and_back) {
  for (const half_type& h : half_types) {
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
      const auto half = static_cast<std::uint16_t>(bits);
      const double value = value_of(half, h.mantissa);
      const float wide = h.widen(half);
      if (std::isnan(value)) {
        ASSERT_TRUE(std::isnan(wide)) << bits;
        ASSERT_EQ(h.narrow(wide), 0x7fff) << bits;
      } else {
        ASSERT_EQ(static_cast<double>(wide), value) << bits;
        ASSERT_EQ(h.narrow(wide), half) << bits;
      }
    }
  }
}

TEST(logits_convert, rounds_to_nearest_even_around_every_boundary) {
  for (const half_type& h : half_types) {
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
      const auto half = static_cast<std::uint16_t>(bits);
      const double low = value_of(half, h.mantissa);
      const double high = value_of(static_cast<std::uint16_t>(half + 1), h.mantissa);
      if (!std::isfinite(low)) continue;
      const auto middle =
          std::isfinite(high)
              ? static_cast<float>((low + high) / 2)
              : static_cast<float>(
                    low + (low - value_of(static_cast<std::uint16_t>(half - 1), h.mantissa)) / 2);
      for (const float f :
           {std::nextafterf(middle, -INFINITY), middle, std::nextafterf(middle, INFINITY)}) {
        ASSERT_EQ(h.narrow(f), nearest(f, h.mantissa)) << bits << " " << f;
      }
    }
  }
}

TEST(logits_convert, rounds_once_between_the_16_bit_types) {
  std::vector<std::uint16_t> from(65536), to(65536);
  for (std::uint32_t bits = 0; bits < 65536; ++bits) from[bits] = static_cast<std::uint16_t>(bits);
  const auto check = [&](logits_type a, int a_mantissa, logits_type b, int b_mantissa) {
    detail::convert_logits(reinterpret_cast<const std::byte*>(from.data()), a,
                           reinterpret_cast<std::byte*>(to.data()), b, from.size());
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
      const double value = value_of(from[bits], a_mantissa);
      ASSERT_EQ(to[bits], std::isnan(value) ? 0x7fff : nearest(value, b_mantissa)) << bits;
    }
  };
  check(logits_type::fp16, 10, logits_type::bf16, 7);
  check(logits_type::bf16, 7, logits_type::fp16, 10);
}

}  // namespace
}  // namespace radixkv
