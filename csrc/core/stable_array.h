// An array that grows without moving: address space is reserved for the maximum, memory is taken as
// it is touched (huge pages where the system grants them), and stays mapped until destruction, so a
// reader without a lock may read any element at any time.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <sys/mman.h>

namespace radixkv::detail {

// T must be valid when all its bytes are zero, and trivially destructible in effect.
template <typename T>
class stable_array {
 public:
  stable_array() noexcept = default;
  stable_array(stable_array&& o) noexcept
      : data_(std::exchange(o.data_, nullptr)), bytes_(std::exchange(o.bytes_, 0)) {}
  stable_array& operator=(stable_array&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(bytes_, o.bytes_);
    return *this;
  }
  ~stable_array() {
    if (data_) munmap(data_, bytes_);
  }

  // How an array is filled: from its begin on, as far as it is needed; all over at once; or from
  // its begin on by calls that must be short. To get a huge page can take milliseconds where a
  // machine is a virtual one, so the last takes small ones.
  enum class filled : std::uint8_t { in_order, all_over, in_passing };

  // Reserves room for n elements, all zero. False if the system refuses. REQUIRES: not reserved
  // yet.
  [[nodiscard]] bool reserve(std::size_t n, filled how = filled::in_order) noexcept {
    constexpr std::size_t huge = std::size_t{2} << 20;
    if (n > SIZE_MAX / 2 / sizeof(T)) return false;
    const std::size_t wanted = (n * sizeof(T) + huge - 1) / huge * huge;
    const std::size_t mapped = wanted + huge;
    void* p = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return false;
    // Trim to a huge-page boundary, else the kernel cannot use huge pages at the ends.
    auto start = reinterpret_cast<std::uintptr_t>(p);
    const std::uintptr_t aligned = (start + huge - 1) / huge * huge;
    if (aligned > start) munmap(p, aligned - start);
    if (aligned + wanted < start + mapped) {
      munmap(reinterpret_cast<void*>(aligned + wanted), start + mapped - aligned - wanted);
    }
    data_ = reinterpret_cast<T*>(aligned);
    bytes_ = wanted;
    // To get a huge page takes as long as to get half of it in small ones.
    const std::size_t most_in_small = how == filled::all_over ? huge / 2 - 1 : huge;
    if (how == filled::in_passing) {
      madvise(data_, bytes_, MADV_NOHUGEPAGE);
    } else if (n * sizeof(T) > most_in_small) {
      madvise(data_, bytes_, MADV_HUGEPAGE);
    }
    return true;
  }

  // Takes the memory of the elements from `from` to before n from the system now instead of when
  // they are first touched. False if the system refuses.
  [[nodiscard]] bool populate(std::size_t n, std::size_t from = 0) noexcept {
    constexpr std::size_t page = 4096;
    char* const bytes = reinterpret_cast<char*>(data_);
    const std::size_t begin = from * sizeof(T) / page * page;
    const std::size_t end = std::min(bytes_, (n * sizeof(T) + page - 1) / page * page);
    if (begin >= end) return true;
#if defined(MADV_POPULATE_WRITE)
    if (madvise(bytes + begin, end - begin, MADV_POPULATE_WRITE) == 0) return true;
    if (errno != EINVAL) return false;  // else the kernel is older than 5.14
#endif
    for (std::size_t at = begin; at < end; at += page) {
      volatile char& byte = bytes[at];
      byte = byte;
    }
    return true;
  }

  // Gives the memory back to the system; the elements read as zero afterwards and stay readable.
  void discard() noexcept {
    if (data_) madvise(data_, bytes_, MADV_DONTNEED);
  }
  // Of n elements, which lie on whole pages.
  void discard(std::size_t from, std::size_t n) noexcept {
    madvise(data_ + from, n * sizeof(T), MADV_DONTNEED);
  }

  [[nodiscard]] T* data() noexcept { return data_; }
  [[nodiscard]] const T* data() const noexcept { return data_; }
  [[nodiscard]] T& operator[](std::size_t i) noexcept { return data_[i]; }
  [[nodiscard]] const T& operator[](std::size_t i) const noexcept { return data_[i]; }

 private:
  T* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace radixkv::detail
