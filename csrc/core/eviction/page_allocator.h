// Memory for a vector: of malloc while it is small, in pages of its own (mmap) beyond. Whoever asks
// malloc for more than a kilobyte may wait until it has sorted what all others have freed (glibc).
#pragma once

#include <cstddef>
#include <new>

#include <sys/mman.h>

#include "csrc/core/eviction/mapped_array.h"

namespace radixkv::detail {

template <typename T>
struct page_allocator {
  using value_type = T;
  static constexpr std::size_t most_of_malloc = 1024;

  page_allocator() noexcept = default;
  template <typename U>
  page_allocator(const page_allocator<U>&) noexcept {}

  [[nodiscard]] T* allocate(std::size_t n) {
    const std::size_t bytes = n * sizeof(T);
    if (bytes <= most_of_malloc) return static_cast<T*>(::operator new(bytes));
#if defined(RADIXKV_DEBUG_CHECKS)
    if (refuses_pages != nullptr && refuses_pages()) throw std::bad_alloc();
#endif
    void* const p =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    return static_cast<T*>(p);
  }
  void deallocate(T* p, std::size_t n) noexcept {
    const std::size_t bytes = n * sizeof(T);
    if (bytes <= most_of_malloc) return ::operator delete(p);
    munmap(p, bytes);
  }
  friend bool operator==(const page_allocator&, const page_allocator&) noexcept { return true; }
};

}  // namespace radixkv::detail
