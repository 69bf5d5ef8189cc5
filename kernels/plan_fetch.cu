// One thread block: a plan is a few kilobytes, and its loads over the bus all go out together.

#include "kernels/launch.h"
#include "kernels/plan_fetch.h"

namespace radixkv::kernels {
namespace {

constexpr std::uint32_t threads = 512;

__global__ void __launch_bounds__(threads)
    plan_fetch_kernel(const __grid_constant__ plan_fetch_arguments a) {
  __shared__ std::uint64_t shared_replay;
  __shared__ bool shared_ready;
  if (threadIdx.x == 0) {
    const std::uint64_t replay = *a.replays;
    const std::byte* slot = a.ring + (replay % a.depth) * a.shape.bytes();
    shared_replay = replay;
    shared_ready = *reinterpret_cast<const volatile std::uint64_t*>(slot) == replay + 1;
    __threadfence_system();  // the plan is read after its mark
  }
  __syncthreads();
  const bool ready = shared_ready;
  // Words of host memory are read once each and must not come from a stale line: volatile.
  const auto* from = reinterpret_cast<const volatile std::uint32_t*>(
      a.ring + (shared_replay % a.depth) * a.shape.bytes());
  auto* to = reinterpret_cast<std::uint32_t*>(a.plan);
  const std::uint32_t counts = a.shape.counts_offset() / 4;

  for (std::uint32_t wave = 0; wave < a.shape.copy_waves; ++wave) {
    const std::uint32_t count = ready ? min(from[counts + wave], a.shape.copies) : 0;
    const std::uint32_t first = a.shape.copies_offset(wave) / 4;
    constexpr std::uint32_t item_words = sizeof(block_copy_item) / 4;
    for (std::uint32_t w = threadIdx.x; w < count * item_words; w += threads) {
      to[first + w] = from[first + w];
    }
    if (threadIdx.x == 0) to[counts + wave] = count;
  }
  const std::uint32_t end = a.shape.slots_offset(a.shape.logits_waves, false) / 4;
  for (std::uint32_t w = a.shape.slots_offset(0, false) / 4 + threadIdx.x; w < end; w += threads) {
    to[w] = ready ? from[w] : 0xffffffffu;
  }
  __syncthreads();  // the slot is read: the host may write it again
  if (threadIdx.x == 0) {
    *a.replays = shared_replay + 1;
    __threadfence_system();
    *reinterpret_cast<volatile std::uint64_t*>(a.replays_pinned) = shared_replay + 1;
  }
}

}  // namespace

cudaError_t plan_fetch(cudaStream_t stream, const plan_fetch_arguments& a) {
  if (a.ring == nullptr || a.depth == 0 || a.plan == nullptr || a.replays == nullptr ||
      a.replays_pinned == nullptr) {
    return cudaErrorInvalidValue;
  }
  return launch(stream, plan_fetch_kernel, dim3(1), dim3(threads), 0, a);
}

cudaError_t load_plan_fetch() { return load(plan_fetch_kernel); }

}  // namespace radixkv::kernels
