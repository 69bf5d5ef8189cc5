// A planted traffic case: a kernel that reads its input 32 elements apart. The check of the figures
// must refuse it (tests/guards/check_traffic.py).
#include <cuda_runtime.h>

#include "bench/kernels/traffic_case.h"

namespace radixkv::bench {
namespace {

constexpr int rows = 32, columns = 1024;

// As a transpose reads when written without shared memory.
__global__ void planted_uncoalesced_kernel(const float* from, float* to) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  to[i] = from[(i % columns) * rows + i / columns];
}

traffic_result run_planted() {
  traffic_result result;
  result.bytes_minimal = 2.0 * rows * columns * sizeof(float);
  float* memory = nullptr;
  if (cudaMalloc(&memory, 2 * rows * columns * sizeof(float)) != cudaSuccess) {
    result.error = "cudaMalloc failed";
    return result;
  }
  cudaMemset(memory, 0, rows * columns * sizeof(float));
  planted_uncoalesced_kernel<<<rows * columns / 256, 256>>>(memory, memory + rows * columns);
  if (const cudaError_t error = cudaDeviceSynchronize(); error != cudaSuccess) {
    result.error = cudaGetErrorString(error);
  }
  cudaFree(memory);
  return result;
}

const traffic_registrar cases([](std::vector<traffic_case>& all) {
  all.push_back({"block_copy", "planted", "planted_uncoalesced_kernel", run_planted});
});

}  // namespace
}  // namespace radixkv::bench
