// Times of block_copy and logits_cache on a GPU, as a share of what a large device-to-device copy
// reaches in the same run, against cub::DeviceMemcpy::Batched and one cudaMemcpyAsync per segment.
//
// Times are CUDA events around work on one stream. Without a GPU the program says so and fails.

#include <algorithm>
#include <random>
#include <string>
#include <string_view>

#include <benchmark/benchmark.h>
#include <cub/device/device_memcpy.cuh>

#include "bench/kernels/bench_memory.h"
#include "kernels/block_copy.h"
#include "kernels/logits_cache.h"
#include "kernels/logits_topk.h"

namespace radixkv::bench {
namespace {

using kernels::block_copy_item;
using kernels::element_type;
using kernels::plane;

class timer {
 public:
  timer() {
    require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
    require(cudaEventCreate(&begin_), "event");
    require(cudaEventCreate(&end_), "event");
  }
  ~timer() {
    (void)cudaEventDestroy(begin_);
    (void)cudaEventDestroy(end_);
    (void)cudaStreamDestroy(stream_);
  }
  timer(const timer&) = delete;
  timer& operator=(const timer&) = delete;

  // Seconds that what `enqueue(stream)` enqueues takes.
  template <class Enqueue>
  double seconds(Enqueue enqueue) {
    require(cudaEventRecord(begin_, stream_), "event");
    require(enqueue(stream_), "launch");
    require(cudaEventRecord(end_, stream_), "event");
    require(cudaEventSynchronize(end_), "run");
    float milliseconds = 0;
    require(cudaEventElapsedTime(&milliseconds, begin_, end_), "event");
    return milliseconds * 1e-3;
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

// Bytes read and written per second by one large copy: what every share below refers to.
double copy_bandwidth() {
  static const double bandwidth = [] {
    constexpr std::size_t bytes = std::size_t{1} << 30;
    bench_memory<std::byte> from(bytes), to(bytes);
    timer clock;
    double best = 1e9;
    for (int i = 0; i < 10; ++i) {
      best = std::min(best, clock.seconds([&](cudaStream_t s) {
        return cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, s);
      }));
    }
    return 2.0 * bytes / best;
  }();
  return bandwidth;
}

// Runs `enqueue` per iteration and reports bandwidth and share; `bytes` are read and written ones.
template <class Enqueue>
void measure(benchmark::State& state, double bytes, Enqueue enqueue) {
  timer clock;
  clock.seconds(enqueue);
  double total = 0;
  for (auto _ : state) {
    const double seconds = clock.seconds(enqueue);
    state.SetIterationTime(seconds);
    total += seconds;
  }
  const double bandwidth = bytes * static_cast<double>(state.iterations()) / total;
  state.counters["GB/s"] = bandwidth / 1e9;
  state.counters["share_of_copy"] = bandwidth / copy_bandwidth();
}

// K and V of 80 layers; HND: 8 heads × 128 × 2 bytes apart, NHD: 2,048 bytes a token, MLA: 656.
struct copy_set {
  std::vector<plane> planes;
  std::vector<block_copy_item> items;
  std::uint32_t block_tokens = 16;
  std::int32_t blocks;
  double bytes = 0;
  bench_memory<std::byte> memory;
  bench_memory<block_copy_item> device_items;

  copy_set(std::uint32_t plane_count, std::uint32_t inner_count, std::uint32_t bytes_per_token,
           std::int32_t copies, bool whole)
      : blocks(2 * copies),
        memory(std::size_t{plane_count} * static_cast<std::size_t>(blocks) * inner_count *
               block_tokens * bytes_per_token),
        device_items(static_cast<std::size_t>(copies)) {
    const std::int64_t segment = std::int64_t{block_tokens} * bytes_per_token;
    const std::int64_t stride = segment * inner_count;
    for (std::uint32_t i = 0; i < plane_count; ++i) {
      planes.push_back(
          {memory.data() + i * stride * blocks, stride, segment, inner_count, bytes_per_token});
    }
    std::mt19937 random(1);
    std::vector<std::int32_t> order(static_cast<std::size_t>(blocks));
    for (std::int32_t b = 0; b < blocks; ++b) order[static_cast<std::size_t>(b)] = b;
    std::shuffle(order.begin(), order.end(), random);
    for (std::size_t i = 0; i < static_cast<std::size_t>(copies); ++i) {
      const auto tokens =
          static_cast<std::int32_t>(whole ? block_tokens : 1 + random() % (block_tokens - 1));
      items.push_back({order[2 * i], order[2 * i + 1], tokens});
      bytes += 2.0 * tokens * bytes_per_token * inner_count * plane_count;
    }
    device_items.upload(items.data(), items.size());
  }

  // Calls visit(source, destination, bytes) for every segment, those of whole blocks joined.
  template <class Visit>
  void for_each_segment(Visit visit) const {
    for (const block_copy_item& item : items) {
      for (const plane& p : planes) {
        const std::size_t n = static_cast<std::size_t>(item.tokens) * p.bytes_per_token;
        const bool joined = item.tokens == static_cast<std::int32_t>(block_tokens);
        const std::uint32_t count = joined ? 1 : p.inner_count;
        for (std::uint32_t h = 0; h < count; ++h) {
          visit(kernels::token_address(p, item.source, h, 0),
                kernels::token_address(p, item.destination, h, 0), joined ? n * p.inner_count : n);
        }
      }
    }
  }
};

copy_set make_copy_set(const benchmark::State& state) {
  return {static_cast<std::uint32_t>(state.range(0)), static_cast<std::uint32_t>(state.range(1)),
          static_cast<std::uint32_t>(state.range(2)), static_cast<std::int32_t>(state.range(3)),
          state.range(4) != 0};
}

void block_copy_kernel(benchmark::State& state) {
  const copy_set set = make_copy_set(state);
  kernels::block_copy_arguments a;
  a.planes = set.planes.data();
  a.plane_count = static_cast<std::uint32_t>(set.planes.size());
  a.block_count = set.blocks;
  a.block_tokens = set.block_tokens;
  a.items = set.device_items.data();
  a.item_count = static_cast<std::uint32_t>(set.items.size());
  measure(state, set.bytes, [&](cudaStream_t s) { return kernels::block_copy(s, a); });
}

void block_copy_cub(benchmark::State& state) {
  const copy_set set = make_copy_set(state);
  std::vector<const void*> from;
  std::vector<void*> to;
  std::vector<std::size_t> sizes;
  set.for_each_segment([&](std::byte* source, std::byte* destination, std::size_t n) {
    from.push_back(source);
    to.push_back(destination);
    sizes.push_back(n);
  });
  bench_memory<const void*> device_from(from.size());
  bench_memory<void*> device_to(to.size());
  bench_memory<std::size_t> device_sizes(sizes.size());
  device_from.upload(from.data(), from.size());
  device_to.upload(to.data(), to.size());
  device_sizes.upload(sizes.data(), sizes.size());
  const auto count = static_cast<std::uint32_t>(sizes.size());
  std::size_t scratch_bytes = 0;
  require(cub::DeviceMemcpy::Batched(nullptr, scratch_bytes, device_from.data(), device_to.data(),
                                     device_sizes.data(), count),
          "cub::DeviceMemcpy::Batched");
  bench_memory<std::byte> scratch(scratch_bytes);
  measure(state, set.bytes, [&](cudaStream_t s) {
    return cub::DeviceMemcpy::Batched(scratch.data(), scratch_bytes, device_from.data(),
                                      device_to.data(), device_sizes.data(), count, s);
  });
}

void block_copy_memcpy(benchmark::State& state) {
  const copy_set set = make_copy_set(state);
  measure(state, set.bytes, [&](cudaStream_t s) {
    cudaError_t error = cudaSuccess;
    set.for_each_segment([&](std::byte* source, std::byte* destination, std::size_t n) {
      const cudaError_t e = cudaMemcpyAsync(destination, source, n, cudaMemcpyDeviceToDevice, s);
      if (e != cudaSuccess) error = e;
    });
    return error;
  });
}

void copy_sets(benchmark::internal::Benchmark* b) {
  b->ArgNames({"planes", "heads", "bytes_per_token", "copies", "whole"});
  b->Args({160, 1, 2048, 1, 1});   // one block: latency
  b->Args({160, 1, 2048, 64, 1});  // 320 MiB
  b->Args({160, 1, 2048, 64, 0});
  b->Args({160, 8, 256, 64, 1});
  b->Args({160, 8, 256, 64, 0});
  b->Args({61, 1, 656, 512, 1});  // 312 MiB
  b->Args({61, 1, 656, 512, 0});
  b->UseManualTime();
}
BENCHMARK(block_copy_kernel)->Apply(copy_sets);
BENCHMARK(block_copy_cub)->Apply(copy_sets);
BENCHMARK(block_copy_memcpy)->Apply(copy_sets);

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
    ->UseManualTime();

void logits_topk(benchmark::State& state) {
  const auto rows = static_cast<std::uint32_t>(state.range(0));
  constexpr std::uint32_t k = 64;
  bench_memory<float> batch(std::size_t{rows} * vocabulary), values(std::size_t{rows} * k),
      sums(rows);
  bench_memory<std::int32_t> ids(std::size_t{rows} * k);
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> content(batch.size());
  for (float& f : content) f = normal(random);
  batch.upload(content.data(), content.size());
  const std::size_t scratch_bytes = kernels::logits_topk_scratch_bytes(rows, vocabulary, k);
  bench_memory<std::byte> scratch(std::max<std::size_t>(scratch_bytes, 1));
  kernels::logits_topk_arguments a;
  a.rows = batch.data();
  a.row_stride = a.vocabulary = vocabulary;
  a.row_count = rows;
  a.k = k;
  a.slot_count = static_cast<std::int32_t>(rows);
  a.values = values.data();
  a.ids = ids.data();
  a.log_sum_exp = sums.data();
  a.scratch = scratch.data();
  a.scratch_bytes = scratch_bytes;
  measure(state, static_cast<double>(batch.size()) * sizeof(float),
          [&](cudaStream_t s) { return kernels::logits_topk(s, a); });
}
BENCHMARK(logits_topk)->ArgName("rows")->Arg(1)->Arg(16)->Arg(512)->UseManualTime();

}  // namespace
}  // namespace radixkv::bench

int main(int argc, char** argv) {
  cudaDeviceProp properties{};
  const cudaError_t error = cudaGetDeviceProperties(&properties, 0);
  if (error != cudaSuccess || std::string_view(properties.name).starts_with("cudasim")) {
    // Times on the simulator say nothing about a GPU.
    std::fprintf(stderr, "kernels_bench: no GPU (%s)\n",
                 error != cudaSuccess ? cudaGetErrorString(error) : properties.name);
    return 1;
  }
  benchmark::AddCustomContext("device", properties.name);
  benchmark::AddCustomContext("radixkv_build_type", RADIXKV_BUILD_TYPE);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("copy_bandwidth_GB/s",
                              std::to_string(radixkv::bench::copy_bandwidth() / 1e9));
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
