// A cache whose callers say what they know, and whose clock stands still; for every policy.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"

namespace radixkv::testing {

inline constexpr std::uint32_t block_tokens = 4;

inline std::vector<token_id> counting(token_id first, std::size_t n) {
  std::vector<token_id> t(n);
  std::iota(t.begin(), t.end(), first);
  return t;
}

inline std::vector<token_id> then(std::vector<token_id> t, token_id first, std::size_t n) {
  const std::vector<token_id> more = counting(first, n);
  t.insert(t.end(), more.begin(), more.end());
  return t;
}

inline bool says(const error& e, std::initializer_list<const char*> parts) {
  return std::all_of(parts.begin(), parts.end(),
                     [&](const char* p) { return e.message.find(p) != std::string::npos; });
}

class hints_fixture : public ::testing::TestWithParam<const char*> {
 protected:
  explicit hints_fixture(std::int64_t blocks = 40) { options_.blocks = blocks; }
  void SetUp() override { make(); }
  void TearDown() override {
    if (cache_) {
      EXPECT_EQ(cache_->check_invariants(), "");
    }
  }

  void make() {
    options_.block_tokens = block_tokens;
    options_.min_prefix_tokens = 1;
    options_.policy = GetParam();
    options_.clock = [this] { return now_; };
    cache_.emplace(kv_cache::create(options_).value());
  }
  sequence open(std::span<const token_id> tokens, std::string_view space = {}) {
    step_plan plan;
    result<sequence> s = cache_->open(tokens, space, plan);
    EXPECT_TRUE(s.ok()) << s.error().message;
    if (!s) return {};
    EXPECT_TRUE(s->mark_filled(s->tokens()).ok());
    return std::move(*s);
  }
  sequence published(std::span<const token_id> tokens, std::string_view space = {}) {
    sequence s = open(tokens, space);
    EXPECT_TRUE(s.commit().ok());
    return s;
  }
  // Other requests' prompts, enough to take the place of everything that may go.
  void flood(std::string_view space = {}, int blocks = 60) {
    for (int i = 0; i < blocks / 4; ++i) {
      published(counting(1'000'000 + 16 * flooded_++, 16), space).release();
    }
  }
  std::int64_t cached(std::span<const token_id> tokens, std::string_view space = {}) {
    return cache_->match(tokens, space).tokens;
  }

  cache_options options_;
  double now_ = 1000;
  token_id flooded_ = 0;
  std::optional<kv_cache> cache_;
};

// The policies that hints work with: all.
inline const auto hint_policies =
    ::testing::Values("lru", "fifo", "lfu", "slru", "s3fifo", "reuse_index");

}  // namespace radixkv::testing
