// Memory that readers look at without a lock: relaxed accesses, and version-checked reading.
//
// A writer brackets a change with begin_write/end_write on a version (odd while it writes). A
// reader takes the version, reads, and accepts what it read only if the version is the same and
// even afterwards (seqlock; H.-J. Boehm, "Can seqlocks get along with programming language memory
// models?", MSPC 2012). Everything read in between must therefore be relaxed<T> or go through
// the functions of token_ops.h, and must lie in memory that is never unmapped.
#pragma once

#include <atomic>
#include <cstdint>

namespace radixkv::detail {

// A field that one writer (under the cache's lock) changes while readers look.
template <typename T>
class relaxed {
 public:
  relaxed() noexcept = default;
  relaxed(T v) noexcept : value_(v) {}
  relaxed(const relaxed& o) noexcept : value_(o.load()) {}
  relaxed& operator=(const relaxed& o) noexcept {
    store(o.load());
    return *this;
  }
  relaxed& operator=(T v) noexcept {
    store(v);
    return *this;
  }
  operator T() const noexcept { return load(); }
  T load() const noexcept { return value_.load(std::memory_order_relaxed); }
  void store(T v) noexcept { value_.store(v, std::memory_order_relaxed); }

 private:
  std::atomic<T> value_{};
};

class version {
 public:
  // Even when nothing is being written.
  [[nodiscard]] std::uint32_t read_begin() const noexcept {
    return value_.load(std::memory_order_acquire);
  }
  // True if nothing was written since read_begin returned `v`.
  [[nodiscard]] bool read_valid(std::uint32_t v) const noexcept {
#if defined(__SANITIZE_THREAD__)
    // ThreadSanitizer does not model fences; a read-modify-write orders the same way.
    return const_cast<std::atomic<std::uint32_t>&>(value_).fetch_add(
               0, std::memory_order_acq_rel) == v &&
           (v & 1) == 0;
#else
    std::atomic_thread_fence(std::memory_order_acquire);
    return value_.load(std::memory_order_relaxed) == v && (v & 1) == 0;
#endif
  }
  void begin_write() noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
#if !defined(__SANITIZE_THREAD__)
    std::atomic_thread_fence(std::memory_order_release);
#endif
  }
  void end_write() noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }

 private:
  std::atomic<std::uint32_t> value_{0};
};

// Brackets a change of what `v` guards.
class write_guard {
 public:
  explicit write_guard(version& v) noexcept : version_(v) { version_.begin_write(); }
  ~write_guard() { version_.end_write(); }
  write_guard(const write_guard&) = delete;
  write_guard& operator=(const write_guard&) = delete;

 private:
  version& version_;
};

}  // namespace radixkv::detail
