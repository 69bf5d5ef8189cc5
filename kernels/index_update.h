// Applies the index mirror's slot writes to a device table.
//
// Protocol, for matching and updating to overlap: keep two tables, `front` and `back`, both empty
// at first, and the delta taken before the current one. To publish a delta:
//   1. On the update stream, wait for the event recorded after the last match that reads `back`.
//   2. Apply the delta before the current one to `back` (it went to the other table only), then the
//      current one: two launches in stream order, because both may write one slot.
//   3. Record an event, swap front and back; matches launched from now on read the new front, after
//      waiting for that event on their stream.
// Each table has tokens of its own: a block id that is used again changes nothing for a match that
// still runs on the other table. The KV memory of a freed block, though, may only be refilled after
// every match that was launched before the block's removal is complete and its result used, or a
// hit names a refilled block.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/prefix_table.h"

namespace radixkv::kernels {

// Device (or pinned) memory; entries 16-byte aligned, as are tokens when block_tokens ≥ 4. No slot
// and no block occurs twice, so the writes need no order and applying them twice does no harm.
struct index_update_arguments {
  prefix_table table;
  const std::uint32_t* block_slots = nullptr;  // may carry clears_slot
  const block_entry* block_entries = nullptr;
  std::uint32_t block_slot_count = 0;
  const std::uint32_t* group_slots = nullptr;  // may carry clears_slot
  const group_entry* group_entries = nullptr;
  std::uint32_t group_slot_count = 0;
  const std::int32_t* token_blocks = nullptr;
  const std::uint32_t* tokens = nullptr;  // block_tokens per token block
  std::uint32_t token_block_count = 0;

  // Device memory, or null: incremented for each write to a slot or block out of range, which is
  // skipped.
  std::uint32_t* rejected = nullptr;
};

// Enqueues all writes on `stream` as one launch; never synchronises, allocates nothing, may be
// captured. Errors, before anything is launched: cudaErrorInvalidValue (a null pointer with a
// count, a table out of its limits), cudaErrorMisalignedAddress. Nothing to write is success.
[[nodiscard]] cudaError_t index_update(cudaStream_t stream,
                                       const index_update_arguments& arguments);

[[nodiscard]] cudaError_t load_index_update();

}  // namespace radixkv::kernels
