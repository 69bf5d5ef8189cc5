// What CUDA tests share: owned device memory and streams, copies to and from the host.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <cuda_runtime.h>
#include <gtest/gtest.h>

namespace radixkv::testing {

#define RADIXKV_ASSERT_CUDA(call) ASSERT_EQ(cudaSuccess, (call))
#define RADIXKV_EXPECT_CUDA(call) EXPECT_EQ(cudaSuccess, (call))

inline void require_cuda(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

// Leaves an error on the thread, as somebody else's refused call does.
inline void leave_last_error() {
  (void)cudaSetDevice(-1);
  if (cudaPeekAtLastError() == cudaSuccess) throw std::runtime_error("no last error was left");
}

class test_stream {
 public:
  test_stream() { require_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~test_stream() { (void)cudaStreamDestroy(stream_); }
  test_stream(const test_stream&) = delete;
  test_stream& operator=(const test_stream&) = delete;

  operator cudaStream_t() const { return stream_; }
  void synchronize() const { require_cuda(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

// Device memory of `size` elements. Copies synchronise.
template <class T>
class device_array {
 public:
  explicit device_array(std::size_t size) : size_(size) {
    require_cuda(
        cudaMalloc(reinterpret_cast<void**>(&data_), std::max<std::size_t>(size, 1) * sizeof(T)));
  }
  explicit device_array(std::span<const T> host) : device_array(host.size()) { upload(host); }
  explicit device_array(const std::vector<T>& host) : device_array(std::span<const T>(host)) {}
  ~device_array() { (void)cudaFree(data_); }
  device_array(const device_array&) = delete;
  device_array& operator=(const device_array&) = delete;

  T* data() const { return data_; }
  std::size_t size() const { return size_; }
  void upload(std::span<const T> host, std::size_t at = 0) {
    require_cuda(cudaMemcpy(data_ + at, host.data(), host.size_bytes(), cudaMemcpyHostToDevice));
    // A pageable upload may still be in flight when cudaMemcpy returns, and tests use streams that
    // do not wait for the default one.
    require_cuda(cudaDeviceSynchronize());
  }
  // Every byte, so that what is copied later was written, as compute-sanitizer wants it.
  void fill(int byte) {
    require_cuda(cudaMemset(data_, byte, size_ * sizeof(T)));
    require_cuda(cudaDeviceSynchronize());
  }
  std::vector<T> download() const { return download(0, size_); }
  std::vector<T> download(std::size_t at, std::size_t count) const {
    std::vector<T> host(count);
    require_cuda(cudaMemcpy(host.data(), data_ + at, count * sizeof(T), cudaMemcpyDeviceToHost));
    return host;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace radixkv::testing
