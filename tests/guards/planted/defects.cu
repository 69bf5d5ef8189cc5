// Planted defects of kernels, one per check of the simulator: `planted_cuda_defects NAME`.
#include <cstdio>
#include <cstring>

#include <cuda_runtime.h>

namespace {

__global__ void write_past_end(int* values, int n) { values[n + threadIdx.x] = 1; }

__global__ void sum_without_barrier(int* out) {
  __shared__ int values[64];
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  out[threadIdx.x] = values[63 - threadIdx.x];  // of the other warp, no __syncthreads between
}

__global__ void copy_all(const int* from, int* to) { to[threadIdx.x] = from[threadIdx.x]; }

int check(cudaError_t error) {
  if (error == cudaSuccess) return 0;
  std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(error));
  return 3;
}

int run(const char* name, int* a, int* b) {
  if (std::strcmp(name, "overflow") == 0) {
    write_past_end<<<1, 32>>>(a, 64);
  } else if (std::strcmp(name, "race") == 0) {
    sum_without_barrier<<<1, 64>>>(a);
  } else if (std::strcmp(name, "uninitialised") == 0) {
    copy_all<<<1, 64>>>(a, b);
  } else if (std::strcmp(name, "leak") != 0) {
    std::fprintf(stderr, "no defect called '%s'\n", name);
    return 2;
  }
  return check(cudaDeviceSynchronize());
}

}  // namespace

int main(int argc, char** argv) {
  const char* name = argc > 1 ? argv[1] : "";
  int* a = nullptr;
  int* b = nullptr;
  if (check(cudaMalloc(&a, 64 * sizeof(int))) != 0) return 3;
  if (check(cudaMalloc(&b, 64 * sizeof(int))) != 0) return 3;
  const int code = run(name, a, b);
  cudaFree(b);
  if (std::strcmp(name, "leak") != 0) cudaFree(a);
  std::printf("%s ran to its end\n", name);
  return code;
}
