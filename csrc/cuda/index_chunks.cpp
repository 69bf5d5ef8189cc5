#include "csrc/cuda/index_chunks.h"

#include <algorithm>
#include <cstring>

namespace radixkv::detail {

namespace {

constexpr std::size_t padding = 64;  // between arrays, for the alignment of entries

// How many elements of `bytes` each fit, and takes their room.
std::uint32_t take(std::size_t available, std::size_t bytes, std::size_t& room) {
  const std::size_t n = std::min(available, room / bytes);
  room -= n * bytes;
  return static_cast<std::uint32_t>(n);
}

// Appends an array at the next multiple of `alignment`; gives where it begins.
template <class T>
std::size_t put(std::span<std::byte> slot, std::size_t& at, std::size_t alignment, const T* from,
                std::size_t count) {
  at = (at + alignment - 1) / alignment * alignment;
  const std::size_t begin = at;
  if (count != 0) std::memcpy(slot.data() + at, from, count * sizeof(T));
  at += count * sizeof(T);
  return begin;
}

}  // namespace

delta_chunk fill_chunk(const index_delta& d, std::uint32_t block_tokens, delta_cursor& cursor,
                       std::span<std::byte> slot) {
  std::size_t room = slot.size() - padding;
  delta_chunk c;
  c.groups = take(d.group_slots.size() - cursor.groups, sizeof(kernels::group_entry) + 4, room);
  c.blocks = take(d.block_slots.size() - cursor.blocks, sizeof(kernels::block_entry) + 4, room);
  c.token_blocks =
      take(d.token_blocks.size() - cursor.tokens, std::size_t{block_tokens} * 4 + 4, room);

  std::size_t at = 0;
  c.group_entries = put(slot, at, 32, d.group_entries.data() + cursor.groups, c.groups);
  c.block_entries = put(slot, at, 16, d.block_entries.data() + cursor.blocks, c.blocks);
  c.tokens = put(slot, at, 16, d.tokens.data() + cursor.tokens * block_tokens,
                 std::size_t{c.token_blocks} * block_tokens);
  c.group_slots = put(slot, at, 4, d.group_slots.data() + cursor.groups, c.groups);
  c.block_slots = put(slot, at, 4, d.block_slots.data() + cursor.blocks, c.blocks);
  c.token_block_ids = put(slot, at, 4, d.token_blocks.data() + cursor.tokens, c.token_blocks);
  c.bytes = at;
  cursor.groups += c.groups;
  cursor.blocks += c.blocks;
  cursor.tokens += c.token_blocks;
  return c;
}

}  // namespace radixkv::detail
