// Cutting logits moves into launches: applying the batches gives what the list gives, one by one.
#include <algorithm>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "csrc/cuda/logits_batches.h"

namespace radixkv::detail {
namespace {

constexpr auto store = logits_direction::store;
constexpr auto load = logits_direction::load;

struct contents {  // what each slot and row holds
  std::map<std::int32_t, int> slots, rows;
  friend bool operator==(const contents&, const contents&) = default;

  void apply(const logits_move& m) {
    if (m.direction == store) {
      slots[m.slot] = rows[m.row];
    } else {
      rows[m.row] = slots[m.slot];
    }
  }
};

contents distinct(int n) {
  contents c;
  for (int i = 0; i < n; ++i) {
    c.slots[i] = i;
    c.rows[i] = 1000 + i;
  }
  return c;
}

std::vector<logits_move> moves_of(const logits_batch& b) {
  std::vector<logits_move> moves;
  for (std::size_t i = 0; i < b.slots.size(); ++i) {
    if (b.slots[i] == no_slot) continue;
    moves.push_back({b.direction, b.slots[i], b.first_row + static_cast<std::int32_t>(i)});
  }
  return moves;
}

TEST(logits_batches, random_lists) {
  std::mt19937 random(1);
  logits_batches batches;
  for (int round = 0; round < 5000; ++round) {
    const int n = 1 + static_cast<int>(random() % 12);
    std::vector<logits_move> list(random() % 20);
    for (logits_move& m : list) {
      m = {random() % 2 ? store : load, static_cast<logits_slot>(random() % n),
           static_cast<std::int32_t>(random() % n)};
    }
    contents one_by_one = distinct(n), batched = distinct(n);
    for (const logits_move& m : list) one_by_one.apply(m);
    const std::uint32_t max_rows = 1 + random() % 6;
    std::size_t moves = 0;
    std::map<std::uint32_t, std::vector<logits_move>> waves;
    std::uint32_t last_wave = 0;
    for (const logits_batch& b : batches.split(list, max_rows)) {
      ASSERT_LE(b.slots.size(), max_rows);
      ASSERT_NE(b.slots.front(), no_slot);
      ASSERT_NE(b.slots.back(), no_slot);
      ASSERT_GE(b.wave, last_wave);
      last_wave = b.wave;
      const std::vector<logits_move> in_batch = moves_of(b);
      ASSERT_EQ(in_batch.size(), b.moves);
      moves += b.moves;
      waves[b.wave].insert(waves[b.wave].end(), in_batch.begin(), in_batch.end());
    }
    ASSERT_EQ(moves, list.size());
    ASSERT_EQ(waves.size(), batches.waves());
    // Moves of a wave are independent: any order of them gives the same.
    for (auto& [wave, in_wave] : waves) {
      std::shuffle(in_wave.begin(), in_wave.end(), random);
      for (const logits_move& m : in_wave) batched.apply(m);
    }
    ASSERT_EQ(one_by_one, batched) << round;
  }
}

TEST(logits_batches, independent_moves_are_one_wave) {
  logits_batches batches;
  const std::vector<logits_move> list{{store, 1, 0}, {load, 2, 1}, {load, 2, 2}, {store, 3, 3}};
  const auto split = batches.split(list, 100);
  ASSERT_EQ(split.size(), 2u);
  EXPECT_EQ(batches.waves(), 1u);
  EXPECT_EQ(std::vector<logits_slot>(split[0].slots.begin(), split[0].slots.end()),
            (std::vector<logits_slot>{1, no_slot, no_slot, 3}));
  EXPECT_EQ(split[1].first_row, 1);
  EXPECT_EQ(std::vector<logits_slot>(split[1].slots.begin(), split[1].slots.end()),
            (std::vector<logits_slot>{2, 2}));
}

TEST(logits_batches, rows_far_apart_and_the_largest_ids) {
  logits_batches batches;
  constexpr std::int32_t last = 0x7fffffff;
  const std::vector<logits_move> list{{store, last, last}, {store, 0, 0}};
  const auto split = batches.split(list, 1u << 20);
  ASSERT_EQ(split.size(), 2u);
  EXPECT_EQ(split[0].first_row, 0);
  EXPECT_EQ(split[1].first_row, last);
  EXPECT_EQ(split[1].slots.size(), 1u);
  EXPECT_TRUE(batches.split({}, 1).empty());
  EXPECT_EQ(batches.waves(), 0u);
}

}  // namespace
}  // namespace radixkv::detail
