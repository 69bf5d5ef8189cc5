// What a launcher can know about a pointer before it launches.
#pragma once

#include <cstddef>
#include <cstdint>

namespace radixkv::kernels {

// Null is aligned to everything. `alignment` is a power of two.
[[nodiscard]] inline bool is_aligned(const void* pointer, std::size_t alignment) noexcept {
  return reinterpret_cast<std::uintptr_t>(pointer) % alignment == 0;
}

}  // namespace radixkv::kernels
