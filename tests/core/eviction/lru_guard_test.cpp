// How far the guard lets the model go, by what was gained and lost.
#include "csrc/core/eviction/lru_guard.h"

#include <cstdint>

#include <gtest/gtest.h>

namespace radixkv::detail {
namespace {

constexpr std::int64_t capacity = 1600;  // blocks
constexpr std::uint32_t prompt = 100;

// Prompts of which LRU would hit 1 %, and so does the policy.
void pass(lru_guard& guard, int hundreds) {
  for (int i = 0; i < 100 * hundreds; ++i) {
    const std::uint32_t hits = i % 100 == 0 ? prompt : 0;
    guard.count(prompt, hits, hits);
  }
}

TEST(lru_guard, what_was_lost_is_risked_no_more) {
  lru_guard guard(capacity);
  pass(guard, 1);
  EXPECT_EQ(guard.allowance(0), capacity);  // 0.5 hits are tolerated
  EXPECT_EQ(guard.allowance(capacity), 0);
  guard.count(prompt, 0, 60);
  EXPECT_NEAR(static_cast<double>(guard.allowance(0)), capacity - 60, 1);
}

// Where LRU hits little the model is free until hits are lost; then caution is as large a part of
// what it is elsewhere as is lost of what is tolerated.
TEST(lru_guard, caution_comes_back_in_proportion_to_what_is_lost) {
  guard_options options;
  lru_guard guard(capacity, options);
  pass(guard, 20);
  EXPECT_EQ(guard.octaves(), 0);
  guard.count(prompt, prompt - 5, prompt);  // of 2,100 hits 10.5 are tolerated
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
  guard.count(prompt, prompt - 5, prompt);
  pass(guard, 21);
  EXPECT_NEAR(guard.octaves(), options.caution * 5 / 21, 0.01);
}

TEST(lru_guard, follows_recency_once_more_is_lost_than_chance_explains) {
  lru_guard guard(capacity);
  for (int i = 0; i < 3 && !guard.by_recency(); ++i) {
    EXPECT_FALSE(guard.by_recency()) << i;
    guard.count(prompt, 0, prompt);
  }
  EXPECT_TRUE(guard.by_recency());
}

}  // namespace
}  // namespace radixkv::detail
