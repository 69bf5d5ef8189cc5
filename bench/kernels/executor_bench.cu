// What a step plan costs through cuda_executor: the host's time to enqueue it, and the device's to
// run it with its upload.

#include <chrono>
#include <cstdint>

#include "bench/kernels/bench_result.h"
#include "bench/kernels/gpu_timer.h"
#include "radixkv/cuda_executor.h"

namespace radixkv::bench {
namespace {

// 160 planes of 16 × 2,048 bytes a block: K and V of 80 layers.
void executor_run(benchmark::State& state) {
  const auto copies = static_cast<std::int32_t>(state.range(0));
  const memory_layout layout = layout_nhd({.blocks = std::int64_t{copies} * 2,
                                           .block_tokens = 16,
                                           .layers = 80,
                                           .heads = 8,
                                           .head_bytes = 256,
                                           .kv = 2});
  cuda_executor executor = created(cuda_executor::create(layout));
  step_plan plan;
  for (block_id b = 0; b < copies; ++b) plan.copies.push_back({b, b + copies, 16});
  double host_seconds = 0;
  measure(state, 2.0 * 160 * 16 * 2048 * copies, [&](cudaStream_t s) {
    const auto begin = std::chrono::steady_clock::now();
    require(executor.run(s, plan));
    host_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return cudaSuccess;
  });
  state.counters["host_us"] = host_seconds * 1e6;
}
BENCHMARK(executor_run)
    ->ArgName("copies")
    ->Arg(1)
    ->Arg(16)
    ->Arg(256)
    ->Iterations(100)
    ->UseManualTime();

}  // namespace
}  // namespace radixkv::bench
