#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/slot_map.h"

namespace radixkv {
namespace {

using tokens = std::vector<token_id>;

// Rows as a plain list in order of recency; pinned ones stay where they are in it.
struct oracle {
  struct entry {
    std::int64_t anchor;
    tokens tail;
    logits_slot slot;
    int pins;
  };
  std::vector<entry> live;                           // least recently used first
  std::vector<std::pair<logits_slot, int>> dropped;  // not findable, still pinned
  std::size_t rows;

  entry* find(std::int64_t anchor, const tokens& tail) {
    for (entry& e : live) {
      if (e.anchor == anchor && e.tail == tail) return &e;
    }
    return nullptr;
  }
  entry* at(logits_slot slot) {
    for (entry& e : live) {
      if (e.slot == slot) return &e;
    }
    return nullptr;
  }
  void use(logits_slot slot) {
    const auto it = std::find_if(live.begin(), live.end(), [&](auto& e) { return e.slot == slot; });
    std::rotate(it, it + 1, live.end());
  }
  void drop(logits_slot slot) {
    entry* e = at(slot);
    if (e->pins > 0) dropped.emplace_back(slot, e->pins);
    live.erase(live.begin() + (e - live.data()));
  }
};

void run_random(std::int32_t rows, std::uint32_t block_tokens, std::uint32_t hash_bits, int steps,
                std::uint64_t seed) {
  std::mt19937_64 random(seed);
  slot_map map = slot_map::create(rows, block_tokens, hash_bits).value();
  oracle o{{}, {}, static_cast<std::size_t>(rows)};
  for (int step = 0; step < steps; ++step) {
    const std::int64_t anchor = static_cast<std::int64_t>(random() % 9) - 3;
    tokens tail(random() % block_tokens);
    for (token_id& t : tail) t = random() % 2 ? 0 : 0xffffffffu;
    const logits_slot found = map.find(anchor, tail);
    const oracle::entry* known = o.find(anchor, tail);
    ASSERT_EQ(found, known ? known->slot : no_slot);
    const logits_slot some = o.live.empty() ? no_slot : o.live[random() % o.live.size()].slot;
    const std::uint64_t what = random() % 100;
    if (what < 45) {
      const logits_slot got = map.assign(anchor, tail);
      if (known != nullptr) {
        ASSERT_EQ(got, known->slot);
        if (known->pins == 0) o.use(got);
      } else if (o.live.size() + o.dropped.size() < o.rows) {
        ASSERT_NE(got, no_slot);
        ASSERT_EQ(o.at(got), nullptr);
        for (const auto& d : o.dropped) ASSERT_NE(d.first, got);
        o.live.push_back({anchor, tail, got, 0});
      } else {
        const auto oldest =
            std::find_if(o.live.begin(), o.live.end(), [](auto& e) { return e.pins == 0; });
        if (oldest == o.live.end()) {
          ASSERT_EQ(got, no_slot);
        } else {
          ASSERT_EQ(got, oldest->slot);
          o.live.erase(oldest);
          o.live.push_back({anchor, tail, got, 0});
        }
      }
    } else if (what < 60 && some != no_slot) {
      map.pin(some);
      ++o.at(some)->pins;
    } else if (what < 78) {
      if (!o.dropped.empty() && random() % 2) {
        auto& d = o.dropped[random() % o.dropped.size()];
        map.unpin(d.first);
        if (--d.second == 0) std::erase(o.dropped, d);
      } else if (some != no_slot && o.at(some)->pins > 0) {
        map.unpin(some);
        if (--o.at(some)->pins == 0) o.use(some);
      }
    } else if (what < 92 && some != no_slot) {
      map.touch(some);
      if (o.at(some)->pins == 0) o.use(some);
    } else if (what < 96 && some != no_slot) {
      map.drop(some);
      o.drop(some);
    } else if (what >= 98) {
      std::vector<logits_slot> slots;
      for (const auto& e : o.live) {
        if (e.anchor == anchor) slots.push_back(e.slot);
      }
      ASSERT_EQ(map.has_anchor(anchor), !slots.empty());
      ASSERT_EQ(map.drop_anchor(anchor), static_cast<std::int32_t>(slots.size()));
      for (const logits_slot s : slots) o.drop(s);
      ASSERT_FALSE(map.has_anchor(anchor));
    }
    ASSERT_EQ(map.size(), static_cast<std::int32_t>(o.live.size()));
    ASSERT_EQ(map.check(), "") << "step " << step;
  }
}

TEST(slot_map, agrees_with_a_list_over_random_operations) {
  run_random(1, 2, 64, 5000, 1);
  run_random(7, 4, 64, 60000, 2);
  run_random(40, 16, 64, 30000, 3);
}

TEST(slot_map, collisions_change_no_answer) {
  run_random(7, 4, 1, 30000, 4);
  run_random(40, 4, 2, 20000, 5);
}

TEST(slot_map, blocks_of_one_token_have_empty_tails) { run_random(5, 1, 64, 10000, 6); }

TEST(slot_map, no_rows_means_no_slots) {
  slot_map map = slot_map::create(0, 16).value();
  EXPECT_EQ(map.assign(3, {}), no_slot);
  EXPECT_EQ(map.find(3, {}), no_slot);
  EXPECT_FALSE(map.has_anchor(3));
  EXPECT_EQ(map.drop_anchor(3), 0);
  EXPECT_FALSE(map.live(0));
  EXPECT_EQ(map.check(), "");
}

TEST(slot_map, a_hundred_thousand_tails_of_one_anchor) {
  slot_map map = slot_map::create(100'000, 16).value();
  const std::size_t bytes = map.bytes();
  std::set<logits_slot> slots;
  for (token_id t = 0; t < 100'000; ++t) slots.insert(map.assign(-1, tokens{t, t ^ 1}));
  EXPECT_EQ(slots.size(), 100'000u);
  for (token_id t = 0; t < 100'000; t += 7) ASSERT_NE(map.find(-1, tokens{t, t ^ 1}), no_slot);
  EXPECT_EQ(map.find(-1, tokens{5}), no_slot);
  EXPECT_EQ(map.find(-2, tokens{5, 4}), no_slot);
  EXPECT_EQ(map.drop_anchor(-2), 0);
  EXPECT_EQ(map.drop_anchor(-1), 100'000);
  EXPECT_EQ(map.size(), 0);
  EXPECT_EQ(map.bytes(), bytes);  // all of it was there from the start
}

TEST(slot_map, refuses_sizes_out_of_range) {
  EXPECT_EQ(slot_map::create(-1, 16).error().message, "logits_rows -1 is not in [0, 2147483647]");
  EXPECT_FALSE(slot_map::create(1, 0).ok());
  EXPECT_FALSE(slot_map::create(1, max_block_tokens + 1).ok());
  EXPECT_FALSE(slot_map::create(1, 16, 0).ok());
  EXPECT_FALSE(slot_map::create(1, 16, 65).ok());
}

}  // namespace
}  // namespace radixkv
