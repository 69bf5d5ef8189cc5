// Times of moving rows of logits between a batch and the store, and of top-k.

#include <random>

#include "bench/kernels/gpu_timer.h"
#include "bench/kernels/topk_batch.h"
#include "kernels/logits_cache.h"

namespace radixkv::bench {
namespace {

using kernels::element_type;

constexpr std::uint32_t vocabulary = 131072;

void logits_scatter(benchmark::State& state) {
  const auto rows = static_cast<std::uint32_t>(state.range(0));
  const auto from = static_cast<element_type>(state.range(1));
  const auto to = static_cast<element_type>(state.range(2));
  bench_memory<std::byte> batch(std::size_t{rows} * vocabulary * bytes_of(from));
  bench_memory<std::byte> store(std::size_t{rows} * vocabulary * bytes_of(to));
  require(cudaMemset(batch.data(), 0, batch.size()), "memset");
  std::vector<std::int32_t> slots(rows);
  for (std::uint32_t r = 0; r < rows; ++r) slots[r] = static_cast<std::int32_t>(rows - 1 - r);
  bench_memory<std::int32_t> device_slots(rows);
  device_slots.upload(slots.data(), rows);
  const kernels::logits_arguments a{
      batch.data(), vocabulary,          from,   rows,
      store.data(), vocabulary,          to,     static_cast<std::int32_t>(rows),
      vocabulary,   device_slots.data(), nullptr};
  measure(state, static_cast<double>(batch.size() + store.size()),
          [&](cudaStream_t s) { return kernels::logits_scatter(s, a); });
}
BENCHMARK(logits_scatter)
    ->ArgNames({"rows", "from", "to"})
    ->ArgsProduct({{1, 512}, {0, 1, 2}, {0, 1, 2}})
    ->UseManualTime()
    ->Iterations(100);

void logits_topk(benchmark::State& state) {
  const auto rows = static_cast<std::uint32_t>(state.range(0));
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> content(std::size_t{rows} * vocabulary);
  for (float& f : content) f = normal(random);
  const device_topk batch(content, vocabulary, 64);
  measure(state, static_cast<double>(content.size()) * sizeof(float),
          [&](cudaStream_t s) { return kernels::logits_topk(s, batch.arguments()); });
}
BENCHMARK(logits_topk)
    ->ArgName("rows")
    ->Arg(1)
    ->Arg(16)
    ->Arg(512)
    ->UseManualTime()
    ->Iterations(100);

}  // namespace
}  // namespace radixkv::bench
