// Takes the plan of this replay from a pinned ring into device memory, for graphs that are
// replayed.
//
// Replays are numbered from 0 by the device. A slot of the ring, and the device's copy of it
// without the first 8 bytes, hold
//     u64 mark                          1 + the number of the replay that the plan is for; 0: none
//     u32 copy counts[copy_waves], padded to a multiple of 8 bytes
//     block_copy_item copies[copy_waves][copies]
//     i32 slots[logits_waves][2][logits_rows]     stores, then loads; one per row, −1: nothing
//     moves
// padded to a multiple of 16 bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/block_copy.h"

namespace radixkv::kernels {

struct plan_shape {
  std::uint32_t copies = 0;
  std::uint32_t copy_waves = 0;
  std::uint32_t logits_rows = 0;
  std::uint32_t logits_waves = 0;

  // Offsets in bytes from the start of a slot.
  [[nodiscard]] RADIXKV_HOST_DEVICE constexpr std::size_t counts_offset() const { return 8; }
  [[nodiscard]] RADIXKV_HOST_DEVICE constexpr std::size_t copies_offset(std::uint32_t wave) const {
    return counts_offset() + (std::size_t{copy_waves} * 4 + 7) / 8 * 8 +
           std::size_t{wave} * copies * sizeof(block_copy_item);
  }
  [[nodiscard]] RADIXKV_HOST_DEVICE constexpr std::size_t slots_offset(std::uint32_t wave,
                                                                       bool load) const {
    return copies_offset(copy_waves) + (std::size_t{wave} * 2 + load) * logits_rows * 4;
  }
  [[nodiscard]] RADIXKV_HOST_DEVICE constexpr std::size_t bytes() const {
    return (slots_offset(logits_waves, false) + 15) / 16 * 16;
  }
};

struct plan_fetch_arguments {
  plan_shape shape;
  const std::byte* ring = nullptr;  // pinned, 16-byte aligned: `depth` slots
  std::uint32_t depth = 0;
  std::byte* plan = nullptr;                // device, 16-byte aligned, shape.bytes(): the copy
  std::uint64_t* replays = nullptr;         // device: replays so far, 0 at first
  std::uint64_t* replays_pinned = nullptr;  // pinned: those that have read their slot, for the host
};

// Replay r, the value of `replays`: if slot r % depth is marked r + 1, copies it to `plan`;
// otherwise makes `plan` empty. Counts the replay in both cases. Launches of one ring must be
// ordered with each other. May be captured; never synchronises.
// Errors, before anything is launched: cudaErrorInvalidValue (null pointer, no depth).
[[nodiscard]] cudaError_t plan_fetch(cudaStream_t stream, const plan_fetch_arguments& arguments);

[[nodiscard]] cudaError_t load_plan_fetch();

}  // namespace radixkv::kernels
