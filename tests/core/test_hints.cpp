// What callers say about the future and about importance, through the façade.
#include <algorithm>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"

namespace radixkv {
namespace {

constexpr std::uint32_t block_tokens = 4;

std::vector<token_id> counting(token_id first, std::size_t n) {
  std::vector<token_id> t(n);
  std::iota(t.begin(), t.end(), first);
  return t;
}

std::vector<token_id> then(std::vector<token_id> t, token_id first, std::size_t n) {
  const std::vector<token_id> more = counting(first, n);
  t.insert(t.end(), more.begin(), more.end());
  return t;
}

bool says(const error& e, std::initializer_list<const char*> parts) {
  return std::all_of(parts.begin(), parts.end(),
                     [&](const char* p) { return e.message.find(p) != std::string::npos; });
}

class hints : public ::testing::TestWithParam<const char*> {
 protected:
  explicit hints(std::int64_t blocks = 40) { options_.blocks = blocks; }
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

TEST_P(hints, a_pinned_system_prompt_survives_a_flood) {
  const auto system = counting(0, 24);
  published(then(system, 500, 8)).release();
  pinned_prefix pin = cache_->pin_prefix(system).value();
  EXPECT_EQ(pin.held_tokens(), 24);
  flood();
  EXPECT_EQ(cached(system), 24);
  EXPECT_EQ(cached(then(system, 500, 8)), 24);
  cache_->evict(1000);
  EXPECT_EQ(cached(system), 24);
  EXPECT_EQ(cache_->statistics().pinned_prefixes, 1);
  pin.unpin();
  EXPECT_TRUE(pin.unpinned());
  cache_->evict(1000);
  EXPECT_EQ(cached(system), 0);
}

TEST_P(hints, what_is_published_later_of_a_pinned_prefix_stays_too) {
  const auto system = counting(0, 22);  // ends inside a block
  pinned_prefix pin = cache_->pin_prefix(system, "tenant").value();
  EXPECT_EQ(pin.held_tokens(), 0);
  published(counting(0, 12), "tenant").release();
  EXPECT_EQ(pin.held_tokens(), 12);
  published(then(system, 700, 9)).release();  // another namespace's
  EXPECT_EQ(pin.held_tokens(), 12);
  published(then(system, 700, 9), "tenant").release();
  EXPECT_EQ(pin.held_tokens(), 22);
  flood("tenant");
  EXPECT_EQ(cached(system, "tenant"), 22);
  cache_->clear();
  EXPECT_EQ(pin.held_tokens(), 0);
  published(system, "tenant").release();
  EXPECT_EQ(pin.held_tokens(), 22);
  flood();
  EXPECT_EQ(cached(system, "tenant"), 22);
}

TEST_P(hints, pinned_blocks_count_as_in_use_where_room_is_sought) {
  const auto system = counting(0, 80);
  published(system).release();
  pinned_prefix pin = cache_->pin_prefix(system).value();
  published(counting(500, 80)).release();
  EXPECT_TRUE(cache_->can_allocate(20));
  EXPECT_FALSE(cache_->can_allocate(21));
  step_plan plan;
  const result<sequence> refused = cache_->open(counting(900, 84), {}, plan);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, errc::out_of_blocks);
  EXPECT_TRUE(says(refused.error(), {"84 tokens", "21 blocks", "20 are free"}))
      << refused.error().message;
  EXPECT_EQ(cached(counting(500, 80)), 80) << "a refused request evicts nothing";
  pin.unpin();
  EXPECT_TRUE(cache_->open(counting(900, 84), {}, plan).ok());
}

TEST_P(hints, a_quota_keeps_a_tenant_from_flushing_others) {
  ASSERT_TRUE(cache_->set_quota("loud", 12).ok());
  const auto quiet = counting(0, 96);
  published(quiet, "quiet").release();
  flood("loud", 200);
  EXPECT_EQ(cached(quiet, "quiet"), 96);
  EXPECT_EQ(cache_->statistics().blocks_cached, 24 + 12);
  // A prompt that needs less than the quota but more than is left beside what is open.
  sequence a = open(counting(5000, 32), "loud");
  step_plan plan;
  const result<sequence> refused = cache_->open(counting(6000, 20), "loud", plan);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, errc::out_of_blocks);
  EXPECT_TRUE(says(refused.error(), {"quota of 12", "5 blocks"})) << refused.error().message;
  EXPECT_EQ(cached(quiet, "quiet"), 96);
  EXPECT_FALSE(a.reserve(20, plan).ok());
  EXPECT_TRUE(a.reserve(16, plan).ok());
  a.release();
  EXPECT_TRUE(cache_->open(counting(6000, 20), "loud", plan).ok());
  const result<sequence> never = cache_->open(counting(7000, 52), "loud", plan);
  ASSERT_FALSE(never.ok());
  EXPECT_EQ(never.error().code, errc::invalid_argument);
  EXPECT_TRUE(says(never.error(), {"52 tokens", "13 blocks", "12"})) << never.error().message;
  EXPECT_EQ(cache_->check_invariants(), "");
  // Without the quota the tenant may flush the other.
  ASSERT_TRUE(cache_->set_quota("loud", 0).ok());
  flood("loud", 200);
  EXPECT_LT(cached(quiet, "quiet"), 96);
}

TEST_P(hints, a_quota_holds_for_what_is_cached_and_outlives_its_namespace) {
  flood("loud", 36);
  sequence open_one = published(counting(0, 16), "loud");
  EXPECT_EQ(cache_->statistics().blocks_cached, 40);
  ASSERT_TRUE(cache_->set_quota("loud", 10).ok());
  EXPECT_EQ(cache_->statistics().blocks_cached, 10) << "the excess goes at once";
  EXPECT_EQ(cached(counting(0, 16), "loud"), 16);
  open_one.release();
  cache_->clear();
  EXPECT_EQ(cache_->statistics().namespaces, 0);
  EXPECT_EQ(cache_->check_invariants(), "");
  flood("loud", 80);
  EXPECT_EQ(cache_->statistics().blocks_cached, 10);
}

TEST_P(hints, forks_and_growth_count_for_the_quota) {
  ASSERT_TRUE(cache_->set_quota("q", 10).ok());
  sequence a = open(counting(0, 16), "q");
  sequence b = a.fork().value();
  step_plan plan;
  EXPECT_TRUE(b.reserve(12, plan).ok());
  EXPECT_TRUE(a.reserve(12, plan).ok());
  EXPECT_FALSE(a.reserve(16, plan).ok());
  ASSERT_TRUE(a.commit().ok());
  ASSERT_TRUE(b.commit().ok());
  EXPECT_EQ(cache_->check_invariants(), "");
  a.release();
  b.release();
  EXPECT_EQ(cache_->check_invariants(), "");
  sequence whole = open(counting(100, 40), "q");
  EXPECT_FALSE(whole.reserve(1, plan).ok());
}

TEST_P(hints, a_higher_priority_is_evicted_later) {
  const auto low = counting(0, 16), high = counting(100, 16), none = counting(200, 16),
             last = counting(300, 16);
  sequence a = published(high), b = published(low), c = published(none), d = published(last);
  ASSERT_TRUE(a.set_priority(0, 16, 50).ok());
  ASSERT_TRUE(b.set_priority(0, 16, 10).ok());
  ASSERT_TRUE(d.set_priority(0, 16, -10).ok());
  for (sequence* s : {&a, &b, &c, &d}) s->release();
  EXPECT_EQ(cache_->statistics().sequence_hints, 3);
  EXPECT_EQ(cache_->evict(4), 4);
  EXPECT_EQ(cached(last), 0);
  EXPECT_EQ(cache_->evict(4), 4);
  EXPECT_EQ(cached(none), 0);
  EXPECT_EQ(cached(low), 16);
  EXPECT_EQ(cache_->evict(4), 4);
  EXPECT_EQ(cached(low), 0);
  EXPECT_EQ(cached(high), 16);
  flood();
  EXPECT_EQ(cached(high), 16);
  EXPECT_GT(cache_->evict(1000), 0);
  EXPECT_EQ(cached(high), 0) << "a priority is not a pin";
  EXPECT_EQ(cache_->statistics().sequence_hints, 0) << "forgotten with the blocks";
}

TEST_P(hints, a_priority_is_of_a_range_of_tokens) {
  const auto t = counting(0, 32);
  sequence s = published(t);
  ASSERT_TRUE(s.set_priority(0, 12, 5).ok());
  ASSERT_TRUE(s.set_priority(12, 8, 3).ok());
  ASSERT_TRUE(s.set_priority(20, 4, 7).ok());
  ASSERT_TRUE(s.set_priority(20, 4, 0).ok());     // taken back
  ASSERT_TRUE(s.set_priority(100, 40, 99).ok());  // never published
  s.release();
  flood();
  EXPECT_EQ(cached(t), 20);
  sequence again = open(t);
  ASSERT_TRUE(again.set_priority(0, 32, 2).ok());
  ASSERT_TRUE(again.commit().ok());
  again.release();
  flood();
  EXPECT_EQ(cached(t), 32) << "the latest counts for what it covers";
}

TEST_P(hints, a_time_to_live_ends_what_nobody_shares) {
  const auto shared = counting(0, 16);
  const auto mine = then(shared, 100, 16), other = then(shared, 200, 16);
  const auto later = counting(300, 16);
  published(other).release();
  sequence s = published(mine);
  ASSERT_TRUE(s.set_ttl(30).ok());
  s.release();
  published(later).release();
  now_ += 29;
  published(other).release();
  published(later).release();
  EXPECT_EQ(cached(mine), 32);
  now_ += 2;
  cache_->evict(4);
  EXPECT_EQ(cached(mine), 16);
  EXPECT_EQ(cached(other), 32);
  EXPECT_EQ(cached(later), 16);
}

TEST_P(hints, a_use_ends_a_time_to_live_and_the_time_ends_a_priority) {
  const auto t = counting(0, 16), u = counting(100, 16);
  sequence s = published(t);
  ASSERT_TRUE(s.set_ttl(10).ok());
  s.release();
  sequence p = published(u);
  ASSERT_TRUE(p.set_ttl(10).ok());
  ASSERT_TRUE(p.set_priority(0, 16, 100).ok());
  p.release();
  now_ += 5;
  flood();
  EXPECT_EQ(cached(u), 16);
  published(t).release();
  now_ += 20;
  cache_->evict(4);
  EXPECT_EQ(cached(u), 0);
  EXPECT_EQ(cached(t), 16);
}

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
  ASSERT_TRUE(b.expect_return(1, 2).ok());
  a.release();
  b.release();
  EXPECT_EQ(cache_->statistics().sequence_hints, 1);
  flood();
  EXPECT_EQ(cached(slow), 0);
  EXPECT_EQ(cached(soon), 16);
}

TEST_P(hints, an_ended_session_leaves_what_others_share) {
  const auto system = counting(0, 16);
  const auto mine = then(system, 100, 16), theirs = then(system, 200, 16);
  published(theirs).release();
  sequence s = published(mine);
  ASSERT_TRUE(s.ended().ok());
  s.release();
  EXPECT_EQ(cache_->evict(4), 4);
  EXPECT_EQ(cached(mine), 16);
  EXPECT_EQ(cached(theirs), 32);
  EXPECT_EQ(cache_->statistics().sequence_hints, 0);
}

TEST_P(hints, a_fork_has_none_of_its_parents_hints) {
  const auto t = counting(0, 16);
  sequence s = published(t);
  ASSERT_TRUE(s.set_priority(0, 16, 9).ok());
  sequence child = s.fork().value();
  child.release();
  EXPECT_EQ(cache_->statistics().sequence_hints, 1);
  s.release();
  flood();
  EXPECT_EQ(cached(t), 16);
}

TEST_P(hints, a_sequence_that_publishes_nothing_leaves_nothing) {
  sequence s = open(counting(0, 16));
  ASSERT_TRUE(s.set_priority(0, 16, 9).ok());
  ASSERT_TRUE(s.set_ttl(5).ok());
  ASSERT_TRUE(s.ended().ok());
  EXPECT_EQ(cache_->statistics().sequence_hints, 3);
  s.release();
  EXPECT_EQ(cache_->statistics().sequence_hints, 0);
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

INSTANTIATE_TEST_SUITE_P(policies, hints,
                         ::testing::Values("lru", "fifo", "lfu", "slru", "s3fifo", "reuse_index"));

}  // namespace
}  // namespace radixkv
