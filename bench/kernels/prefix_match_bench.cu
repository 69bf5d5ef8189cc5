// Times of matching batches of prompts, and of finding what they share beyond the cache.

#include <string>

#include "bench/kernels/dedup_batch.h"
#include "bench/kernels/gpu_timer.h"

namespace radixkv::bench {
namespace {

// Batches of the traffic benchmark, and larger ones whose data exceed the L2 many times.
using make_batch = match_batch (*)();

void prefix_match(benchmark::State& state, make_batch make) {
  const device_match match(make());
  measure(state, match.bytes_minimal(),
          [&](cudaStream_t s) { return kernels::prefix_match(s, match.arguments()); });
  if (const std::string error = match.error(); !error.empty()) state.SkipWithError(error.c_str());
  state.counters["tokens"] = static_cast<double>(match.matched_tokens());
}

void batch_dedup(benchmark::State& state, make_batch make) {
  const device_dedup dedup(make());
  measure(state, dedup.bytes_minimal(),
          [&](cudaStream_t s) { return kernels::batch_dedup(s, dedup.arguments()); });
  if (const std::string error = dedup.error(); !error.empty()) state.SkipWithError(error.c_str());
  state.counters["tokens"] = static_cast<double>(dedup.uncached_tokens());
}

match_batch in_runs(match_batch batch) {
  batch.id_run = 32;
  return batch;
}

// Setting one up takes far longer than measuring it, so the number of iterations is fixed.
constexpr int iterations = 40;
#define RADIXKV_MATCH_BENCH(function, name, batch) \
  BENCHMARK_CAPTURE(                               \
      function, name, +[] { return batch; })       \
      ->Iterations(iterations)                     \
      ->UseManualTime()

RADIXKV_MATCH_BENCH(prefix_match, long, long_prompts());
RADIXKV_MATCH_BENCH(prefix_match, mixed, mixed_prompts());
RADIXKV_MATCH_BENCH(prefix_match, one_1m, one_prompt());
RADIXKV_MATCH_BENCH(prefix_match, mid, mid_prompts());
RADIXKV_MATCH_BENCH(prefix_match, chat, chat_prompts());
RADIXKV_MATCH_BENCH(prefix_match, chat_uniform, chat_uniform_prompts());
RADIXKV_MATCH_BENCH(prefix_match, tiny, tiny_prompts());
RADIXKV_MATCH_BENCH(prefix_match, one_2k, one_prompt(2'000));
RADIXKV_MATCH_BENCH(prefix_match, long_1500, long_prompts(1500));
RADIXKV_MATCH_BENCH(prefix_match, long_6000, long_prompts(6000));
RADIXKV_MATCH_BENCH(prefix_match, long_1500_runs, in_runs(long_prompts(1500)));
RADIXKV_MATCH_BENCH(prefix_match, long_6000_runs, in_runs(long_prompts(6000)));
RADIXKV_MATCH_BENCH(prefix_match, chat_8000_runs, in_runs(chat_prompts(8'000)));
RADIXKV_MATCH_BENCH(prefix_match, mixed_12000, mixed_prompts(12'000));
RADIXKV_MATCH_BENCH(prefix_match, mid_20000, mid_prompts(20'000));
RADIXKV_MATCH_BENCH(prefix_match, chat_8000, chat_prompts(8'000));
RADIXKV_MATCH_BENCH(batch_dedup, chat, chat_prompts());
RADIXKV_MATCH_BENCH(batch_dedup, chat_8000, chat_prompts(8'000));
RADIXKV_MATCH_BENCH(batch_dedup, burst, burst_prompts());
RADIXKV_MATCH_BENCH(batch_dedup, tiny, tiny_prompts());

}  // namespace
}  // namespace radixkv::bench
