// Calls of CUB's device-wide algorithms, errors as values: CUB reports some failures of the runtime
// (the current device could not be asked for) by throwing.
//
// Limit: the first call on a device asks what the device is, and CUB keeps the answer. Should
// cudaGetDevice succeed there once and fail a moment later, CUB (of CUDA 13.0) waits for that
// answer for ever, in this call's successors.
#pragma once

#include <utility>

#include <cuda_runtime.h>

namespace radixkv::kernels {

// The call's error. As with launch(), no last-error is left behind for an unrelated check.
template <class Call>
[[nodiscard]] cudaError_t cub_call(Call&& call) noexcept {
  // CUB gives the thread's last error as its own call's and takes it away: what somebody else left
  // there (a refused allocation, an event that was not done) must not fail this call.
  (void)cudaGetLastError();
  try {
    const cudaError_t error = std::forward<Call>(call)();
    if (error != cudaSuccess) (void)cudaGetLastError();
    return error;
  } catch (...) {
    // The exception names the error in its text only; the runtime remembers its own.
    const cudaError_t error = cudaGetLastError();
    return error != cudaSuccess ? error : cudaErrorUnknown;
  }
}

}  // namespace radixkv::kernels
