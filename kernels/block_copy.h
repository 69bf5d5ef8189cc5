// Copies KV blocks, whole or their first tokens, in all planes, in one launch.
#pragma once

#include <cstddef>
#include <cstdint>

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

struct block_copy_arguments {
  const plane* planes = nullptr;  // host memory, read during the call; `plane_count` of them
  // The same planes in device memory: used, and needed, only above max_parameter_planes.
  const plane* device_planes = nullptr;
  std::uint32_t plane_count = 0;

  std::int32_t block_count = 0;    // block ids are 0 … block_count - 1
  std::uint32_t block_tokens = 0;  // tokens of a whole block

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
// Errors, before anything is launched: cudaErrorInvalidValue (null pointer, no block, 2³¹ items or
// more, more than 524,280 planes, a plane with no segment, no bytes or a segment of 2³⁰ bytes or
// more), cudaErrorMisalignedAddress (items, counters or device planes). Nothing to copy is success.
[[nodiscard]] cudaError_t block_copy(cudaStream_t stream, const block_copy_arguments& arguments);

// Loads what block_copy launches for so many planes on the current device, so that its launches
// never wait; see kernels/launch.h. The same for the other kernels' load functions.
[[nodiscard]] cudaError_t load_block_copy(std::uint32_t plane_count);

}  // namespace radixkv::kernels
