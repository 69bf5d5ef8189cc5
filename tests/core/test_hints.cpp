// What callers say about requests to come, through the façade: announcements, expected returns;
// what is refused.
#include <limits>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"
#include "tests/core/hints_fixture.h"

namespace radixkv::testing {
namespace {

class hints : public hints_fixture {};

TEST_P(hints, announced_prefixes_are_evicted_last_the_latest_first) {
  const auto a = counting(0, 16), b = counting(100, 16);
  published(a).release();
  published(b).release();
  sequence s = published(counting(200, 16));
  ASSERT_TRUE(s.set_priority(0, 16, 100).ok());
  s.release();
  announcement first = cache_->announce(then(a, 900, 4)).value();
  announcement second = cache_->announce(then(b, 900, 4)).value();
  EXPECT_EQ(first.held_tokens(), 16);
  flood();
  EXPECT_EQ(cached(a), 16);
  EXPECT_EQ(cached(b), 16);
  EXPECT_EQ(cache_->statistics().announcements, 2);
  cache_->evict(cache_->statistics().blocks_cached - 8);
  EXPECT_EQ(cached(counting(200, 16)), 0) << "above every priority";
  EXPECT_EQ(cached(a), 16);
  EXPECT_EQ(cached(b), 16);
  cache_->evict(4);
  EXPECT_EQ(cached(a), 16);
  EXPECT_EQ(cached(b), 0);
  EXPECT_EQ(second.held_tokens(), 0);
}

TEST_P(hints, announcements_end_with_opening_and_with_withdrawal) {
  const auto a = counting(0, 16), b = counting(100, 16), c = counting(200, 16);
  for (const auto* t : {&a, &b, &c}) published(*t).release();
  announcement x = cache_->announce(a).value();
  announcement y = cache_->announce(b).value();
  announcement z = cache_->announce(c).value();
  step_plan plan;
  // A refused request goes on waiting.
  sequence big = open(counting(5000, 112));
  announcement too_long = cache_->announce(counting(6000, 156)).value();
  EXPECT_FALSE(cache_->open(counting(6000, 156), {}, plan, too_long).ok());
  EXPECT_FALSE(too_long.withdrawn());
  EXPECT_EQ(cache_->statistics().announcements, 4);
  big.release();
  too_long.withdraw();
  EXPECT_TRUE(cache_->open(a, {}, plan, x).ok());
  EXPECT_TRUE(x.withdrawn());
  const open_request batch[] = {{b, {}, &y}};
  EXPECT_EQ(cache_->open_batch(batch, plan).sequences.size(), 1u);
  EXPECT_TRUE(y.withdrawn());
  { const announcement gone = std::move(z); }
  EXPECT_TRUE(z.withdrawn());
  EXPECT_EQ(cache_->statistics().announcements, 0);
  sequence s = published(counting(300, 16));
  ASSERT_TRUE(s.set_priority(0, 16, 1).ok());
  s.release();
  cache_->evict(cache_->statistics().blocks_cached - 4);
  EXPECT_EQ(cached(counting(300, 16)), 16);
  EXPECT_EQ(cached(a), 0);
  EXPECT_EQ(cached(b), 0);
  EXPECT_EQ(cached(c), 0);
  // An announcement of nothing is no error; one of another cache is.
  announcement nothing;
  EXPECT_TRUE(cache_->open(a, {}, plan, nothing).ok());
  kv_cache other = kv_cache::create(options_).value();
  announcement strange = other.announce(a).value();
  EXPECT_EQ(cache_->open(a, {}, plan, strange).error().code, errc::invalid_argument);
  EXPECT_FALSE(strange.withdrawn());
}

TEST_P(hints, what_is_published_of_an_announced_path_is_held_generated_tokens_too) {
  options_.blocks = 400;
  make();
  // Announced while the turn before it is still being generated.
  const auto prompt = counting(0, 200);
  const auto next = then(prompt, 200, 400);
  step_plan plan;
  sequence s = open(prompt);
  announcement waiting = cache_->announce(next).value();
  for (token_id t = 200; t < 520; ++t) {
    ASSERT_TRUE(s.reserve(1, plan).ok());
    ASSERT_TRUE(s.accept(std::span(&t, 1)).ok());
  }
  ASSERT_TRUE(s.commit().ok());
  EXPECT_EQ(waiting.held_tokens(), 0);
  s.release();
  EXPECT_EQ(waiting.held_tokens(), 512) << "whole pieces of 128 tokens";
  flood({}, 800);
  EXPECT_GE(cached(next), 512);
  waiting.withdraw();
  flood({}, 800);
  EXPECT_LT(cached(next), 512);
}

TEST_P(hints, an_expected_return_is_held_for_its_time_and_an_ended_session_goes_first) {
  const auto tool = counting(0, 16), over = counting(100, 16), plain = counting(200, 16);
  sequence a = published(tool), b = published(over);
  ASSERT_TRUE(a.expect_return(0.9, 60).ok());
  ASSERT_TRUE(b.expect_return(0.5, 10).ok());
  ASSERT_TRUE(b.ended().ok());
  a.release();
  published(plain).release();
  b.release();
  EXPECT_EQ(cache_->evict(4), 4);
  EXPECT_EQ(cached(over), 0);
  EXPECT_EQ(cached(plain), 16);
  now_ += 30;
  flood();
  EXPECT_EQ(cached(tool), 16);
  now_ += 31;
  flood();
  EXPECT_EQ(cached(tool), 0);
}

TEST_P(hints, an_expected_return_holds_however_much_or_little_it_promises) {
  constexpr double least = std::numeric_limits<double>::denorm_min();
  const auto plain = counting(200, 16);
  for (const auto& [probability, within] :
       {std::pair(1.0, least), std::pair(1.0, 1e-310), std::pair(least, 1e9)}) {
    make();
    const auto kept = counting(0, 16), also = counting(100, 16);
    sequence a = published(kept), b = published(also);
    ASSERT_TRUE(a.expect_return(probability, within).ok());
    ASSERT_TRUE(b.set_priority(0, 16, 1).ok());
    a.release();
    b.release();
    published(plain).release();
    if (within >= 1) {
      EXPECT_EQ(cache_->evict(4), 4);
      EXPECT_EQ(cached(plain), 0) << probability << " within " << within;
      EXPECT_EQ(cached(kept), 16) << probability << " within " << within;
    }
    EXPECT_EQ(cache_->check_invariants(), "");
    EXPECT_EQ(cache_->evict(within >= 1 ? 4 : 8), within >= 1 ? 4 : 8);
    EXPECT_EQ(cached(also), 16) << "a priority is above every expectation";
    EXPECT_EQ(cached(kept), 0);
  }
}

TEST_P(hints, a_return_that_promises_less_than_the_cache_earns_is_left_to_the_policy) {
  // 4 blocks hit a second, of 40: a block earns 0.1 hits a second.
  const auto busy = counting(0, 16);
  published(busy).release();
  for (int i = 0; i < 100; ++i) {
    now_ += 1;
    published(busy).release();
  }
  const auto slow = counting(100, 16), soon = counting(200, 16);
  sequence a = published(slow), b = published(soon);
  ASSERT_TRUE(a.expect_return(1, 1000).ok());
  EXPECT_EQ(cache_->statistics().sequence_hints, 0);
  // An even chance takes its block for three quarters of the time, 0.5 / 12 hits a second; a
  // certain return for half of it, 1 / 8, or of a longer time 1 / 12.5.
  ASSERT_TRUE(b.expect_return(0.5, 16).ok());
  EXPECT_EQ(cache_->statistics().sequence_hints, 0);
  ASSERT_TRUE(b.expect_return(1, 16).ok());
  EXPECT_EQ(cache_->statistics().sequence_hints, 1);
  ASSERT_TRUE(b.expect_return(1, 25).ok());
  EXPECT_EQ(cache_->statistics().sequence_hints, 0);
  ASSERT_TRUE(b.expect_return(1, 2).ok());
  a.release();
  b.release();
  EXPECT_EQ(cache_->statistics().sequence_hints, 1);
  flood();
  EXPECT_EQ(cached(slow), 0);
  EXPECT_EQ(cached(soon), 16);
}

TEST_P(hints, refuses_bad_input_by_value_and_limit) {
  options_.max_announcements = 1;
  options_.max_pinned_prefixes = 1;
  options_.max_quotas = 1;
  options_.max_sequence_hints = 66;
  make();
  const auto t = counting(0, 16);
  EXPECT_TRUE(says(cache_->announce({}).error(), {"0 tokens"}));
  EXPECT_TRUE(says(cache_->announce(counting(0, 161)).error(), {"161", "160"}));
  EXPECT_TRUE(says(cache_->pin_prefix({}).error(), {"0 tokens"}));
  EXPECT_TRUE(says(cache_->set_quota("q", -1).error(), {"-1", "0"}));
  EXPECT_TRUE(says(cache_->set_quota("q", max_blocks + 1).error(), {"1073741825", "1073741824"}));
  const announcement a = cache_->announce(t).value();
  EXPECT_EQ(cache_->announce(t).error().code, errc::busy);
  EXPECT_TRUE(says(cache_->announce(t).error(), {"max_announcements", "1"}));
  const pinned_prefix p = cache_->pin_prefix(t).value();
  EXPECT_TRUE(says(cache_->pin_prefix(t).error(), {"max_pinned_prefixes", "1"}));
  ASSERT_TRUE(cache_->set_quota("q", 3).ok());
  ASSERT_TRUE(cache_->set_quota("q", 4).ok());
  EXPECT_TRUE(says(cache_->set_quota("r", 3).error(), {"max_quotas", "1"}));
  ASSERT_TRUE(cache_->set_quota("q", 0).ok());
  ASSERT_TRUE(cache_->set_quota("r", 3).ok());

  sequence s = open(t);
  EXPECT_TRUE(says(s.set_priority(-1, 1, 1).error(), {"-1", "0"}));
  EXPECT_TRUE(says(s.set_priority(0, 0, 1).error(), {"0", "1"}));
  EXPECT_TRUE(says(s.set_priority(0, 161, 1).error(), {"161", "160"}));
  EXPECT_TRUE(says(s.set_priority(0, 1, 101).error(), {"101", "100"}));
  EXPECT_TRUE(says(s.set_priority(0, 1, -101).error(), {"-101", "-100"}));
  EXPECT_TRUE(says(s.set_ttl(0).error(), {"0.0", "1e9"}));
  EXPECT_FALSE(s.set_ttl(std::numeric_limits<double>::quiet_NaN()).ok());
  EXPECT_FALSE(s.set_ttl(std::numeric_limits<double>::infinity()).ok());
  EXPECT_TRUE(says(s.expect_return(1.5, 1).error(), {"1.5", "[0, 1]"}));
  EXPECT_FALSE(s.expect_return(std::numeric_limits<double>::quiet_NaN(), 1).ok());
  EXPECT_TRUE(says(s.expect_return(0.5, -2).error(), {"-2", "1e9"}));
  EXPECT_EQ(cache_->statistics().sequence_hints, 0);
  for (int i = 0; i < 64; ++i) ASSERT_TRUE(s.set_priority(i, 1, 1).ok());
  EXPECT_TRUE(says(s.set_priority(64, 1, 1).error(), {"64"}));
  ASSERT_TRUE(s.set_priority(63, 1, 2).ok());
  ASSERT_TRUE(s.set_ttl(1).ok());
  ASSERT_TRUE(s.ended().ok());
  sequence other = open(t);
  EXPECT_EQ(other.set_ttl(1).error().code, errc::busy);
  EXPECT_TRUE(says(other.ended().error(), {"max_sequence_hints", "66"}));
  s.release();
  EXPECT_EQ(s.set_priority(0, 1, 1).error().code, errc::released);
  EXPECT_EQ(s.set_ttl(1).error().code, errc::released);
  EXPECT_EQ(s.expect_return(0.5, 1).error().code, errc::released);
  EXPECT_EQ(s.ended().error().code, errc::released);
}

TEST_P(hints, handles_outlive_the_cache) {
  announcement a = cache_->announce(counting(0, 16)).value();
  pinned_prefix p = cache_->pin_prefix(counting(0, 16)).value();
  sequence s = open(counting(0, 16));
  ASSERT_TRUE(s.ended().ok());
  cache_.reset();
  EXPECT_EQ(p.held_tokens(), 0);
  a = {};
  s.release();
}

// Those before a request with another cache's announcement are opened, as before any that fails.
TEST_P(hints, a_batch_opens_what_comes_before_a_foreign_announcement) {
  kv_cache other = kv_cache::create(options_).value();
  const auto a = counting(0, 16), b = counting(100, 16);
  announcement mine = cache_->announce(a).value();
  announcement foreign = other.announce(b).value();
  const open_request requests[] = {{a, "", &mine}, {b, "", &foreign}, {b, ""}};
  step_plan plan;
  const open_batch_result opened = cache_->open_batch(requests, plan);
  EXPECT_EQ(opened.sequences.size(), 1u);
  EXPECT_EQ(opened.stopped.code, errc::invalid_argument);
  EXPECT_TRUE(mine.withdrawn());
  EXPECT_FALSE(foreign.withdrawn());
}

INSTANTIATE_TEST_SUITE_P(policies, hints, hint_policies);

}  // namespace
}  // namespace radixkv::testing
