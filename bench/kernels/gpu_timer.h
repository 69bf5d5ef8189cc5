// Times of work on a GPU: CUDA events around it on one stream, and shares of what a large
// device-to-device copy reaches in the same run.
#pragma once

#include <algorithm>
#include <cstddef>

#include <benchmark/benchmark.h>

#include "bench/kernels/bench_memory.h"

namespace radixkv::bench {

// Reads more than any GPU's L2 holds, so that what follows begins with none of its data there.
void flush_l2(cudaStream_t stream);

// Bytes read and written per second by one large copy: what every share refers to.
double copy_bandwidth();

class gpu_timer {
 public:
  gpu_timer() {
    require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
    require(cudaEventCreate(&begin_), "event");
    require(cudaEventCreate(&end_), "event");
  }
  ~gpu_timer() {
    (void)cudaEventDestroy(begin_);
    (void)cudaEventDestroy(end_);
    (void)cudaStreamDestroy(stream_);
  }
  gpu_timer(const gpu_timer&) = delete;
  gpu_timer& operator=(const gpu_timer&) = delete;

  // Seconds that what `enqueue(stream)` enqueues takes the device, from a cold L2. The flush runs
  // long enough for the host to have enqueued all of it: the host's time is not in the figure
  // unless that is hundreds of calls.
  template <class Enqueue>
  double seconds(Enqueue enqueue) {
    flush_l2(stream_);
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

// Runs `enqueue(stream)` once per iteration and reports the median time, and the bandwidth and the
// share of the copy that it means. `bytes`: read and written ones.
template <class Enqueue>
void measure(benchmark::State& state, double bytes, Enqueue enqueue) {
  gpu_timer clock;
  clock.seconds(enqueue);
  std::vector<double> times;
  for (auto _ : state) {
    times.push_back(clock.seconds(enqueue));
    state.SetIterationTime(times.back());
  }
  if (times.empty()) return;  // skipped for an error
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  const double median = times[times.size() / 2];
  state.counters["median_us"] = median * 1e6;
  state.counters["GB/s"] = bytes / median / 1e9;
  state.counters["share_of_copy"] = bytes / median / copy_bandwidth();
}

}  // namespace radixkv::bench
