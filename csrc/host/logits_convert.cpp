#include "csrc/host/logits_convert.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace radixkv::detail {

namespace {

constexpr std::uint32_t sign_bit = 0x80000000u;
constexpr std::uint32_t fp32_infinity = 0x7f800000u;

// All cases are computed and one is selected, so that loops over them vectorise.
inline std::uint16_t narrow_fp16(std::uint32_t bits) {
  const std::uint32_t magnitude = bits & ~sign_bit;
  const std::uint32_t sign = (bits & sign_bit) >> 16;
  // Normal: re-bias the exponent by 112 and round 13 bits away; a carry into the exponent is right.
  const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1);
  const std::uint32_t normal = std::min((rounded - (112u << 23)) >> 13, 0x7c00u);
  // Below 2^-14: adding 0.5, whose last place is 2^-24, leaves the rounded subnormal in the
  // mantissa.
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(std::min(magnitude, 0x38800000u)) + 0.5f) -
      0x3f000000u;
  const std::uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
  return static_cast<std::uint16_t>(magnitude > fp32_infinity ? 0x7fffu : sign | finite);
}

inline std::uint16_t narrow_bf16(std::uint32_t bits) {
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1)) >> 16;
  return static_cast<std::uint16_t>((bits & ~sign_bit) > fp32_infinity ? 0x7fffu : rounded);
}

inline std::uint32_t widen_fp16(std::uint16_t half) {
  const std::uint32_t magnitude = half & 0x7fffu;
  const std::uint32_t sign = std::uint32_t{half & 0x8000u} << 16;
  const std::uint32_t normal = (magnitude << 13) + (112u << 23);
  const std::uint32_t special = (magnitude << 13) | fp32_infinity;
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(
      static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24f);
  const std::uint32_t finite = magnitude < 0x400u ? subnormal : normal;
  return sign | (magnitude >= 0x7c00u ? special : finite);
}

inline std::uint32_t widen_bf16(std::uint16_t b) { return std::uint32_t{b} << 16; }

template <typename From, typename To, typename Convert>
void each(const std::byte* from, std::byte* to, std::size_t n, Convert convert) {
  for (std::size_t i = 0; i < n; ++i) {
    From f;
    std::memcpy(&f, from + i * sizeof f, sizeof f);
    const To t = convert(f);
    std::memcpy(to + i * sizeof t, &t, sizeof t);
  }
}

}  // namespace

std::uint16_t fp16_from_fp32(float value) noexcept {
  return narrow_fp16(std::bit_cast<std::uint32_t>(value));
}
std::uint16_t bf16_from_fp32(float value) noexcept {
  return narrow_bf16(std::bit_cast<std::uint32_t>(value));
}
float fp32_from_fp16(std::uint16_t bits) noexcept { return std::bit_cast<float>(widen_fp16(bits)); }
float fp32_from_bf16(std::uint16_t bits) noexcept { return std::bit_cast<float>(widen_bf16(bits)); }

void convert_logits(const std::byte* from, logits_type from_type, std::byte* to,
                    logits_type to_type, std::size_t n) noexcept {
  using u16 = std::uint16_t;
  using u32 = std::uint32_t;
  using enum logits_type;
  if (from_type == to_type) {
    std::memcpy(to, from, n * bytes_of(from_type));
  } else if (from_type == fp32) {
    if (to_type == fp16) each<u32, u16>(from, to, n, narrow_fp16);
    if (to_type == bf16) each<u32, u16>(from, to, n, narrow_bf16);
  } else if (from_type == fp16) {
    if (to_type == fp32) each<u16, u32>(from, to, n, widen_fp16);
    if (to_type == bf16)
      each<u16, u16>(from, to, n, [](u16 h) { return narrow_bf16(widen_fp16(h)); });
  } else {
    if (to_type == fp32) each<u16, u32>(from, to, n, widen_bf16);
    if (to_type == fp16)
      each<u16, u16>(from, to, n, [](u16 h) { return narrow_fp16(widen_bf16(h)); });
  }
}

}  // namespace radixkv::detail
