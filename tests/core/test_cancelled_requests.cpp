// Requests that open, change nothing and are released, many of them between two changes of the
// tree: what an eviction policy notes of them must find room of its own.

#include <algorithm>
#include <vector>

#include "tests/core/hints_fixture.h"

namespace radixkv::testing {
namespace {

class cancelled_requests : public hints_fixture {
 protected:
  static constexpr int prompts = 64;
  static constexpr std::size_t prompt_tokens = 2048;

  cancelled_requests() : hints_fixture(prompts * prompt_tokens / block_tokens + 1024) {}

  static std::vector<token_id> prompt(int i) {
    return counting(static_cast<token_id>(100'000 * (i + 1)), prompt_tokens);
  }
  std::int64_t cached_tokens(int i) { return cache_->match(prompt(i)).tokens; }
};

// The end of some prompt is evicted, then somebody asks for what is left of it: the runs of its
// path part there. No prompt is published meanwhile.
TEST_P(cancelled_requests, between_two_changes) {
  for (int i = 0; i < prompts; ++i) published(prompt(i));
  constexpr std::int64_t tail_blocks = 256 / block_tokens;
  std::vector<bool> asked(prompts);
  for (int step = 0; step < prompts; ++step) {
    EXPECT_EQ(cache_->evict(tail_blocks), tail_blocks);
    for (int i = 0; i < prompts; ++i) {
      const auto left = static_cast<std::size_t>(cached_tokens(i));
      if (asked[static_cast<std::size_t>(i)] || left == 0 || left == prompt_tokens) continue;
      asked[static_cast<std::size_t>(i)] = true;
      std::vector<token_id> begin = prompt(i);
      begin.resize(left);
      begin.push_back(1);
      open(begin);  // and released at once
    }
  }
  // Policies that heed requests go through all prompts, others cut the same few again and again.
  EXPECT_GE(std::count(asked.begin(), asked.end(), true), 8) << GetParam();
  EXPECT_EQ(cache_->check_invariants(), "");
  // What was noted is good for evicting everything.
  const std::int64_t rest = prompts * (prompt_tokens / block_tokens - tail_blocks);
  EXPECT_EQ(cache_->evict(rest), rest);
}

// Conversations that go on, part from what was evicted of them, and all end at once.
TEST_P(cancelled_requests, all_at_once) {
  for (int i = 0; i < prompts; ++i) published(prompt(i));
  const std::int64_t blocks = prompts * prompt_tokens / block_tokens;
  EXPECT_EQ(cache_->evict(blocks / 8), blocks / 8);
  std::vector<sequence> running;
  for (int i = 0; i < prompts; ++i) {
    std::vector<token_id> next = prompt(i);
    next.resize(prompt_tokens - 60);
    running.push_back(open(then(std::move(next), 7, 20)));
  }
  for (sequence& s : running) EXPECT_TRUE(s.commit().ok());
  running.clear();
  EXPECT_EQ(cache_->check_invariants(), "");
  EXPECT_GT(cache_->evict(2 * blocks), 0);
  EXPECT_EQ(cache_->check_invariants(), "");
}

INSTANTIATE_TEST_SUITE_P(policies, cancelled_requests,
                         ::testing::Values("lru", "fifo", "lfu", "slru", "s3fifo", "reuse_index"));

}  // namespace
}  // namespace radixkv::testing
