#include "csrc/cuda/device_memory.h"

#include <cstring>

namespace radixkv::detail {

error device_error(const std::string& what, cudaError_t code) {
  (void)cudaGetLastError();
  const errc kind = code == cudaErrorMemoryAllocation ? errc::out_of_memory : errc::device;
  return {kind, what + ": " + cudaGetErrorString(code) + " (" + cudaGetErrorName(code) + ")"};
}

result<device_buffer> allocate_device(const std::string& what, std::uint64_t bytes) {
  if (bytes == 0) return device_buffer{};
  void* p = nullptr;
  const std::string text = what + " of " + std::to_string(bytes) + " bytes";
  if (const cudaError_t e = cudaMalloc(&p, bytes); e != cudaSuccess) {
    return device_error("device memory for " + text, e);
  }
  device_buffer owner(static_cast<std::byte*>(p));
  if (const cudaError_t e = cudaMemsetAsync(p, 0, bytes, cudaStreamLegacy); e != cudaSuccess) {
    return device_error("clearing " + text, e);
  }
  return owner;
}

result<pinned_buffer> allocate_pinned(const std::string& what, std::uint64_t bytes) {
  if (bytes == 0) return pinned_buffer{};
  void* p = nullptr;
  if (const cudaError_t e = cudaHostAlloc(&p, bytes, cudaHostAllocPortable | cudaHostAllocMapped);
      e != cudaSuccess) {
    return device_error("pinned memory for " + what + " of " + std::to_string(bytes) + " bytes", e);
  }
  std::memset(p, 0, bytes);
  return pinned_buffer(static_cast<std::byte*>(p));
}

status refuse_capture(cudaStream_t stream, const char* instead) {
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  if (const cudaError_t e = cudaStreamIsCapturing(stream, &capturing); e != cudaSuccess) {
    return device_error("looking at the stream", e);
  }
  if (capturing == cudaStreamCaptureStatusNone) return {};
  return {errc::invalid_argument, std::string("the stream is being captured: ") + instead};
}

status device_event::create() {
  if (const cudaError_t e = cudaEventCreateWithFlags(&event_, cudaEventDisableTiming);
      e != cudaSuccess) {
    event_ = nullptr;
    return device_error("creating an event", e);
  }
  return {};
}

}  // namespace radixkv::detail
