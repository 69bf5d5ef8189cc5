// Keyed 64-bit mixing for hash tables whose keys an adversary may choose.
#pragma once

#include <cstdint>

namespace radixkv::detail {

// The halves of a 128-bit product, folded. One multiplication; the building block of wyhash
// (Wang Yi, 2019). Keyed with a random secret it gives an adversary nothing to aim at.
inline std::uint64_t fold_multiply(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using u128 = unsigned __int128;
  const u128 p = static_cast<u128>(a) * b;
  return static_cast<std::uint64_t>(p) ^ static_cast<std::uint64_t>(p >> 64);
}

inline std::uint64_t mix(std::uint64_t value, std::uint64_t secret) noexcept {
  return fold_multiply(value ^ secret, 0x9e3779b97f4a7c15ull ^ (secret << 1 | 1));
}

// A fresh secret from the system's random source.
[[nodiscard]] std::uint64_t random_secret();

}  // namespace radixkv::detail
