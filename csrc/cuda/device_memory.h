// Owners of what the CUDA runtime hands out, and its errors as values.
//
// 1. Every owner is move-only, frees what it holds exactly once and is empty after a failure.
// 2. Errors of frees are dropped: only a fault reported elsewhere makes one fail.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <cuda_runtime_api.h>

#include "radixkv/result.h"

namespace radixkv::detail {

// "what of: the runtime's text (its name)", as errc::out_of_memory for cudaErrorMemoryAllocation
// and errc::device otherwise; "CUDA error" if there is no host memory for more. Takes the runtime's
// last error back, so that no later check meets it.
[[nodiscard]] error device_error(std::string_view what, cudaError_t code,
                                 std::string_view of = {}) noexcept;

// A call that failed, before its text is built, which comes last. `what` lives for ever;
// cudaSuccess: nothing failed.
struct device_failure {
  const char* what = nullptr;
  cudaError_t code = cudaSuccess;
};

struct device_free {
  void operator()(void* p) const noexcept { (void)cudaFree(p); }
};
struct pinned_free {
  void operator()(void* p) const noexcept { (void)cudaFreeHost(p); }
};
using device_buffer = std::unique_ptr<std::byte[], device_free>;
using pinned_buffer = std::unique_ptr<std::byte[], pinned_free>;

// Device memory, zeroed by work on the legacy default stream: synchronise before it is used. `what`
// names the buffer in the error. bytes 0 gives an empty buffer.
[[nodiscard]] result<device_buffer> allocate_device(const std::string& what, std::uint64_t bytes);
// Pinned host memory that kernels may read and write at the same address, zeroed.
[[nodiscard]] result<pinned_buffer> allocate_pinned(const std::string& what, std::uint64_t bytes);

// Errors unless `memory` … `memory + bytes` can be used by kernels of `device`; `what` names it.
[[nodiscard]] status check_device_memory(const std::string& what, const void* memory,
                                         std::uint64_t bytes, int device);

// Whether kernels of `device` read any host memory.
[[nodiscard]] result<bool> reads_pageable_memory(int device);

// An event without timing. Before it was recorded it counts as done.
class device_event {
 public:
  device_event() noexcept = default;
  device_event(device_event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  device_event& operator=(device_event&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  ~device_event() {
    if (event_ != nullptr) (void)cudaEventDestroy(event_);
  }
  [[nodiscard]] status create();
  [[nodiscard]] cudaEvent_t get() const noexcept { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// Makes `device` current for a scope.
class device_scope {
 public:
  explicit device_scope(int device) noexcept {
    error_ = cudaGetDevice(&before_);
    if (error_ == cudaSuccess && before_ != device) {
      error_ = cudaSetDevice(device);
      changed_ = error_ == cudaSuccess;
    }
  }
  device_scope(const device_scope&) = delete;
  device_scope& operator=(const device_scope&) = delete;
  ~device_scope() {
    if (changed_) (void)cudaSetDevice(before_);
  }
  [[nodiscard]] cudaError_t error() const noexcept { return error_; }

 private:
  int before_ = 0;
  bool changed_ = false;
  cudaError_t error_ = cudaSuccess;
};

// invalid_argument, naming what to do `instead`, if the stream is being captured.
[[nodiscard]] status refuse_capture(cudaStream_t stream, const char* instead);
// invalid_argument if the stream is another device's: its work could not be followed by events of
// `device`. Default streams are those of the current device. REQUIRES: the stream is not being
// captured; CUDA would invalidate the capture.
[[nodiscard]] status check_stream(cudaStream_t stream, int device);

// Lets a scope query events while another stream of the process is being captured in global mode:
// the queries have nothing to do with that capture, but would invalidate it.
class relaxed_capture_scope {
 public:
  relaxed_capture_scope() noexcept {
    exchanged_ = cudaThreadExchangeStreamCaptureMode(&mode_) == cudaSuccess;
  }
  relaxed_capture_scope(const relaxed_capture_scope&) = delete;
  relaxed_capture_scope& operator=(const relaxed_capture_scope&) = delete;
  ~relaxed_capture_scope() {
    if (exchanged_) (void)cudaThreadExchangeStreamCaptureMode(&mode_);
  }

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
  bool exchanged_ = false;
};

}  // namespace radixkv::detail
