// The one way in which kernels are loaded and launched: checked, on an explicit stream, errors as
// values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include <cuda_runtime.h>

namespace radixkv::kernels {

// Rows, items or deltas of one launch, at most: as many as there are ids for, and few enough that a
// loop which advances by a grid does not wrap.
inline constexpr std::uint32_t max_launch_count = INT32_MAX;

// Launches `kernel` on `stream` and returns the launch's own error. A refused launch leaves no
// last-error behind that a later, unrelated check would pick up; an error of earlier asynchronous
// work stays with the context, as CUDA's sticky errors do. Never synchronises; may be captured.
// `parameters`: where each of the kernel's lies, of exactly its type; read during the call.
[[nodiscard]] inline cudaError_t launch_untyped(cudaStream_t stream, const void* kernel, dim3 grid,
                                                dim3 block, std::size_t shared_bytes,
                                                void** parameters) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  const cudaError_t error = cudaLaunchKernelExC(&config, kernel, parameters);
  if (error != cudaSuccess) (void)cudaGetLastError();
  return error;
}
template <class... Parameters, class... Arguments>
[[nodiscard]] cudaError_t launch(cudaStream_t stream, void (*kernel)(Parameters...), dim3 grid,
                                 dim3 block, std::size_t shared_bytes, Arguments&&... arguments) {
  return [&](Parameters... converted) {
    void* parameters[] = {&converted...};
    return launch_untyped(stream, reinterpret_cast<const void*>(kernel), grid, block, shared_bytes,
                          parameters);
  }(std::forward<Arguments>(arguments)...);
}

// Loads kernels on the current device. A kernel that is not loaded is loaded by its first launch,
// which may wait for all work of the device (CUDA C++ Programming Guide, "Lazy Loading"): whoever
// must never wait loads first. May be called again, at the price of a look-up.
[[nodiscard]] inline cudaError_t load_untyped(const void* kernel) {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, kernel);
  if (error != cudaSuccess) (void)cudaGetLastError();
  return error;
}
template <class... Parameters>
[[nodiscard]] cudaError_t load(void (*kernel)(Parameters...)) {
  return load_untyped(reinterpret_cast<const void*>(kernel));
}
template <class First, class... Others>
[[nodiscard]] cudaError_t load(First first, Others... others) {
  const cudaError_t error = load(first);
  return error == cudaSuccess ? load(others...) : error;
}

}  // namespace radixkv::kernels
