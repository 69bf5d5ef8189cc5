// An array that grows without copying, in pages of its own (mmap, mremap). malloc may take long
// whatever is asked for: glibc first sorts what was freed since, so who asks next pays for what
// many calls before have freed; and a policy's arrays grow under the cache's lock.
//
// Not thread-safe.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <sys/mman.h>

namespace radixkv::detail {

#if defined(RADIXKV_DEBUG_CHECKS)
// For tests of failures: whether the next pages that are asked for are refused.
inline bool (*refuses_pages)() noexcept = nullptr;
#endif

template <typename T>
class mapped_array {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  mapped_array() noexcept = default;
  mapped_array(mapped_array&& o) noexcept { swap(o); }
  mapped_array& operator=(mapped_array&& o) noexcept {
    mapped_array(std::move(o)).swap(*this);
    return *this;
  }
  ~mapped_array() {
    if (data_ != nullptr) munmap(data_, mapped_);
  }
  void swap(mapped_array& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(mapped_, o.mapped_);
    std::swap(capacity_, o.capacity_);
    std::swap(size_, o.size_);
  }

  // Makes room for n elements in all, no more; false, with nothing changed, if there is no memory.
  [[nodiscard]] bool reserve(std::size_t n) noexcept {
    if (n <= capacity_) return true;
    constexpr std::size_t page = 4096;
    if (n > SIZE_MAX / 2 / sizeof(T)) return false;
    const std::size_t bytes = (n * sizeof(T) + page - 1) / page * page;
    if (bytes > mapped_) {
#if defined(RADIXKV_DEBUG_CHECKS)
      if (refuses_pages != nullptr && refuses_pages()) return false;
#endif
      void* const p = data_ == nullptr ? mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                                       : mremap(data_, mapped_, bytes, MREMAP_MAYMOVE);
      if (p == MAP_FAILED) return false;
      data_ = static_cast<T*>(p);
      mapped_ = bytes;
    }
    capacity_ = n;
    return true;
  }
  // REQUIRES of what makes it longer: room.
  void push_back(const T& element) noexcept {
    assert(size_ < capacity_);
    data_[size_++] = element;
  }
  void append(const T* from, std::size_t n) noexcept {
    assert(size_ + n <= capacity_);
    std::copy(from, from + n, end());
    size_ += n;
  }
  // New ones as `value`.
  void resize(std::size_t n, const T& value = {}) noexcept {
    assert(n <= capacity_);
    if (n > size_) std::fill(end(), data_ + n, value);
    size_ = n;
  }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
  // Of what it has room for.
  [[nodiscard]] std::size_t bytes() const noexcept { return capacity_ * sizeof(T); }
  [[nodiscard]] T& operator[](std::size_t i) noexcept { return data_[i]; }
  [[nodiscard]] const T& operator[](std::size_t i) const noexcept { return data_[i]; }
  [[nodiscard]] T* data() noexcept { return data_; }
  [[nodiscard]] T* begin() noexcept { return data_; }
  [[nodiscard]] T* end() noexcept { return data_ + size_; }
  [[nodiscard]] const T* begin() const noexcept { return data_; }
  [[nodiscard]] const T* end() const noexcept { return data_ + size_; }

 private:
  T* data_ = nullptr;
  std::size_t mapped_ = 0;  // bytes, whole pages
  std::size_t capacity_ = 0;
  std::size_t size_ = 0;
};

}  // namespace radixkv::detail
