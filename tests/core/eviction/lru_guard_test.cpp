// How far the guard lets the model go, by what was gained, lost and promised.
#include "csrc/core/eviction/lru_guard.h"

#include <cstdint>

#include <gtest/gtest.h>

namespace radixkv::detail {
namespace {

constexpr std::int64_t capacity = 1600;  // blocks
constexpr std::uint32_t prompt = 100;

void request(lru_guard& guard, std::uint32_t hits, std::uint32_t lru_hits, std::uint32_t promised) {
  if (guard.asks_for_promises()) guard.count_promise(lru_hits, promised);
  guard.count(prompt, hits, lru_hits);
}

// Prompts of which LRU would hit 1 %, and so does the policy.
void pass(lru_guard& guard, int hundreds) {
  for (int i = 0; i < 100 * hundreds; ++i) {
    const std::uint32_t hits = i % 100 == 0 ? prompt : 0;
    request(guard, hits, hits, hits);
  }
}

// Prompts of which LRU would hit a tenth of the blocks.
void pass_often(lru_guard& guard, int tens) {
  for (int i = 0; i < 10 * tens; ++i) {
    const std::uint32_t hits = i % 10 == 0 ? prompt : 0;
    request(guard, hits, hits, hits);
  }
}

TEST(lru_guard, stakes_nothing_where_lru_hits_little_and_nothing_is_promised) {
  lru_guard guard(capacity);
  EXPECT_TRUE(guard.asks_for_promises());
  EXPECT_EQ(guard.allowance(0), 0);
  pass(guard, 1);
  EXPECT_TRUE(guard.is_limited());
  EXPECT_LE(guard.allowance(0), 1);  // half a hit is tolerated
}

TEST(lru_guard, stakes_all_of_the_cache_where_lru_hits_more) {
  lru_guard guard(capacity);
  pass_often(guard, 2);
  EXPECT_FALSE(guard.asks_for_promises());
  EXPECT_FALSE(guard.is_limited());
  EXPECT_EQ(guard.allowance(0), capacity + 1);  // a hit is tolerated
  EXPECT_EQ(guard.allowance(capacity), 1);
  request(guard, 0, 60, 0);
  EXPECT_NEAR(static_cast<double>(guard.allowance(0)), capacity - 59, 1);
}

// The more prompts are promised beyond LRU's, the larger the stake.
TEST(lru_guard, stakes_what_is_promised_beyond_chance) {
  lru_guard guard(capacity);
  for (int i = 0; i < 4; ++i) {
    request(guard, 0, 0, prompt);
    EXPECT_EQ(guard.allowance(0), 0) << "four prompts are two standard deviations of chance";
  }
  for (int i = 0; i < 2; ++i) request(guard, 0, 0, prompt);
  EXPECT_GT(guard.allowance(0), 0);
  EXPECT_LT(guard.allowance(0), capacity);
  for (int i = 0; i < 14; ++i) request(guard, 0, 0, prompt);
  EXPECT_EQ(guard.allowance(0), capacity);
  EXPECT_FALSE(guard.is_limited());
}

// Also while nothing is promised, since LRU hits more.
TEST(lru_guard, promises_are_forgotten) {
  guard_options options;
  options.memory = 50;
  lru_guard guard(capacity, options);
  for (int i = 0; i < 30; ++i) request(guard, 0, 0, prompt);
  EXPECT_EQ(guard.allowance(0), capacity);
  pass_often(guard, 100);
  ASSERT_FALSE(guard.asks_for_promises());
  while (!guard.asks_for_promises()) guard.count(prompt, 0, 0);
  EXPECT_LT(guard.allowance(0), capacity / 2);
}

// The count of what is promised may be wrong by the margin.
TEST(lru_guard, stakes_nothing_for_promises_within_the_margin) {
  lru_guard guard(capacity);
  for (int i = 0; i < 2000; ++i) {
    const bool lru = i % 100 == 0, more = i % 500 == 0;  // a fifth more than LRU hits
    request(guard, lru ? prompt : 0, lru ? prompt : 0,
            (lru ? prompt : 0) + (more ? prompt / 5 : 0));
  }
  EXPECT_LE(guard.allowance(0), 10);  // what is tolerated of 2,000 hits
}

TEST(lru_guard, stakes_what_was_gained) {
  lru_guard guard(capacity);
  for (int i = 0; i < 100; ++i) request(guard, 0, 0, 0);
  request(guard, 40, 0, 0);
  EXPECT_EQ(guard.allowance(0), 40);
  EXPECT_EQ(guard.allowance(30), 10);
  request(guard, 0, 25, 25);
  EXPECT_NEAR(static_cast<double>(guard.allowance(0)), 15, 1);
}

// Where LRU hits little there is no caution until hits are lost; then it is as large a part of what
// it is elsewhere as is lost of what is tolerated.
TEST(lru_guard, caution_comes_back_in_proportion_to_what_is_lost) {
  guard_options options;
  lru_guard guard(capacity, options);
  pass(guard, 20);
  EXPECT_EQ(guard.octaves(), 0);
  request(guard, prompt - 5, prompt, prompt);  // of 2,100 hits 10.5 are tolerated
  EXPECT_NEAR(guard.octaves(), options.caution * 5 / 10.5, 0.01);
  pass(guard, 21);  // tolerated are 21 now
  EXPECT_NEAR(guard.octaves(), options.caution * 5 / 21, 0.01);
}

// The lifetime's: what the guard's memory has forgotten was lost all the same.
TEST(lru_guard, what_was_lost_long_ago_is_still_lost) {
  guard_options options;
  options.memory = 50;
  lru_guard guard(capacity, options);
  pass(guard, 20);
  request(guard, prompt - 5, prompt, prompt);
  pass(guard, 21);
  EXPECT_NEAR(guard.octaves(), options.caution * 5 / 21, 0.01);
}

TEST(lru_guard, follows_recency_once_more_is_lost_than_chance_explains) {
  lru_guard guard(capacity);
  for (int i = 0; i < 3 && !guard.by_recency(); ++i) {
    EXPECT_FALSE(guard.by_recency()) << i;
    request(guard, 0, prompt, 0);
  }
  EXPECT_TRUE(guard.by_recency());
}

}  // namespace
}  // namespace radixkv::detail
