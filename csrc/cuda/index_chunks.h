// Cuts an index delta into pieces that fit a staging slot, as arguments of the update kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "csrc/cuda/index_mirror.h"
#include "kernels/index_update.h"

namespace radixkv::detail {

// How much of a delta has been staged.
struct delta_cursor {
  std::size_t blocks = 0;
  std::size_t groups = 0;
  std::size_t tokens = 0;  // token blocks

  [[nodiscard]] bool done(const index_delta& d) const noexcept {
    return blocks == d.block_slots.size() && groups == d.group_slots.size() &&
           tokens == d.token_blocks.size();
  }
};

// The least slot that every chunk makes progress in.
[[nodiscard]] constexpr std::size_t least_slot_bytes(std::uint32_t block_tokens) {
  return 1024 + std::size_t{block_tokens} * 4;
}

// A slot that holds the whole delta.
[[nodiscard]] std::size_t whole_slot_bytes(const index_delta& delta);

// Writes as much of the delta from the cursor on as fits into `slot`, and advances the cursor.
// Gives the update of `table` by what was written, whose arrays lie in the slot. REQUIRES:
// slot.size() ≥ least_slot_bytes or whole_slot_bytes(delta), slot 128-byte aligned.
[[nodiscard]] kernels::index_update_arguments fill_chunk(const index_delta& delta,
                                                         const kernels::prefix_table& table,
                                                         delta_cursor& cursor,
                                                         std::span<std::byte> slot);

}  // namespace radixkv::detail
