// Times of bringing the device index up to date, by deltas of a full cache.

#include <string>

#include "bench/kernels/gpu_timer.h"
#include "bench/kernels/update_batch.h"

namespace radixkv::bench {
namespace {

void index_update(benchmark::State& state) {
  const auto paths = static_cast<std::size_t>(state.range(0));
  const device_update update(
      {.block_count = static_cast<std::int32_t>(2 * paths * 40), .changed_paths = paths});
  measure(state, update.bytes_minimal(),
          [&](cudaStream_t s) { return kernels::index_update(s, update.arguments()); });
  if (const std::string error = update.error(); !error.empty()) state.SkipWithError(error.c_str());
  state.counters["deltas"] = static_cast<double>(update.deltas());
}
BENCHMARK(index_update)
    ->ArgName("paths")
    ->Arg(1)
    ->Arg(100)
    ->Arg(20'000)
    ->Iterations(40)
    ->UseManualTime();

}  // namespace
}  // namespace radixkv::bench
