// Cuts an index delta into pieces that fit a staging slot. Plain C++.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "csrc/cuda/index_mirror.h"

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

// Where in a slot the arrays of a chunk lie, in bytes, and how long they are.
struct delta_chunk {
  std::uint32_t groups = 0, blocks = 0, token_blocks = 0;  // counts
  std::size_t group_entries = 0, block_entries = 0, tokens = 0;
  std::size_t group_slots = 0, block_slots = 0, token_block_ids = 0;
  std::size_t bytes = 0;
};

// The least slot that every chunk makes progress in.
[[nodiscard]] constexpr std::size_t least_slot_bytes(std::uint32_t block_tokens) {
  return 256 + std::size_t{block_tokens} * 4;
}

// Writes as much of the delta from the cursor on as fits into `slot`, and advances the cursor.
// REQUIRES: slot.size() ≥ least_slot_bytes, !cursor.done(delta), slot 32-byte aligned.
[[nodiscard]] delta_chunk fill_chunk(const index_delta& delta, std::uint32_t block_tokens,
                                     delta_cursor& cursor, std::span<std::byte> slot);

}  // namespace radixkv::detail
