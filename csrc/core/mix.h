// Keyed 64-bit mixing for hash tables whose keys an adversary may choose.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

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

// Of a string, for tables of names that an adversary may choose.
inline std::uint64_t mix(std::string_view s, std::uint64_t secret) noexcept {
  std::uint64_t h = mix(s.size(), secret);
  while (!s.empty()) {
    std::uint64_t word = 0;
    const std::size_t n = s.size() < sizeof word ? s.size() : sizeof word;
    std::memcpy(&word, s.data(), n);
    h = mix(h ^ word, secret);
    s.remove_prefix(n);
  }
  return h;
}

// A fresh secret from the system's random source.
[[nodiscard]] std::uint64_t random_secret();

}  // namespace radixkv::detail
