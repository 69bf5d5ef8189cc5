// What the tests of the weak-memory mode share: accesses of a chosen order, and what many launches
// leave behind.
#pragma once
#include <set>

#include <cuda/atomic>

#include "util.cuh"

// How two threads of different blocks order what they do.
enum class By {
  Nothing,
  Fences,
  WriterFence,
  ReaderFence,
  BlockFences,
  AcqRelFences,
  ReleaseAcquire,
  BlockRelease,
  CudaAtomics,
  WeakFlag,
};

__device__ inline void fenceFor(By by, bool writer) {
  if (by == By::Fences) __threadfence();
  if (by == By::BlockFences) __threadfence_block();
  if (by == By::AcqRelFences || by == By::WeakFlag || (by == By::WriterFence && writer) ||
      (by == By::ReaderFence && !writer))
    cuda::atomic_thread_fence(cuda::memory_order_acq_rel, cuda::thread_scope_device);
}
__device__ inline void put(unsigned* to, unsigned value, By by) {
  if (by == By::ReleaseAcquire)
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
  else if (by == By::BlockRelease)
    asm volatile("st.release.cta.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
  else if (by == By::CudaAtomics)
    cuda::atomic_ref<unsigned, cuda::thread_scope_device>(*to).store(value,
                                                                     cuda::memory_order_release);
  else if (by == By::WeakFlag)
    asm volatile("st.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
  else
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}
__device__ inline unsigned get(unsigned* from, By by) {
  unsigned value;
  if (by == By::ReleaseAcquire)
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  else if (by == By::BlockRelease)
    asm volatile("ld.acquire.cta.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  else if (by == By::CudaAtomics)
    value = cuda::atomic_ref<unsigned, cuda::thread_scope_device>(*from).load(
        cuda::memory_order_acquire);
  else if (by == By::WeakFlag)
    asm volatile("ld.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  else
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}
__device__ inline void await(unsigned* flag, unsigned value, By by) {
  while (get(flag, by) != value) __nanosleep(20);
}
__device__ inline unsigned plain(const unsigned* from) {
  unsigned value;
  asm volatile("ld.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}
__device__ inline void plain(unsigned* to, unsigned value) {
  asm volatile("st.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}

constexpr int kTrials = 400;

// The set of results that trials of launch(m, out) leave in out[0 .. n): m is 1024 words of zero.
using Result = std::vector<unsigned>;
template <class F>
std::set<Result> outcomes(size_t n, F launch, int trials = kTrials) {
  std::set<Result> all;
  Dev<unsigned> m(1024), out(n);
  for (int i = 0; i < trials; ++i) {
    EX(cudaMemset(m, 0, 4096));
    EX(cudaMemset(out, 0, n * 4));
    launch(m.p, out.p);
    all.insert(out.get());
  }
  return all;
}
