#include "csrc/cuda/device_memory.h"

#include <cstring>
#include <new>

namespace radixkv::detail {

error device_error(std::string_view what, cudaError_t code, std::string_view of) noexcept {
  (void)cudaGetLastError();
  const errc kind = code == cudaErrorMemoryAllocation ? errc::out_of_memory : errc::device;
  try {
    std::string text(what);
    text.append(of).append(": ").append(cudaGetErrorString(code)).append(" (");
    return {kind, text.append(cudaGetErrorName(code)).append(")")};
  } catch (const std::bad_alloc&) {
    return {kind, "CUDA error"};  // short enough to take no allocation
  }
}

result<device_buffer> allocate_device(const std::string& what, std::uint64_t bytes) {
  if (bytes == 0) return device_buffer{};
  void* p = nullptr;
  const std::string text = what + " of " + std::to_string(bytes) + " bytes";
  if (const cudaError_t e = cudaMalloc(&p, bytes); e != cudaSuccess) {
    return device_error("device memory for ", e, text);
  }
  device_buffer owner(static_cast<std::byte*>(p));
  if (const cudaError_t e = cudaMemsetAsync(p, 0, bytes, cudaStreamLegacy); e != cudaSuccess) {
    return device_error("clearing ", e, text);
  }
  return owner;
}

result<pinned_buffer> allocate_pinned(const std::string& what, std::uint64_t bytes) {
  if (bytes == 0) return pinned_buffer{};
  void* p = nullptr;
  const std::string text = what + " of " + std::to_string(bytes) + " bytes";
  if (const cudaError_t e = cudaHostAlloc(&p, bytes, cudaHostAllocPortable | cudaHostAllocMapped);
      e != cudaSuccess) {
    return device_error("pinned memory for ", e, text);
  }
  std::memset(p, 0, bytes);
  return pinned_buffer(static_cast<std::byte*>(p));
}

status check_device_memory(const std::string& what, const void* memory, std::uint64_t bytes,
                           int device) {
  const auto* first = static_cast<const std::byte*>(memory);
  for (const std::byte* p : {first, first + (bytes - 1)}) {
    cudaPointerAttributes a = {};
    if (const cudaError_t e = cudaPointerGetAttributes(&a, p); e != cudaSuccess) {
      return device_error("looking up ", e, what);
    }
    const bool foreign = a.type == cudaMemoryTypeDevice && a.device != device;
    if (a.type == cudaMemoryTypeUnregistered || foreign || a.devicePointer != p) {
      return {errc::invalid_argument,
              what + (p == first ? ": its first byte is " : ": its last byte is ") +
                  (foreign ? "memory of device " + std::to_string(a.device) + ", not "
                           : std::string("not memory of device ")) +
                  std::to_string(device)};
    }
  }
  return {};
}

status refuse_capture(cudaStream_t stream, const char* instead) {
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  if (const cudaError_t e = cudaStreamIsCapturing(stream, &capturing); e != cudaSuccess) {
    return device_error("looking at the stream", e);
  }
  if (capturing == cudaStreamCaptureStatusNone) return {};
  return {errc::invalid_argument, std::string("the stream is being captured: ") + instead};
}

status check_stream(cudaStream_t stream, int device) {
  int of = device;
  if (const cudaError_t e = cudaStreamGetDevice(stream, &of); e != cudaSuccess) {
    return device_error("looking at the stream", e);
  }
  if (of == device) return {};
  return {errc::invalid_argument,
          "a stream of device " + std::to_string(of) + ", not " + std::to_string(device)};
}

result<bool> reads_pageable_memory(int device) {
  int reads = 0;
  if (const cudaError_t e = cudaDeviceGetAttribute(&reads, cudaDevAttrPageableMemoryAccess, device);
      e != cudaSuccess) {
    return device_error("no CUDA device", e);
  }
  return reads != 0;
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
