// Where the time of a thread's operations goes: ticks by stage, for who asks for them (`replay`).
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#else
#include <chrono>
#endif

#include "radixkv/export.h"

namespace radixkv::detail {

// Ticks spent in each stage of the cache's operations.
struct stage_times {
  std::uint64_t match = 0;     // finding the longest cached prefix
  std::uint64_t allocate = 0;  // taking blocks and writing the prompt's new tokens to their rows
  std::uint64_t commit = 0;    // publishing
  std::uint64_t evict = 0;     // choosing and giving up blocks
};

// Where this thread's stages are added up; null: nowhere, and no clock is read for them. Exported:
// what a program and a shared library see must be one.
extern RADIXKV_EXPORT constinit thread_local stage_times* recorded_stages;

// Adds up what this thread spends while it lives. Not to be nested.
class stage_recording {
 public:
  explicit stage_recording(stage_times& times) noexcept { recorded_stages = &times; }
  ~stage_recording() { recorded_stages = nullptr; }
  stage_recording(const stage_recording&) = delete;
  stage_recording& operator=(const stage_recording&) = delete;
};

// The processor's time-stamp counter, which costs 20 to 50 cycles to read.
[[nodiscard]] inline std::uint64_t ticks_now() noexcept {
#if defined(__x86_64__)
  return __rdtsc();
#else
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
}

// Adds the time until it is stopped or destroyed to a stage, if this thread's are recorded.
class stage_timer {
 public:
  explicit stage_timer(std::uint64_t stage_times::*stage) noexcept {
    if (recorded_stages == nullptr) [[likely]]
      return;
    stage_ = &(recorded_stages->*stage);
    start_ = ticks_now();
  }
  stage_timer(const stage_timer&) = delete;
  stage_timer& operator=(const stage_timer&) = delete;
  ~stage_timer() { stop(); }
  void stop() noexcept {
    if (stage_) *stage_ += ticks_now() - start_;
    stage_ = nullptr;
  }

 private:
  std::uint64_t* stage_ = nullptr;
  std::uint64_t start_ = 0;
};

}  // namespace radixkv::detail
