// One thread of a replay, and what the threads share.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>

#include "csrc/cli/latency_recorder.h"
#include "csrc/cli/lookahead_queue.h"
#include "csrc/cli/progress_bar.h"
#include "csrc/cli/replay_result.h"
#include "csrc/cli/token_expander.h"
#include "csrc/cli/trace.h"
#include "csrc/cli/verify_engine.h"
#include "radixkv/kv_cache.h"

namespace radixkv::cli {

// The trace's time. Thread-safe; never goes back.
class trace_clock {
 public:
  void advance(double seconds) noexcept {
    double seen = seconds_.load(std::memory_order_relaxed);
    while (seen < seconds && !seconds_.compare_exchange_weak(seen, seconds)) {
    }
  }
  [[nodiscard]] double seconds() const noexcept { return seconds_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> seconds_{0};
};

// What the threads of one replay share.
struct replay_shared {
  const trace& source;
  const prompt_buffer& prompts;
  kv_cache& cache;
  trace_clock& clock;
  verify_engine* engine;  // null: no plan is run
  std::uint32_t block_tokens;
  lookahead_queue* lookahead = nullptr;  // null: nothing is announced

  std::size_t first = 0;                   // first request of the range that is expanded
  std::span<std::uint32_t> matched{};      // of each request of the range, for the floor
  std::atomic<std::size_t> next{0};        // index into `matched`
  std::atomic<std::int64_t> open{0};       // requests being served
  std::atomic<std::uint64_t> released{0};  // requests that gave their blocks back
  std::atomic<bool> stop{false};
  std::mutex engine_order{};  // held from open to the end of the plan: see verify_engine
  std::mutex failure_lock{};
  status failure{};  // the first one

  // Every worker ends; `s` is why, unless another was first.
  void fail(status s) noexcept;
};

// Recorders hold ticks (stage_timer.h).
struct replay_worker {
  std::uint64_t requests = 0;
  std::uint64_t refused = 0;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t hit_tokens = 0;
  std::uint64_t blocks = 0;
  std::uint64_t hit_blocks = 0;
  latency_recorder match, allocate, commit, evict, total, announce;

  // Serves requests of the range until none is left or one has failed. `bar` may be null.
  void run(replay_shared& shared, progress_bar* bar) noexcept;
  void merge(const replay_worker& other);

 private:
  status serve(replay_shared& shared, std::size_t index);
  void count(const replay_shared& shared, std::int64_t tokens, std::int64_t matched,
             std::int64_t cached);
  step_plan plan_;
};

}  // namespace radixkv::cli
