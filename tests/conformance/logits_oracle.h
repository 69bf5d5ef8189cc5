// Conversion of logits by search: the nearest value of the target type, ties to the even one.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <random>
#include <vector>

#include "radixkv/layout.h"

namespace radixkv::conformance {

// The value of a 16-bit float with `mantissa` bits of mantissa, from its definition.
inline double value_of(std::uint16_t bits, int mantissa) {
  const int exponent_bits = 15 - mantissa;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits >> mantissa) & ((1 << exponent_bits) - 1);
  const int fraction = bits & ((1 << mantissa) - 1);
  const double sign = bits & 0x8000 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) {
    return fraction ? std::numeric_limits<double>::quiet_NaN()
                    : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - mantissa);
  return sign * std::ldexp((1 << mantissa) + fraction, exponent - bias - mantissa);
}

inline int mantissa_of(logits_type t) { return t == logits_type::fp16 ? 10 : 7; }

inline double element_value(logits_type t, const std::byte* p) {
  if (t == logits_type::fp32) {
    float f;
    std::memcpy(&f, p, sizeof f);
    return f;
  }
  std::uint16_t h;
  std::memcpy(&h, p, sizeof h);
  return value_of(h, mantissa_of(t));
}

// The 16-bit float nearest to a value that is no NaN. Magnitudes are ordered as their bits are.
inline std::uint16_t nearest(double value, int mantissa) {
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  const std::uint16_t infinity =
      static_cast<std::uint16_t>(((1 << (15 - mantissa)) - 1) << mantissa);
  if (std::isinf(magnitude)) return sign | infinity;
  std::uint16_t low = 0;
  std::uint16_t high = infinity;  // low ≤ magnitude < high
  while (high - low > 1) {
    const auto middle = static_cast<std::uint16_t>((low + high) / 2);
    (value_of(middle, mantissa) <= magnitude ? low : high) = middle;
  }
  // Where the next value would be if the exponent had one more step, for rounding to infinity.
  const double below = value_of(low, mantissa);
  const double above =
      high == infinity ? 2 * below - value_of(low - 1, mantissa) : value_of(high, mantissa);
  const double down = magnitude - below;
  const double up = above - magnitude;
  if (down < up) return sign | low;
  if (up < down) return sign | high;
  return sign | (low % 2 == 0 ? low : high);
}

// True if `got` is `sent` after a conversion to `stored` and back; equal types keep every bit.
inline bool round_trip_ok(logits_type batch, logits_type stored, const std::byte* sent,
                          const std::byte* got) {
  if (batch == stored) return std::memcmp(sent, got, bytes_of(batch)) == 0;
  double value = element_value(batch, sent);
  const double back = element_value(batch, got);
  if (std::isnan(value)) return std::isnan(back);
  for (const logits_type step : {stored, batch}) {
    if (step != logits_type::fp32)
      value = value_of(nearest(value, mantissa_of(step)), mantissa_of(step));
  }
  return value == back && std::signbit(value) == std::signbit(back);
}

// Elements of every kind: any bit pattern, infinities, NaN, both zeros, limits, ties, subnormals.
inline std::vector<std::byte> interesting_logits(logits_type t, std::size_t n,
                                                 std::mt19937_64& random) {
  constexpr float fp32_cases[] = {
      0.0f,         -0.0f,    1.0f,     -1.0f,     65504.0f,        65519.9f,       65520.0f,
      -65520.0f,    65536.0f, 0x1p-14f, 0x1p-24f,  0x1p-25f,        0x1.8p-24f,     -0x1.8p-25f,
      0x1.ffcp-15f, 1e-30f,   3.3e38f,  0x1p-140f, 1.0f + 0x1p-11f, 1.0f + 0x1p-8f, -INFINITY,
      INFINITY,     NAN,      -NAN};
  constexpr std::uint16_t half_cases[] = {0,      0x8000, 0x7c00, 0xfc00, 0x7e00, 0xfe01,
                                          0x7f80, 0xff80, 0x7fc0, 0x7fff, 1,      0x8001,
                                          0x03ff, 0x0400, 0x7bff, 0x7f7f, 0x0080, 0x007f};
  std::vector<std::byte> bytes(n * bytes_of(t));
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t pick = random();
    if (t == logits_type::fp32) {
      float f = static_cast<float>(static_cast<double>(static_cast<std::int32_t>(pick)) * 0x1p-26);
      if (pick % 4 == 1) f = std::bit_cast<float>(static_cast<std::uint32_t>(pick >> 16));
      if (pick % 4 == 2) f = fp32_cases[(pick >> 8) % std::size(fp32_cases)];
      std::memcpy(bytes.data() + i * 4, &f, 4);
    } else {
      auto h = static_cast<std::uint16_t>(pick >> 8);
      if (pick % 4 == 2) h = half_cases[(pick >> 8) % std::size(half_cases)];
      std::memcpy(bytes.data() + i * 2, &h, 2);
    }
  }
  return bytes;
}

}  // namespace radixkv::conformance
