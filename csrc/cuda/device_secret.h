// Secrets that key the hashes of what the device is told. The core's own source of them is not
// exported.
#pragma once

#include <cstdint>
#include <random>

namespace radixkv {

// May throw what std::random_device does where the system has no source.
inline std::uint64_t device_secret() {
  std::random_device random;
  return (std::uint64_t{random()} << 32) | random();
}

}  // namespace radixkv
