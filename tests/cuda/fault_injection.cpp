#include "tests/cuda/fault_injection.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>

#include <cuda_runtime_api.h>
#include <dlfcn.h>

namespace radixkv::testing {
namespace {

std::atomic<std::int64_t> calls{0};
std::atomic<std::int64_t> first_failure{-1};
std::atomic<std::int64_t> end_failure{-1};
std::atomic<const char*> failed{nullptr};
std::atomic<void (*)()> action{nullptr};

bool fails(const char* name) {
  const std::int64_t n = calls++;
  if (n < first_failure || n >= end_failure) return false;
  const char* none = nullptr;
  failed.compare_exchange_strong(none, name);
  if (void (*const act)() = action) act();
  return true;
}

template <class Function>
Function* behind(Function*, const char* name) {
  void* f = dlsym(RTLD_NEXT, name);
  if (f == nullptr) {
    std::fprintf(stderr, "no %s behind the test program\n", name);
    std::abort();
  }
  return reinterpret_cast<Function*>(f);
}

}  // namespace

void fail_cuda_calls(std::int64_t nth, std::int64_t count) {
  if (nth >= 0) failed = nullptr;
  const std::int64_t now = calls;
  first_failure = nth < 0 ? -1 : now + nth;
  end_failure = nth < 0 ? -1 : now + nth + count;
}
void fail_cuda_call(std::int64_t nth) { fail_cuda_calls(nth, 1); }
void at_cuda_failure(void (*act)()) { action = act; }
bool cuda_call_failed() { return failed != nullptr; }
const char* failed_cuda_call() { return failed; }
std::int64_t cuda_calls() { return calls; }

}  // namespace radixkv::testing

// name, error, parameters with names, names
#define RADIXKV_INTERPOSE(name, error, parameters, arguments)           \
  extern "C" cudaError_t CUDARTAPI name parameters {                    \
    if (::radixkv::testing::fails(#name)) return error;                 \
    static auto* const next = ::radixkv::testing::behind(&name, #name); \
    return next arguments;                                              \
  }

RADIXKV_INTERPOSE(cudaMalloc, cudaErrorMemoryAllocation, (void** p, size_t n), (p, n))
RADIXKV_INTERPOSE(cudaHostAlloc, cudaErrorMemoryAllocation, (void** p, size_t n, unsigned f),
                  (p, n, f))
RADIXKV_INTERPOSE(cudaEventCreateWithFlags, cudaErrorMemoryAllocation,
                  (cudaEvent_t * e, unsigned f), (e, f))
RADIXKV_INTERPOSE(cudaEventRecord, cudaErrorLaunchFailure, (cudaEvent_t e, cudaStream_t s), (e, s))
RADIXKV_INTERPOSE(cudaEventQuery, cudaErrorLaunchFailure, (cudaEvent_t e), (e))
RADIXKV_INTERPOSE(cudaEventSynchronize, cudaErrorLaunchFailure, (cudaEvent_t e), (e))
RADIXKV_INTERPOSE(cudaStreamWaitEvent, cudaErrorLaunchFailure,
                  (cudaStream_t s, cudaEvent_t e, unsigned f), (s, e, f))
RADIXKV_INTERPOSE(cudaStreamSynchronize, cudaErrorLaunchFailure, (cudaStream_t s), (s))
RADIXKV_INTERPOSE(cudaStreamIsCapturing, cudaErrorLaunchFailure,
                  (cudaStream_t s, cudaStreamCaptureStatus* c), (s, c))
RADIXKV_INTERPOSE(cudaStreamGetDevice, cudaErrorLaunchFailure, (cudaStream_t s, int* d), (s, d))
RADIXKV_INTERPOSE(cudaDeviceSynchronize, cudaErrorLaunchFailure, (), ())
RADIXKV_INTERPOSE(cudaGetDevice, cudaErrorNoDevice, (int* d), (d))
RADIXKV_INTERPOSE(cudaDeviceGetAttribute, cudaErrorNoDevice, (int* v, cudaDeviceAttr a, int d),
                  (v, a, d))
RADIXKV_INTERPOSE(cudaPointerGetAttributes, cudaErrorLaunchFailure,
                  (cudaPointerAttributes * a, const void* p), (a, p))
RADIXKV_INTERPOSE(cudaMemsetAsync, cudaErrorLaunchFailure,
                  (void* p, int v, size_t n, cudaStream_t s), (p, v, n, s))
RADIXKV_INTERPOSE(cudaMemcpyAsync, cudaErrorLaunchFailure,
                  (void* d, const void* f, size_t n, cudaMemcpyKind k, cudaStream_t s),
                  (d, f, n, k, s))
RADIXKV_INTERPOSE(cudaFuncGetAttributes, cudaErrorInvalidDeviceFunction,
                  (cudaFuncAttributes * a, const void* f), (a, f))
RADIXKV_INTERPOSE(cudaLaunchKernelExC, cudaErrorLaunchOutOfResources,
                  (const cudaLaunchConfig_t* c, const void* f, void** a), (c, f, a))
RADIXKV_INTERPOSE(cudaGraphLaunch, cudaErrorLaunchFailure, (cudaGraphExec_t g, cudaStream_t s),
                  (g, s))
