// Launchers given more rows, items, deltas or prompts than a grid's second dimension counts
// (65,535), or than the thread blocks of one launch take at a time, each against a plain loop.

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/batch_dedup.h"
#include "kernels/block_copy.h"
#include "kernels/index_update.h"
#include "kernels/launch.h"
#include "kernels/logits_topk.h"
#include "kernels/page_table.h"
#include "tests/cuda/cuda_test.h"

namespace radixkv::kernels {
namespace {

using radixkv::testing::device_array;
using radixkv::testing::test_stream;

// Two thirds of the rows go nowhere, which costs little; those at both sides of the limit do.
TEST(launch_counts, rows_of_top_logits) {
  constexpr std::uint32_t vocabulary = 8;
  constexpr std::size_t count = 66'000, untouched_slots = 5;
  std::mt19937 random(1);
  std::vector<float> rows(count * vocabulary);
  for (float& x : rows) x = static_cast<float>(random() % 1000);
  std::vector<std::int32_t> slots(count, -1);
  std::int32_t used = 0;
  for (std::size_t r = 0; r < count; ++r) {
    const bool near_limit = r % 65'535 < 3 || r % 65'535 > 65'532;
    if (near_limit || r % 1009 == 0 || r + 3 > count) slots[r] = used++;
  }
  const std::size_t slot_count = static_cast<std::size_t>(used) + untouched_slots;
  std::vector<float> wanted_values(slot_count, -1);
  std::vector<std::int32_t> wanted_ids(slot_count, -1);
  for (std::size_t r = 0; r < count; ++r) {
    if (slots[r] < 0) continue;
    const auto row = rows.begin() + static_cast<std::ptrdiff_t>(r * vocabulary);
    const auto best = std::max_element(row, row + vocabulary);
    wanted_values[static_cast<std::size_t>(slots[r])] = *best;
    wanted_ids[static_cast<std::size_t>(slots[r])] = static_cast<std::int32_t>(best - row);
  }
  slots[65'540] = static_cast<std::int32_t>(slot_count);  // out of range: counted
  device_array<float> device_rows(rows), values(std::vector<float>(slot_count, -1)),
      sums(slot_count);
  device_array<std::int32_t> device_slots(slots), ids(std::vector<std::int32_t>(slot_count, -1));
  device_array<std::uint32_t> rejected(std::vector<std::uint32_t>{0});
  test_stream stream;
  logits_topk_arguments a;
  a.rows = device_rows.data();
  a.row_stride = vocabulary;
  a.row_count = count;
  a.vocabulary = vocabulary;
  a.k = 1;
  a.slots = device_slots.data();
  a.slot_count = static_cast<std::int32_t>(slot_count);
  a.values = values.data();
  a.ids = ids.data();
  a.log_sum_exp = sums.data();
  a.rejected = rejected.data();
  ASSERT_EQ(logits_topk_scratch_bytes(count, vocabulary, 1), 0u);
  RADIXKV_ASSERT_CUDA(logits_topk(stream, a));
  stream.synchronize();
  EXPECT_EQ(values.download(), wanted_values);
  EXPECT_EQ(ids.download(), wanted_ids);
  EXPECT_EQ(rejected.download()[0], 1u);
}

TEST(launch_counts, items_of_a_copy) {
  constexpr std::size_t count = 70'000;
  std::vector<std::uint32_t> wanted(2 * count * 4);
  std::iota(wanted.begin(), wanted.end(), 0u);
  device_array<std::uint32_t> memory(wanted);
  std::vector<block_copy_item> items;
  for (std::size_t i = 0; i < count; ++i) {
    const auto from = static_cast<std::int32_t>(i);
    const auto to = static_cast<std::int32_t>(count + (i + 7) % count);
    items.push_back({from, to, 1});
    std::copy_n(wanted.begin() + from * 4, 4, wanted.begin() + to * 4);
  }
  device_array<block_copy_item> device_items(items);
  device_array<std::uint32_t> rejected(std::vector<std::uint32_t>{0});
  const plane p{reinterpret_cast<std::byte*>(memory.data()), 16, 0, 1, 16};
  test_stream stream;
  block_copy_planes planes;
  RADIXKV_ASSERT_CUDA(planes.set(std::span(&p, 1), 2 * count, 1));
  block_copy_arguments a;
  a.items = device_items.data();
  a.item_count = count;
  a.rejected = rejected.data();
  RADIXKV_ASSERT_CUDA(block_copy(stream, planes, a));
  stream.synchronize();
  EXPECT_EQ(memory.download(), wanted);
  // A counter on the device may say how many there are, in a launch for as many as there may be.
  std::fill(wanted.begin() + count * 4, wanted.end(), 1u);
  memory.upload(wanted);
  std::copy_n(wanted.begin(), 3 * 4, wanted.begin() + (count + 7) * 4);
  device_array<std::uint32_t> three(std::vector<std::uint32_t>{3});
  a.item_count = max_launch_count;
  a.device_item_count = three.data();
  RADIXKV_ASSERT_CUDA(block_copy(stream, planes, a));
  stream.synchronize();
  EXPECT_EQ(memory.download(), wanted);
  EXPECT_EQ(rejected.download()[0], 0u);
}

TEST(launch_counts, deltas_of_page_tables) {
  constexpr std::int32_t rows = 300'000;  // a launch takes 262,144 at a time
  std::vector<page_table_delta> deltas;
  std::vector<std::int32_t> blocks, tokens;
  for (std::int32_t r = 0; r < rows; ++r) {
    blocks.push_back(r * 3);
    tokens.push_back(1 + r % 16);
    deltas.push_back({r, 0, blocks.back(), tokens.back()});
  }
  deltas.push_back({rows, 0, 0, 0});  // out of range: counted
  device_array<page_table_delta> device_deltas(deltas);
  device_array<std::int32_t> device_blocks(rows), device_tokens(rows);
  device_array<std::uint32_t> rejected(std::vector<std::uint32_t>{0});
  test_stream stream;
  RADIXKV_ASSERT_CUDA(page_table_update(stream,
                                        {device_blocks.data(), device_tokens.data(), rows, 1, 16},
                                        device_deltas.data(), rows + 1, nullptr, rejected.data()));
  stream.synchronize();
  EXPECT_EQ(device_blocks.download(), blocks);
  EXPECT_EQ(device_tokens.download(), tokens);
  EXPECT_EQ(rejected.download()[0], 1u);
}

TEST(launch_counts, writes_of_an_index_update) {
  constexpr std::uint32_t count = 70'000, log2_slots = 18, block_tokens = 2;
  std::vector<std::uint32_t> slots(count);
  std::vector<block_entry> entries(std::size_t{1} << log2_slots),
      wanted_entries(std::size_t{1} << log2_slots);
  std::vector<group_entry> groups(count), wanted_groups(std::size_t{1} << log2_slots);
  std::vector<std::int32_t> blocks(count);
  std::vector<std::uint32_t> tokens(count * block_tokens), wanted_tokens(count * block_tokens);
  const auto as_words = [](auto& all) {
    return std::span(reinterpret_cast<std::int32_t*>(all.data()),
                     all.size() * sizeof(all[0]) / sizeof(std::int32_t));
  };
  for (const auto words : {as_words(wanted_entries), as_words(wanted_groups)}) {
    std::ranges::fill(words, -1);
  }
  entries.resize(count);
  std::iota(as_words(entries).begin(), as_words(entries).end(), 1);
  std::iota(as_words(groups).begin(), as_words(groups).end(), 2);
  std::iota(tokens.begin(), tokens.end(), 3u);
  for (std::uint32_t i = 0; i < count; ++i) {
    slots[i] = (i * 3) & ((1u << log2_slots) - 1);  // distinct: 3 is odd
    wanted_entries[slots[i]] = entries[i];
    wanted_groups[slots[i]] = groups[i];
    blocks[i] = static_cast<std::int32_t>(count - 1 - i);
    std::copy_n(&tokens[i * block_tokens], block_tokens,
                &wanted_tokens[(count - 1 - i) * block_tokens]);
  }
  device_array<std::uint32_t> device_slots(slots), device_tokens(tokens),
      kept_tokens(wanted_tokens.size());
  device_array<block_entry> device_entries(entries), kept_entries(wanted_entries.size());
  device_array<group_entry> device_groups(groups), kept_groups(wanted_groups.size());
  device_array<std::int32_t> device_blocks(blocks);
  device_array<std::uint32_t> rejected(std::vector<std::uint32_t>{0});
  kept_entries.fill(0xff);
  kept_groups.fill(0xff);
  index_update_arguments a;
  a.table.blocks = kept_entries.data();
  a.table.groups = kept_groups.data();
  a.table.tokens = kept_tokens.data();
  a.table.log2_slots = log2_slots;
  a.table.block_count = count;
  a.table.block_tokens = block_tokens;
  a.block_slots = a.group_slots = device_slots.data();
  a.block_entries = device_entries.data();
  a.group_entries = device_groups.data();
  a.block_slot_count = a.group_slot_count = a.token_block_count = count;
  a.token_blocks = device_blocks.data();
  a.tokens = device_tokens.data();
  a.rejected = rejected.data();
  test_stream stream;
  RADIXKV_ASSERT_CUDA(index_update(stream, a));
  stream.synchronize();
  auto got_entries = kept_entries.download();
  auto got_groups = kept_groups.download();
  EXPECT_TRUE(std::ranges::equal(as_words(got_entries), as_words(wanted_entries)));
  EXPECT_TRUE(std::ranges::equal(as_words(got_groups), as_words(wanted_groups)));
  EXPECT_EQ(kept_tokens.download(), wanted_tokens);
  EXPECT_EQ(rejected.download()[0], 0u);
}

// What a loop over a grid would wrap at.
TEST(launch_counts, more_than_there_are_ids_for) {
  constexpr std::uint32_t too_many = 1u << 31;
  device_array<std::int32_t> some(64);
  device_array<page_table_delta> deltas(1);
  device_array<float> floats(64), store(64);
  test_stream stream;
  const page_table_store tables{some.data(), some.data(), 1, 1, 16};
  EXPECT_EQ(page_table_update(stream, tables, deltas.data(), too_many, nullptr, nullptr),
            cudaErrorInvalidValue);
  EXPECT_EQ(page_table_dense(stream, tables, {some.data(), too_many}, some.data(), 1, 1, -1),
            cudaErrorInvalidValue);
  logits_arguments move;
  move.rows = floats.data() + 32;
  move.store = floats.data();  // before the rows, however many
  move.row_stride = move.slot_stride = 1;
  move.row_count = too_many;
  move.slot_count = 1;
  move.vocabulary = 1;
  move.slots = some.data();
  EXPECT_EQ(logits_scatter(stream, move), cudaErrorInvalidValue);
  EXPECT_EQ(logits_gather(stream, move), cudaErrorInvalidValue);
  logits_topk_arguments top;
  top.rows = floats.data();
  top.row_stride = 1;
  top.row_count = too_many;
  top.vocabulary = top.k = 1;
  top.slots = some.data();
  top.slot_count = 1;
  top.values = top.log_sum_exp = store.data();
  top.ids = some.data();
  EXPECT_EQ(logits_topk(stream, top), cudaErrorInvalidValue);
}

TEST(launch_counts, prompts_of_a_deduplication) {
  constexpr std::uint32_t count = 140'000, kinds = 50'000;  // a warp looks for 32 of so many
  std::vector<std::uint32_t> tokens(count);
  std::vector<std::int64_t> offsets(count + 1);
  std::vector<std::int32_t> representatives(count), shared(count);
  for (std::uint32_t p = 0; p < count; ++p) {
    tokens[p] = p % kinds;
    offsets[p + 1] = p + 1;
    representatives[p] = static_cast<std::int32_t>(p % kinds);
    shared[p] = p < kinds ? 0 : 1;
  }
  device_array<std::uint32_t> device_tokens(tokens);
  device_array<std::int64_t> device_offsets(offsets);
  device_array<std::int32_t> matched(std::vector<std::int32_t>(count, 0)), table(count),
      device_representatives(count), device_shared(count);
  std::size_t bytes = 0;
  RADIXKV_ASSERT_CUDA(batch_dedup_workspace_bytes(count, count, 1, bytes));
  device_array<std::byte> workspace(bytes);
  batch_dedup_arguments a;
  a.hash = make_prefix_hash_key(5, 62);
  a.block_tokens = 1;
  a.tokens = device_tokens.data();
  a.token_offsets = device_offsets.data();
  a.prompt_count = count;
  a.token_count = count;
  a.matched_blocks = matched.data();
  a.block_table = table.data();
  a.representatives = device_representatives.data();
  a.shared_blocks = device_shared.data();
  a.workspace = workspace.data();
  a.workspace_bytes = bytes;
  test_stream stream;
  RADIXKV_ASSERT_CUDA(batch_dedup(stream, a));
  stream.synchronize();
  EXPECT_EQ(device_representatives.download(), representatives);
  EXPECT_EQ(device_shared.download(), shared);
}

}  // namespace
}  // namespace radixkv::kernels
