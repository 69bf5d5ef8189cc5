// Copies KV blocks, whole or their first tokens, in all planes, in one launch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <cuda_runtime.h>

#include "kernels/address.h"

namespace radixkv::kernels {

// Copies the first `tokens` tokens of every segment of block `source` to block `destination`.
struct block_copy_item {
  std::int32_t source;
  std::int32_t destination;
  std::int32_t tokens;  // 1 … block_tokens
};

// Planes that travel in the launch's parameters; more are read from device memory.
inline constexpr std::uint32_t max_parameter_planes = 1000;

struct block_copy_arguments;

// The planes of a pool, checked, and what each launch wants to know of them, worked out once. Read
// by any number of threads; not written by launches.
class block_copy_planes {
 public:
  // Copies `planes`, one or more in host memory. Block ids are 0 … block_count − 1, `block_tokens`
  // the tokens of a whole block. device_planes: the same planes in device memory, used, and needed,
  // only above max_parameter_planes; they have to live as long as launches use them.
  // Errors, which change nothing: cudaErrorInvalidValue (no plane, more than 524,280, no block, a
  // plane without a base, with no segment, no bytes or a segment of 2³⁰ bytes or more),
  // cudaErrorMisalignedAddress (device planes). May throw std::bad_alloc.
  [[nodiscard]] cudaError_t set(std::span<const plane> planes, std::int32_t block_count,
                                std::uint32_t block_tokens, const plane* device_planes = nullptr);

  // Loads what block_copy launches for these planes on the current device, so that its launches
  // never wait; see kernels/launch.h.
  [[nodiscard]] cudaError_t load() const;

 private:
  friend cudaError_t block_copy(cudaStream_t, const block_copy_planes&,
                                const block_copy_arguments&);

  const void* kernel_ = nullptr;   // null: nothing is set
  std::vector<plane> parameters_;  // as many as the kernel's parameters hold, or none
  const plane* device_planes_ = nullptr;
  std::uint32_t plane_count_ = 0;
  std::int32_t block_count_ = 0;
  std::uint32_t block_tokens_ = 0;
  std::uint64_t tiles_ = 0;  // warp tiles of a whole block in the plane that has most
};

struct block_copy_arguments {
  // Device (or pinned) memory. The copies of one launch must be independent: no destination is the
  // source or destination of another. Chains are cut by the caller into launches in stream order.
  const block_copy_item* items = nullptr;
  std::uint32_t item_count = 0;  // how many; with device_item_count: at most how many
  // Device memory, or null. Read by the kernel, so that a captured graph can be replayed with other
  // items: min(*device_item_count, item_count) are copied.
  const std::uint32_t* device_item_count = nullptr;

  // Device memory, or null: incremented for each item that names a block or a token count out of
  // range, or one block twice. Such items copy nothing.
  std::uint32_t* rejected = nullptr;

  // Thread blocks to launch at most; they loop over items beyond that. Fewer leave room for kernels
  // that run beside this one.
  std::uint32_t max_thread_blocks = 1u << 15;
};

// Enqueues all copies on `stream` as one launch; never synchronises, allocates nothing, may be
// captured. Any base, stride and length works; accesses are 16 bytes wide except at the ends of
// segments that are not 16-byte aligned.
// Errors, before anything is launched: cudaErrorInvalidValue (planes that are not set, no items,
// 2³¹ of them or more), cudaErrorMisalignedAddress (items or counters). Nothing to copy is success.
[[nodiscard]] cudaError_t block_copy(cudaStream_t stream, const block_copy_planes& planes,
                                     const block_copy_arguments& arguments);

}  // namespace radixkv::kernels
