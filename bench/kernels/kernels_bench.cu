// `./dev bench kernels`: times of the kernels on a GPU. Without one the program says so and fails.

#include <string>
#include <string_view>

#include "bench/kernels/gpu_timer.h"

int main(int argc, char** argv) {
  cudaDeviceProp properties{};
  const cudaError_t error = cudaGetDeviceProperties(&properties, 0);
  if (error != cudaSuccess || std::string_view(properties.name).starts_with("cudasim")) {
    // Times on the simulator say nothing about a GPU.
    std::fprintf(stderr, "kernels_bench: no GPU (%s)\n",
                 error != cudaSuccess ? cudaGetErrorString(error) : properties.name);
    return 1;
  }
  benchmark::AddCustomContext("device", properties.name);
  benchmark::AddCustomContext("radixkv_build_type", RADIXKV_BUILD_TYPE);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("copy_bandwidth_GB/s",
                              std::to_string(radixkv::bench::copy_bandwidth() / 1e9));
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
