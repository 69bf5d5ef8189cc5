// Times of matching batches of prompts, and of finding what they share beyond the cache.

#include <string>

#include "bench/kernels/gpu_timer.h"
#include "bench/kernels/match_batch.h"
#include "kernels/batch_dedup.h"

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

// Of a batch in which nothing is cached beyond what its match says: sort, runs and comparison.
void batch_dedup(benchmark::State& state, make_batch make) {
  const device_match match(make());
  const kernels::prefix_match_arguments& m = match.arguments();
  kernels::batch_dedup_arguments a;
  a.hash = m.hash;
  a.block_tokens = match_block_tokens;
  a.tokens = m.tokens;
  a.token_offsets = m.token_offsets;
  a.prompt_count = m.prompt_count;
  a.token_count = m.token_count;
  a.matched_blocks = m.matched_blocks;
  a.block_table = m.block_table;
  const bench_memory<std::int32_t> representatives(m.prompt_count), shared(m.prompt_count);
  a.representatives = representatives.data();
  a.shared_blocks = shared.data();
  const bench_memory<std::byte> workspace(
      kernels::batch_dedup_workspace_bytes(m.prompt_count, m.token_count, match_block_tokens));
  a.workspace = workspace.data();
  a.workspace_bytes = workspace.size();
  require(kernels::prefix_match(nullptr, m), "prefix_match");
  if (const std::string error = match.error(); !error.empty()) state.SkipWithError(error.c_str());
  const double uncached = static_cast<double>(m.token_count - match.matched_tokens());
  measure(state, uncached * sizeof(std::uint32_t),
          [&](cudaStream_t s) { return kernels::batch_dedup(s, a); });
  state.counters["tokens"] = uncached;
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
RADIXKV_MATCH_BENCH(batch_dedup, tiny, tiny_prompts());

}  // namespace
}  // namespace radixkv::bench
