// Fails chosen allocations of the calling thread, and counts them: linking alloc_failure.cpp
// replaces operator new of the program. Pages of a mapped_array count as allocations that fail.
#pragma once

#include <cstddef>
#include <cstdint>

namespace radixkv::testing {

// While it lives, the nth allocation (0: the next one) of this thread fails, and with
// `from_then_on` every later one too. One at a time in a thread.
class alloc_failure {
 public:
  explicit alloc_failure(std::int64_t nth, bool from_then_on = false) noexcept;
  ~alloc_failure();
  alloc_failure(const alloc_failure&) = delete;
  alloc_failure& operator=(const alloc_failure&) = delete;

  // Ends it early: later allocations succeed again.
  void stop() noexcept;
  // True if an allocation was refused.
  [[nodiscard]] bool fired() const noexcept;
};

// Allocations of this thread that were not given back (by this thread) since it started.
[[nodiscard]] std::int64_t live_allocations() noexcept;
// How often operator new was called by this thread since it started.
[[nodiscard]] std::uint64_t allocations_asked_for() noexcept;
// The most bytes that this thread has asked operator new for at once, since it was set to 0.
[[nodiscard]] std::size_t& largest_allocation() noexcept;
// The same of one operation.
template <typename Operation>
[[nodiscard]] std::size_t largest_allocation_of(Operation&& operation) {
  largest_allocation() = 0;
  operation();
  return largest_allocation();
}

}  // namespace radixkv::testing
