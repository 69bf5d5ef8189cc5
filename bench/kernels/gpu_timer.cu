#include "bench/kernels/gpu_timer.h"

namespace radixkv::bench {
namespace {

constexpr std::size_t flush_words = std::size_t{1} << 24;  // of 16 bytes

__global__ void read_all(const uint4* words, std::size_t count, std::uint32_t* sink) {
  std::uint32_t sum = 0;
  for (std::size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count;
       i += gridDim.x * blockDim.x) {
    const uint4 w = words[i];
    sum += w.x ^ w.y ^ w.z ^ w.w;
  }
  if (sum == 0x9e3779b9) *sink = sum;  // never, but the reads must stay
}

}  // namespace

void flush_l2(cudaStream_t stream) {
  static const bench_memory<uint4> words(flush_words);
  static const bench_memory<std::uint32_t> sink(1);
  read_all<<<1024, 256, 0, stream>>>(words.data(), words.size(), sink.data());
  require(cudaGetLastError(), "flush");
}

double copy_bandwidth() {
  static const double bandwidth = [] {
    constexpr std::size_t bytes = std::size_t{1} << 30;
    const bench_memory<std::byte> from(bytes), to(bytes);
    gpu_timer clock;
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

}  // namespace radixkv::bench
