// Secrets that key the hashes of what the device is told. The core's own source of them is not
// exported.
#pragma once

#include <chrono>
#include <cstdint>

#include <sys/random.h>

namespace radixkv {

inline std::uint64_t device_secret() noexcept {
  std::uint64_t s = 0;
  if (getrandom(&s, sizeof s, GRND_NONBLOCK) == static_cast<ssize_t>(sizeof s)) return s;
  // Early boot only. Address-space randomisation and the clock are the best that is left.
  const auto now =
      static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  return (now ^ reinterpret_cast<std::uintptr_t>(&s)) * 0x9e3779b97f4a7c15ull;
}

}  // namespace radixkv
