// Keyed 64-bit mixing for hash tables whose keys an adversary may choose.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace radixkv::detail {

// The halves of a 128-bit product, folded: one round. The building block of wyhash (Wang Yi, 2019).
//
// One round is not enough for the place in a table. Of keys in equal steps the lower half takes
// equal steps too, as in a multiply-shift hash, and the upper half hardly moves: for about one
// secret in a hundred the keys lie in few clusters, which linear probing walks through (Pătraşcu
// and Thorup, "On the k-independence required by linear probing and minwise independence", ACM
// Transactions on Algorithms 2016). After a second round they lie as random ones do (test_mix).
inline std::uint64_t fold_multiply(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using u128 = unsigned __int128;
  const u128 p = static_cast<u128>(a) * b;
  return static_cast<std::uint64_t>(p) ^ static_cast<std::uint64_t>(p >> 64);
}

// One round, to chain; `mix_end` follows the last.
inline std::uint64_t mix_step(std::uint64_t value, std::uint64_t secret) noexcept {
  return fold_multiply(value ^ secret, 0x9e3779b97f4a7c15ull ^ (secret << 1 | 1));
}
inline std::uint64_t mix_end(std::uint64_t value, std::uint64_t secret) noexcept {
  return fold_multiply(value, 0xe7037ed1a0b428dbull ^ secret);
}

// Of a value that an adversary may choose: where it lies in a table.
inline std::uint64_t mix(std::uint64_t value, std::uint64_t secret) noexcept {
  return mix_end(mix_step(value, secret), secret);
}

// Of a string, for tables of names that an adversary may choose.
inline std::uint64_t mix(std::string_view s, std::uint64_t secret) noexcept {
  std::uint64_t h = mix_step(s.size(), secret);
  while (!s.empty()) {
    std::uint64_t word = 0;
    const std::size_t n = s.size() < sizeof word ? s.size() : sizeof word;
    std::memcpy(&word, s.data(), n);
    h = mix_step(h ^ word, secret);
    s.remove_prefix(n);
  }
  return mix_end(h, secret);
}

// A fresh secret from the system's random source.
[[nodiscard]] std::uint64_t random_secret();

#if defined(RADIXKV_DEBUG_CHECKS)
// While one lives, this thread's secrets follow from a seed, so that what happened with some
// secrets can be repeated. For tests, one at a time.
class fixed_secrets {
 public:
  explicit fixed_secrets(std::uint64_t seed) noexcept;
  ~fixed_secrets();
  fixed_secrets(const fixed_secrets&) = delete;
  fixed_secrets& operator=(const fixed_secrets&) = delete;
};
#endif

}  // namespace radixkv::detail
