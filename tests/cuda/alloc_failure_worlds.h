// What calls of the device index, the page tables and the top-k store are made on while memory or
// the device is refused them: small objects in use that can tell whether they still work.
#pragma once

#include <numeric>
#include <optional>
#include <vector>

#include "radixkv/cuda_index.h"
#include "radixkv/cuda_page_tables.h"
#include "radixkv/cuda_topk_cache.h"
#include "tests/cuda/executor_test.h"
#include "tests/support/alloc_failure.h"

namespace radixkv::testing {

// Moved: a copy would allocate.
template <class T>
status status_of(result<T> r) {
  return r.ok() ? status() : status(std::move(r).error());
}

inline cuda_index_options small_index_options() {
  return {.blocks = 64,
          .block_tokens = 4,
          .max_prompts = 4,
          .max_prompt_tokens = 256,
          .staging_bytes = 128 << 10,
          .matches_in_flight = 2,
          .find_shared = true};
}
inline cuda_page_tables_options small_table_options() {
  return {.rows = 4, .row_blocks = 8, .block_tokens = 4, .max_batch = 4, .slot_changes = 8};
}
inline cuda_topk_options small_topk_options() {
  return {.slots = 4, .k = 2, .vocabulary = 9, .max_rows = 2};
}

// Blocks 7 and 8 are published, 9 below them is added, and a match is in flight.
struct index_world {
  index_world() : index(cuda_index::create(small_index_options()).value()) {
    for (const block_id b : {7, 8, 9}) {
      if (b == 9) EXPECT_TRUE(index.update(stream).ok());
      EXPECT_TRUE(index.add(b, b == 7 ? no_block : b - 1, 0, tokens_of(b)).ok());
    }
    std::vector<token_id> prompt;
    for (block_id b = 7; b < 11; ++b) {
      prompt.insert(prompt.end(), 4, static_cast<token_id>(b));
    }
    tokens.upload(prompt);
    ticket = index.match(stream, batch()).value();
  }
  static std::vector<token_id> tokens_of(block_id b) {
    return std::vector<token_id>(4, static_cast<token_id>(b));
  }
  cuda_match_batch batch() const {
    return {.tokens = tokens.data(),
            .offsets = offsets.data(),
            .prompts = 1,
            .token_count = 16,
            .matched_blocks = matched.data(),
            .block_table = table.data()};
  }
  // 10 is added unless it was, and a match finds the whole path.
  void check(bool) {
    EXPECT_EQ(index.check_invariants(), "");
    if (!index.remove(9).ok() && index.size() == 4) {
      EXPECT_TRUE(index.remove(10).ok());
      EXPECT_TRUE(index.remove(9).ok());
    }
    EXPECT_EQ(index.size(), 2);
    for (const block_id b : {9, 10}) EXPECT_TRUE(index.add(b, b - 1, 0, tokens_of(b)).ok());
    RADIXKV_ASSERT_OK(index.update(stream));
    (void)index.finish(stream, ticket);
    RADIXKV_ASSERT_OK(index.synchronize());
    const auto again = index.match(stream, batch());
    ASSERT_TRUE(again.ok()) << again.error().message;
    RADIXKV_ASSERT_OK(index.finish(stream, *again));
    RADIXKV_ASSERT_OK(index.synchronize());
    EXPECT_EQ(matched.download()[0], 4);
    EXPECT_EQ(table.download(), (std::vector<block_id>{7, 8, 9, 10}));
  }

  test_stream stream;
  device_array<token_id> tokens{16};
  device_array<std::int64_t> offsets{std::vector<std::int64_t>{0, 16}};
  device_array<std::int32_t> matched{1}, results{2};
  device_array<block_id> table{4};
  cuda_index index;
  std::uint64_t ticket = 0;
};

struct table_world {
  table_world() : tables(cuda_page_tables::create(small_table_options()).value()) {
    EXPECT_TRUE(tables.set(1, blocks, 9).ok());
    EXPECT_TRUE(tables.update(stream).ok());
  }
  // Row 1 is what it was, row 2 becomes what it may be already.
  void check(bool) {
    RADIXKV_ASSERT_OK(tables.set(2, blocks, 12));
    RADIXKV_ASSERT_OK(tables.update(stream));
    RADIXKV_ASSERT_OK(tables.dense(stream, std::vector<std::int32_t>{1, 2}, out.data(), 4, 4, -1));
    RADIXKV_ASSERT_OK(tables.synchronize());
    EXPECT_EQ(out.download(), (std::vector<std::int32_t>{5, 6, 7, -1, 5, 6, 7, -1}));
  }
  std::vector<block_id> blocks{5, 6, 7};
  std::vector<std::int32_t> rows{1};
  test_stream stream;
  device_array<std::int32_t> out{8};
  cuda_page_tables tables;
};

struct topk_world {
  topk_world() : cache(cuda_topk_cache::create(small_topk_options()).value()) {
    std::vector<float> host(4 * 9);
    std::iota(host.begin(), host.end(), 0.0f);
    rows.upload(host);
  }
  step_plan plan(std::initializer_list<logits_slot> slots) const {
    step_plan p;
    for (const logits_slot s : slots) p.logits.push_back({logits_direction::store, s, s});
    return p;
  }
  logits_rows_view view() const { return {rows.data(), 36, 4, logits_type::fp32}; }
  void check(bool) {
    RADIXKV_ASSERT_OK(cache.store(stream, plan({0, 1, 2, 3}), view()));
    RADIXKV_ASSERT_OK(cache.synchronize());
    std::vector<float> values(8);
    require_cuda(cudaMemcpy(values.data(), cache.view().values, 32, cudaMemcpyDeviceToHost));
    EXPECT_EQ(values, (std::vector<float>{8, 7, 17, 16, 26, 25, 35, 34}));
  }
  test_stream stream;
  device_array<float> rows{4 * 9};
  cuda_topk_cache cache;
};

}  // namespace radixkv::testing
