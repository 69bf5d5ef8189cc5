// Where the time of a thread's operations goes: ticks by stage, for `replay` and benchmarks.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#else
#include <chrono>
#endif

namespace radixkv::detail {

// Ticks this thread has spent, since it started, in each stage of the cache's operations.
struct stage_times {
  std::uint64_t match = 0;     // finding the longest cached prefix
  std::uint64_t allocate = 0;  // taking blocks and writing the prompt's new tokens to their rows
  std::uint64_t commit = 0;    // publishing
  std::uint64_t evict = 0;     // choosing and giving up blocks
};

[[nodiscard]] inline stage_times& stage_times_of_thread() noexcept {
  thread_local stage_times times;
  return times;
}

// The processor's time-stamp counter, which costs some 20 cycles to read.
[[nodiscard]] inline std::uint64_t ticks_now() noexcept {
#if defined(__x86_64__)
  return __rdtsc();
#else
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
}

// Adds the time until it is stopped or destroyed to a stage.
class stage_timer {
 public:
  explicit stage_timer(std::uint64_t& stage) noexcept : stage_(&stage), start_(ticks_now()) {}
  stage_timer(const stage_timer&) = delete;
  stage_timer& operator=(const stage_timer&) = delete;
  ~stage_timer() { stop(); }
  void stop() noexcept {
    if (stage_) *stage_ += ticks_now() - start_;
    stage_ = nullptr;
  }

 private:
  std::uint64_t* stage_;
  std::uint64_t start_;
};

}  // namespace radixkv::detail
