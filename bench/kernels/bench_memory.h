// Device memory of a benchmark. A CUDA error ends the program with a message: nothing was measured.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <cuda_runtime.h>

namespace radixkv::bench {

inline void require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

template <class T>
class bench_memory {
 public:
  explicit bench_memory(std::size_t size) : size_(size) {
    require(
        cudaMalloc(reinterpret_cast<void**>(&data_), std::max<std::size_t>(size, 1) * sizeof(T)),
        "cudaMalloc");
  }
  explicit bench_memory(const std::vector<T>& host) : bench_memory(host.size()) {
    upload(host.data(), host.size());
  }
  ~bench_memory() { (void)cudaFree(data_); }
  bench_memory(const bench_memory&) = delete;
  bench_memory& operator=(const bench_memory&) = delete;

  T* data() const { return data_; }
  std::size_t size() const { return size_; }
  void upload(const T* host, std::size_t count) {
    require(cudaMemcpy(data_, host, count * sizeof(T), cudaMemcpyHostToDevice), "upload");
    // A pageable upload may still be in flight, and streams that do not wait for the default one
    // follow.
    require(cudaDeviceSynchronize(), "upload");
  }
  std::vector<T> download() const {
    std::vector<T> host(size_);
    require(cudaMemcpy(host.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost), "download");
    return host;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace radixkv::bench
