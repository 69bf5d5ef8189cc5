// What every executor must do, as a typed suite: layouts × random plans, byte for byte against an
// oracle that moves single bytes in a plain vector.
//
// An executor joins by a class like host_under_test (see test_host_executor.cpp):
//     static constexpr int plans;                       random plans per layout: how patient it is
//     static constexpr std::int64_t large_stride;       block stride of the 64-bit offset test
//     explicit T(const memory_layout&);                 owns memory; throws std::runtime_error
//     void write_memory(std::uint64_t offset, std::span<const std::byte>);
//     void read_memory(std::uint64_t offset, std::span<std::byte>);
//     void open_batch(logits_type, std::int32_t rows, std::int64_t row_stride_bytes);
//     void write_batch(std::span<const std::byte>);     all rows × stride bytes
//     void read_batch(std::span<std::byte>);
//     status run(const step_plan&);                     with that batch; done when it returns
//     status run_without_batch(const step_plan&);
// and INSTANTIATE_TYPED_TEST_SUITE_P(name, executor_suite, T).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/layout.h"
#include "radixkv/step_plan.h"
#include "tests/conformance/logits_oracle.h"

namespace radixkv::conformance {

struct named_layout {
  std::string name;
  memory_layout layout;
};

// The usual layouts, and some that only an engine of its own would build.
inline std::vector<named_layout> layouts(std::int64_t blocks, std::uint32_t block_tokens) {
  layout_shape shape{.blocks = blocks,
                     .block_tokens = block_tokens,
                     .layers = 3,
                     .heads = 2,
                     .head_bytes = 16,
                     .kv = 2,
                     .scale_bytes = 0};
  std::vector<named_layout> all;
  all.push_back({"nhd", layout_nhd(shape)});
  all.push_back({"hnd", layout_hnd(shape)});
  all.push_back({"slab", layout_slab(shape)});
  all.push_back({"mla", layout_mla(shape, 41)});  // unaligned on purpose
  shape.scale_bytes = 4;
  shape.head_bytes = 24;
  all.push_back({"nhd with scales", layout_nhd(shape)});
  all.push_back({"hnd with scales", layout_hnd(shape)});
  all.push_back({"slab with scales", layout_slab(shape)});
  shape.kv = 1;
  shape.scale_bytes = 1;
  shape.head_bytes = 3;  // odd sizes
  all.push_back({"hnd of odd bytes", layout_hnd(shape)});

  memory_layout odd{.blocks = blocks, .block_tokens = block_tokens, .planes = {}};
  const std::int64_t run = std::int64_t{block_tokens} * 5;
  // Heads outermost across blocks, with gaps, at an odd offset.
  odd.planes.push_back({.offset = 7,
                        .block_stride = run + 3,
                        .inner_stride = (run + 3) * blocks + 11,
                        .inner_count = 3,
                        .bytes_per_token = 5});
  // Runs with gaps inside a block with a gap.
  odd.planes.push_back({.offset = odd.bytes() + 13,
                        .block_stride = 2 * (run + 1) + 9,
                        .inner_stride = run + 1,
                        .inner_count = 2,
                        .bytes_per_token = 5});
  all.push_back({"gaps and odd offsets", odd});

  // [block][head][K or V][token]: interleaved by run within a block.
  memory_layout woven{.blocks = blocks, .block_tokens = block_tokens, .planes = {}};
  const std::int64_t wide_run = std::int64_t{block_tokens} * 8;
  for (std::uint64_t kv = 0; kv < 2; ++kv) {
    woven.planes.push_back({.offset = kv * static_cast<std::uint64_t>(wide_run),
                            .block_stride = 2 * wide_run * 4,
                            .inner_stride = 2 * wide_run,
                            .inner_count = 4,
                            .bytes_per_token = 8});
  }
  all.push_back({"K and V woven per head", woven});
  return all;
}

inline std::vector<std::byte> random_bytes(std::size_t n, std::mt19937_64& random) {
  std::vector<std::byte> bytes(n);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

// One byte after the other, by the formula in layout.h.
inline void oracle_copy(std::vector<std::byte>& memory, const memory_layout& l,
                        const block_copy& c) {
  for (const plane_layout& p : l.planes) {
    for (std::int64_t i = 0; i < p.inner_count; ++i) {
      for (std::int64_t t = 0; t < c.tokens; ++t) {
        for (std::int64_t b = 0; b < p.bytes_per_token; ++b) {
          const auto at = [&](std::int64_t block) {
            return p.offset +
                   static_cast<std::uint64_t>(block * p.block_stride + i * p.inner_stride +
                                              t * p.bytes_per_token + b);
          };
          memory.at(at(c.destination)) = memory.at(at(c.source));
        }
      }
    }
  }
}

inline step_plan random_copies(const memory_layout& l, std::size_t count, std::mt19937_64& random) {
  step_plan plan;
  // Few blocks: chains, overwritten destinations and sources are common.
  const std::int64_t used =
      std::min<std::int64_t>(l.blocks, 3 + static_cast<std::int64_t>(random() % 9));
  while (plan.copies.size() < count) {
    const auto pick = [&] {
      return static_cast<block_id>(random() % static_cast<std::uint64_t>(used));
    };
    block_copy c{.source = pick(), .destination = pick(), .tokens = 0};
    c.tokens =
        random() % 2 ? l.block_tokens : 1 + static_cast<std::uint32_t>(random() % l.block_tokens);
    if (c.source != c.destination) plan.copies.push_back(c);
  }
  return plan;
}

template <typename T>
class executor_suite : public ::testing::Test {};

TYPED_TEST_SUITE_P(executor_suite);

TYPED_TEST_P(executor_suite, copies_move_exactly_the_bytes_of_the_plan) {
  std::mt19937_64 random(1);
  for (const std::uint32_t block_tokens : {1u, 16u, 64u}) {
    for (const named_layout& named : layouts(13, block_tokens)) {
      SCOPED_TRACE(named.name + ", block_tokens " + std::to_string(block_tokens));
      const memory_layout& l = named.layout;
      ASSERT_TRUE(l.validate().ok()) << l.validate().error().message;
      TypeParam executor(l);
      std::vector<std::byte> expected = random_bytes(l.bytes(), random);
      executor.write_memory(0, expected);
      for (int i = 0; i < TypeParam::plans; ++i) {
        const step_plan plan = random_copies(l, random() % 24, random);
        const status ran = executor.run(plan);
        ASSERT_TRUE(ran.ok()) << ran.error().message;
        for (const block_copy& c : plan.copies) oracle_copy(expected, l, c);
        std::vector<std::byte> actual(expected.size());
        executor.read_memory(0, actual);
        ASSERT_TRUE(actual == expected) << "after plan " << i;
      }
    }
  }
}

TYPED_TEST_P(executor_suite, chains_take_effect_in_order) {
  memory_layout l =
      layout_hnd({.blocks = 64, .block_tokens = 4, .layers = 2, .heads = 3, .head_bytes = 8});
  TypeParam executor(l);
  std::mt19937_64 random(2);
  std::vector<std::byte> expected = random_bytes(l.bytes(), random);
  executor.write_memory(0, expected);
  step_plan plan;
  for (block_id b = 0; b + 1 < 64; ++b) plan.copies.push_back({b, b + 1, 4});  // block 0 everywhere
  for (block_id b = 10; b < 20; ++b) plan.copies.push_back({b + 20, 5, 2});    // the last one wins
  ASSERT_TRUE(executor.run(plan).ok());
  for (const block_copy& c : plan.copies) oracle_copy(expected, l, c);
  std::vector<std::byte> actual(expected.size());
  executor.read_memory(0, actual);
  EXPECT_TRUE(actual == expected);
}

TYPED_TEST_P(executor_suite, offsets_beyond_32_bits) {
  // Few blocks far apart: the addresses pass 4 GiB while little memory is touched.
  memory_layout l{.blocks = 5, .block_tokens = 16, .planes = {}};
  l.planes.push_back({.offset = 64,
                      .block_stride = TypeParam::large_stride,
                      .inner_stride = TypeParam::large_stride / 4 + 32,
                      .inner_count = 3,
                      .bytes_per_token = 6});
  ASSERT_TRUE(l.validate().ok()) << l.validate().error().message;
  ASSERT_GT(l.bytes(), std::uint64_t{1} << 32);
  TypeParam executor(l);
  std::mt19937_64 random(3);
  const auto offset = [&](std::int64_t block, std::int64_t inner) {
    return 64 + static_cast<std::uint64_t>(block * TypeParam::large_stride +
                                           inner * l.planes[0].inner_stride);
  };
  std::vector<std::vector<std::byte>> runs;
  for (std::int64_t inner = 0; inner < 3; ++inner) {
    runs.push_back(random_bytes(96, random));
    executor.write_memory(offset(4, inner), runs.back());
  }
  step_plan plan;
  plan.copies = {{4, 1, 16}, {1, 3, 7}};
  ASSERT_TRUE(executor.run(plan).ok());
  for (std::int64_t inner = 0; inner < 3; ++inner) {
    std::vector<std::byte> actual(96);
    executor.read_memory(offset(1, inner), actual);
    EXPECT_TRUE(actual == runs[static_cast<std::size_t>(inner)]);
    executor.read_memory(offset(3, inner), actual);
    for (std::size_t b = 0; b < 96; ++b) {
      ASSERT_EQ(actual[b], b < 42 ? runs[static_cast<std::size_t>(inner)][b] : std::byte{0}) << b;
    }
  }
}

TYPED_TEST_P(executor_suite, logits_rows_are_stored_loaded_and_converted) {
  std::mt19937_64 random(4);
  for (const logits_type stored : {logits_type::fp32, logits_type::fp16, logits_type::bf16}) {
    for (const logits_type batch : {logits_type::fp32, logits_type::fp16, logits_type::bf16}) {
      for (const std::int32_t vocabulary : {1, 7, 64, 257}) {
        SCOPED_TRACE(std::to_string(static_cast<int>(stored)) + " " +
                     std::to_string(static_cast<int>(batch)) + " vocabulary " +
                     std::to_string(vocabulary));
        memory_layout l = layout_nhd({.blocks = 1, .block_tokens = 1, .head_bytes = 1});
        l.logits_rows = 6;
        l.vocabulary = vocabulary;
        l.logits = stored;
        TypeParam executor(l);
        const std::int32_t rows = 5;
        const std::int64_t element = static_cast<std::int64_t>(bytes_of(batch));
        const std::int64_t stride = (vocabulary + 3) * element;  // with a gap
        executor.open_batch(batch, rows, stride);
        const std::vector<std::byte> sent =
            interesting_logits(batch, static_cast<std::size_t>(rows * stride / element), random);
        executor.write_batch(sent);

        step_plan plan;
        using enum logits_direction;
        plan.logits = {{store, 5, 0}, {store, 0, 1}, {store, 0, 2}, {load, 5, 3},
                       {load, 0, 4},  {load, 2, 1}};  // slot 2 was never stored: zeros
        const status ran = executor.run(plan);
        ASSERT_TRUE(ran.ok()) << ran.error().message;
        std::vector<std::byte> got(sent.size());
        executor.read_batch(got);
        const auto element_at = [&](const std::vector<std::byte>& bytes, std::int64_t row,
                                    std::int64_t i) {
          return bytes.data() + row * stride + i * element;
        };
        for (std::int64_t i = 0; i < vocabulary + 3; ++i) {
          for (const auto& [row, from] : {std::pair{3, 0}, std::pair{4, 2}}) {
            if (i < vocabulary) {
              ASSERT_TRUE(
                  round_trip_ok(batch, stored, element_at(sent, from, i), element_at(got, row, i)))
                  << "row " << row << " element " << i;
            } else {  // the gap between rows stays
              ASSERT_EQ(0, std::memcmp(element_at(sent, row, i), element_at(got, row, i),
                                       static_cast<std::size_t>(element)));
            }
          }
          if (i < vocabulary) {
            for (std::int64_t b = 0; b < element; ++b) {
              ASSERT_EQ(element_at(got, 1, i)[b], std::byte{0});
            }
          }
          ASSERT_EQ(0, std::memcmp(element_at(sent, 0, i), element_at(got, 0, i),
                                   static_cast<std::size_t>(element)));
        }
      }
    }
  }
}

TYPED_TEST_P(executor_suite, a_plan_that_does_not_fit_changes_nothing) {
  memory_layout l =
      layout_nhd({.blocks = 4, .block_tokens = 8, .layers = 1, .heads = 1, .head_bytes = 4});
  l.logits_rows = 2;
  l.vocabulary = 3;
  TypeParam executor(l);
  executor.open_batch(logits_type::fp32, 2, 12);
  std::mt19937_64 random(5);
  const std::vector<std::byte> memory = random_bytes(l.bytes(), random);
  executor.write_memory(0, memory);
  const std::vector<std::byte> rows = random_bytes(24, random);
  executor.write_batch(rows);

  const block_copy good{0, 1, 8};
  using enum logits_direction;
  const std::pair<step_plan, const char*> bad[] = {
      {{{good, {4, 0, 1}}, {}}, "source 4"},
      {{{good, {-1, 0, 1}}, {}}, "source -1"},
      {{{good, {0, 4, 1}}, {}}, "destination 4"},
      {{{good, {0, 2147483647, 1}}, {}}, "destination 2147483647"},
      {{{good, {2, 2, 1}}, {}}, "destination 2"},
      {{{good, {0, 2, 0}}, {}}, "tokens 0"},
      {{{good, {0, 2, 9}}, {}}, "tokens 9"},
      {{{good, {0, 2, 0xffffffffu}}, {}}, "tokens 4294967295"},
      {{{good}, {{store, 2, 0}}}, "slot 2"},
      {{{good}, {{load, -1, 0}}}, "slot -1"},
      {{{good}, {{load, 0, -1}}}, "row -1"},
      {{{good}, {{load, 0, 0}, {load, 0, 2}}}, "row 2"},
      {{{good}, {{static_cast<logits_direction>(7), 0, 0}}}, "direction 7"},
  };
  for (const auto& [plan, what] : bad) {
    SCOPED_TRACE(what);
    const status ran = executor.run(plan);
    ASSERT_FALSE(ran.ok());
    EXPECT_EQ(ran.error().code, errc::invalid_argument);
    EXPECT_NE(ran.error().message.find(what), std::string::npos) << ran.error().message;
  }
  EXPECT_FALSE(executor.run_without_batch({{good}, {{store, 0, 0}}}).ok());
  std::vector<std::byte> actual(memory.size());
  executor.read_memory(0, actual);
  EXPECT_TRUE(actual == memory);
  std::vector<std::byte> actual_rows(rows.size());
  executor.read_batch(actual_rows);
  EXPECT_TRUE(actual_rows == rows);
  // Still in order after all that.
  EXPECT_TRUE(executor.run_without_batch({{good}, {}}).ok());
}

TYPED_TEST_P(executor_suite, an_empty_plan_is_no_work) {
  TypeParam executor(layout_nhd({.blocks = 1, .block_tokens = 1, .head_bytes = 1}));
  EXPECT_TRUE(executor.run_without_batch({}).ok());
}

REGISTER_TYPED_TEST_SUITE_P(executor_suite, copies_move_exactly_the_bytes_of_the_plan,
                            chains_take_effect_in_order, offsets_beyond_32_bits,
                            logits_rows_are_stored_loaded_and_converted,
                            a_plan_that_does_not_fit_changes_nothing, an_empty_plan_is_no_work);

}  // namespace radixkv::conformance
