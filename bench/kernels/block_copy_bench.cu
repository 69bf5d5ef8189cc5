// Times of block_copy, against cub::DeviceMemcpy::Batched and one cudaMemcpyAsync per segment.

#include <algorithm>
#include <random>

#include <cub/device/device_memcpy.cuh>

#include "bench/kernels/gpu_timer.h"
#include "kernels/block_copy.h"

namespace radixkv::bench {
namespace {

using kernels::block_copy_item;
using kernels::plane;

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
  kernels::block_copy_planes planes;
  require(planes.set(set.planes, set.blocks, set.block_tokens), "block_copy_planes::set");
  kernels::block_copy_arguments a;
  a.items = set.device_items.data();
  a.item_count = static_cast<std::uint32_t>(set.items.size());
  measure(state, set.bytes, [&](cudaStream_t s) { return kernels::block_copy(s, planes, a); });
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
  b->Args({64, 1, 2048, 1, 1});    // one block, 2 MiB: latency
  b->Args({160, 1, 2048, 1, 1});   // one block, 5 MiB
  b->Args({160, 1, 2048, 64, 1});  // 320 MiB
  b->Args({160, 1, 2048, 128, 0});
  b->Args({160, 8, 256, 64, 1});
  b->Args({160, 8, 256, 128, 0});
  b->Args({61, 1, 656, 512, 1});  // 312 MiB
  b->Args({61, 1, 656, 1024, 0});
  b->UseManualTime()->Iterations(40);
}
BENCHMARK(block_copy_kernel)->Apply(copy_sets);
BENCHMARK(block_copy_cub)->Apply(copy_sets);
BENCHMARK(block_copy_memcpy)->Apply(copy_sets);

}  // namespace
}  // namespace radixkv::bench
