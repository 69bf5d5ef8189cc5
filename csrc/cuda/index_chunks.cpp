#include "csrc/cuda/index_chunks.h"

#include <algorithm>
#include <cstring>

namespace radixkv::detail {

namespace {

// Of each of the arrays: their readers' warps take whole lines over the bus.
constexpr std::size_t alignment = 128;
constexpr std::size_t padding = 5 * alignment;                         // between six arrays
constexpr std::size_t group_bytes = sizeof(kernels::group_entry) + 4;  // with its slot
constexpr std::size_t block_bytes = sizeof(kernels::block_entry) + 4;

// How many elements of `bytes` each fit, and takes their room.
std::uint32_t take(std::size_t available, std::size_t bytes, std::size_t& room) {
  const std::size_t n = std::min(available, room / bytes);
  room -= n * bytes;
  return static_cast<std::uint32_t>(n);
}

// Appends an array; gives where it begins.
template <class T>
const T* put(std::span<std::byte> slot, std::size_t& at, const T* from, std::size_t count) {
  at = (at + alignment - 1) / alignment * alignment;
  std::byte* const begin = slot.data() + at;
  if (count != 0) std::memcpy(begin, from, count * sizeof(T));
  at += count * sizeof(T);
  return reinterpret_cast<const T*>(begin);
}

}  // namespace

std::size_t whole_slot_bytes(const index_delta& d) {
  return padding + d.group_slots.size() * group_bytes + d.block_slots.size() * block_bytes +
         (d.token_blocks.size() + d.tokens.size()) * sizeof(token_id);
}

kernels::index_update_arguments fill_chunk(const index_delta& d, const kernels::prefix_table& table,
                                           delta_cursor& cursor, std::span<std::byte> slot) {
  const std::size_t block_tokens = table.block_tokens;
  std::size_t room = slot.size() - padding;
  kernels::index_update_arguments a;
  a.table = table;
  a.group_slot_count = take(d.group_slots.size() - cursor.groups, group_bytes, room);
  a.block_slot_count = take(d.block_slots.size() - cursor.blocks, block_bytes, room);
  a.token_block_count = take(d.token_blocks.size() - cursor.tokens, block_tokens * 4 + 4, room);

  std::size_t at = 0;
  a.group_entries = put(slot, at, d.group_entries.data() + cursor.groups, a.group_slot_count);
  a.block_entries = put(slot, at, d.block_entries.data() + cursor.blocks, a.block_slot_count);
  a.tokens = put(slot, at, d.tokens.data() + cursor.tokens * block_tokens,
                 a.token_block_count * block_tokens);
  a.group_slots = put(slot, at, d.group_slots.data() + cursor.groups, a.group_slot_count);
  a.block_slots = put(slot, at, d.block_slots.data() + cursor.blocks, a.block_slot_count);
  a.token_blocks = put(slot, at, d.token_blocks.data() + cursor.tokens, a.token_block_count);
  cursor.groups += a.group_slot_count;
  cursor.blocks += a.block_slot_count;
  cursor.tokens += a.token_block_count;
  return a;
}

}  // namespace radixkv::detail
