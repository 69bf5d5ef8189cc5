// An update's changes as they are laid out in slots of the staging ring.
#include <algorithm>
#include <functional>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/cuda/index_chunks.h"

namespace radixkv {
namespace {

// Warps that read the slot over the bus take whole lines of each array.
TEST(index_chunks, staged_arrays_begin_at_lines_of_their_own) {
  detail::index_delta delta;
  delta.block_slots = {1, 2, 3};
  delta.block_entries.resize(3);
  delta.group_slots = {4, 5, 6, 7, 8};
  delta.group_entries.resize(5);
  delta.token_blocks = {0, 1, 2, 3, 4, 5, 6};
  delta.tokens.resize(7);
  kernels::prefix_table table;
  table.block_tokens = 1;
  const std::size_t bytes = detail::whole_slot_bytes(delta);
  alignas(128) std::byte slot[2048];
  ASSERT_LE(bytes, sizeof slot);
  detail::delta_cursor cursor;
  const auto a = detail::fill_chunk(delta, table, cursor, {slot, bytes});
  EXPECT_TRUE(cursor.done(delta));
  for (const auto& [array, size] : {std::pair<const void*, std::size_t>{a.block_slots, 3 * 4},
                                    {a.block_entries, 3 * sizeof(kernels::block_entry)},
                                    {a.group_slots, 5 * 4},
                                    {a.group_entries, 5 * sizeof(kernels::group_entry)},
                                    {a.token_blocks, 7 * 4},
                                    {a.tokens, 7 * 4}}) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(array) % 128, 0u);
    EXPECT_GE(static_cast<const std::byte*>(array), slot);
    EXPECT_LE(static_cast<const std::byte*>(array) + size, slot + bytes);
  }
}

// Whatever a slot holds, down to one of each kind: all pieces lie inside of it, and add up to the
// delta.
TEST(index_chunks, pieces_add_up_to_the_delta) {
  std::mt19937 random(12);
  for (int round = 0; round < 200; ++round) {
    const std::uint32_t block_tokens = 1u << random() % 5;
    detail::index_delta delta;
    const auto fill = [&](auto& all, std::size_t count) {
      all.resize(count);
      auto* const words = reinterpret_cast<std::uint32_t*>(all.data());
      std::generate_n(words, count * sizeof(all[0]) / sizeof(*words), std::ref(random));
    };
    // One of each leaves most room between the arrays.
    const auto some = [&] { return round % 2 == 0 ? 1 : random() % 60; };
    const std::size_t blocks = some(), groups = some();
    fill(delta.block_slots, blocks);
    fill(delta.block_entries, blocks);
    fill(delta.group_slots, groups);
    fill(delta.group_entries, groups);
    fill(delta.token_blocks, some());
    fill(delta.tokens, delta.token_blocks.size() * block_tokens);
    const std::size_t smallest = 5 * 128 + sizeof(kernels::group_entry) + 4 + 4 * block_tokens;
    const std::size_t whole = std::max(detail::whole_slot_bytes(delta), smallest);
    const std::size_t bytes = round % 4 < 2 ? whole : smallest + random() % (whole - smallest + 1);
    kernels::prefix_table table;
    table.block_tokens = block_tokens;
    std::vector<std::byte> memory(bytes + 256);
    const auto begin = (reinterpret_cast<std::uintptr_t>(memory.data()) + 127) / 128 * 128;
    const std::span slot(reinterpret_cast<std::byte*>(begin), bytes);
    detail::delta_cursor cursor;
    std::vector<std::byte> got[6];
    int pieces = 0;
    for (; !cursor.done(delta); ++pieces) {
      ASSERT_LT(pieces, 1000);
      const auto a = detail::fill_chunk(delta, table, cursor, slot);
      const std::size_t rows = a.token_block_count;
      const std::pair<const void*, std::size_t> arrays[] = {
          {a.block_slots, a.block_slot_count * 4},
          {a.block_entries, a.block_slot_count * sizeof(kernels::block_entry)},
          {a.group_slots, a.group_slot_count * 4},
          {a.group_entries, a.group_slot_count * sizeof(kernels::group_entry)},
          {a.token_blocks, rows * 4},
          {a.tokens, rows * block_tokens * 4}};
      for (std::size_t i = 0; i < 6; ++i) {
        const auto* from = static_cast<const std::byte*>(arrays[i].first);
        ASSERT_GE(from, slot.data());
        ASSERT_LE(from + arrays[i].second, slot.data() + slot.size());
        got[i].insert(got[i].end(), from, from + arrays[i].second);
      }
    }
    ASSERT_TRUE(bytes < whole || pieces <= 1) << pieces << " pieces";
    const auto expect_equal = [](const auto& wanted, const std::vector<std::byte>& all) {
      EXPECT_TRUE(std::ranges::equal(std::as_bytes(std::span(wanted)), all));
    };
    expect_equal(delta.block_slots, got[0]);
    expect_equal(delta.block_entries, got[1]);
    expect_equal(delta.group_slots, got[2]);
    expect_equal(delta.group_entries, got[3]);
    expect_equal(delta.token_blocks, got[4]);
    expect_equal(delta.tokens, got[5]);
  }
}

}  // namespace
}  // namespace radixkv
