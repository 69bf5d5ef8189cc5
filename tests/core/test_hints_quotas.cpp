// Quotas of namespaces, through the façade.
#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"
#include "tests/core/hints_fixture.h"

namespace radixkv::testing {
namespace {

class hints_quotas : public hints_fixture {};

TEST_P(hints_quotas, a_quota_keeps_a_tenant_from_flushing_others) {
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

TEST_P(hints_quotas, a_quota_holds_for_what_is_cached_and_outlives_its_namespace) {
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

// Eight prefixes, of which the first four are used again before there is a quota.
TEST_P(hints_quotas, a_later_quota_knows_what_was_used_last) {
  options_.blocks = 100;
  make();
  const auto prefix = [](token_id k) { return counting(100 * k, 16); };
  for (token_id k = 0; k < 8; ++k) published(prefix(k), "q").release();
  for (token_id k = 0; k < 4; ++k) published(prefix(k), "q").release();
  ASSERT_TRUE(cache_->set_quota("q", 16).ok());
  for (token_id k = 0; k < 8; ++k) EXPECT_EQ(cached(prefix(k), "q"), k < 4 ? 16 : 0) << k;
  // The order goes on from there.
  published(prefix(0), "q").release();
  published(prefix(9), "q").release();
  EXPECT_EQ(cached(prefix(0), "q"), 16);
  EXPECT_EQ(cached(prefix(1), "q"), 0);
  EXPECT_EQ(cached(prefix(2), "q"), 16);
}

// A prefix was used when what followed it was, which has gone since.
TEST_P(hints_quotas, a_later_quota_counts_uses_of_what_was_evicted) {
  options_.blocks = 100;
  make();
  const auto prefix = counting(0, 16), whole = counting(0, 32), other = counting(500, 16);
  published(whole, "q").release();
  published(prefix, "q").release();  // a node of its own from now on
  published(other, "q").release();
  published(whole, "q").release();
  pinned_prefix pin = cache_->pin_prefix(other, "q").value();
  EXPECT_EQ(cache_->evict(4), 4);
  EXPECT_EQ(cached(whole, "q"), 16);
  pin.unpin();
  ASSERT_TRUE(cache_->set_quota("q", 4).ok());
  EXPECT_EQ(cached(other, "q"), 0);
  EXPECT_EQ(cached(prefix, "q"), 16);
}

TEST_P(hints_quotas, forks_and_growth_count_for_the_quota) {
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

// What a fork holds counts, whoever allocated it.
TEST_P(hints_quotas, forks_that_outlive_their_parents_count_for_the_quota) {
  ASSERT_TRUE(cache_->set_quota("q", 15).ok());
  std::vector<sequence> forks;
  step_plan plan;
  for (token_id i = 0; i < 3; ++i) {
    result<sequence> parent = cache_->open(counting(1000 * i, 40), "q", plan);
    ASSERT_EQ(parent.ok(), i == 0);
    if (!parent) continue;
    ASSERT_TRUE(parent->mark_filled(40).ok());
    forks.push_back(parent->fork().value());
    parent->release();
    EXPECT_EQ(cache_->check_invariants(), "");
  }
  ASSERT_TRUE(forks[0].truncate(20).ok());
  EXPECT_EQ(cache_->check_invariants(), "");
  EXPECT_TRUE(cache_->open(counting(1000, 40), "q", plan).ok());
}

TEST_P(hints_quotas, a_block_that_two_have_published_counts_once) {
  ASSERT_TRUE(cache_->set_quota("q", 15).ok());
  sequence parent = open(counting(0, 40), "q");
  sequence fork = parent.fork().value();
  ASSERT_TRUE(fork.commit().ok());
  ASSERT_TRUE(parent.commit().ok());
  EXPECT_EQ(cache_->check_invariants(), "");
  step_plan plan;
  EXPECT_TRUE(cache_->open(counting(1000, 20), "q", plan).ok());
}

TEST_P(hints_quotas, sequences_that_were_open_before_the_quota_count) {
  sequence parent = open(counting(0, 40), "q");
  sequence fork = parent.fork().value();
  parent.release();
  ASSERT_TRUE(cache_->set_quota("q", 15).ok());
  EXPECT_EQ(cache_->check_invariants(), "");
  step_plan plan;
  EXPECT_FALSE(cache_->open(counting(1000, 24), "q", plan).ok());
  fork.release();
  EXPECT_TRUE(cache_->open(counting(1000, 24), "q", plan).ok());
  EXPECT_EQ(cache_->check_invariants(), "");
}

// Two namespaces whose orders have had nodes of the same id and tick out of turn.
TEST_P(hints_quotas, what_has_left_one_order_is_not_found_there_in_anothers_place) {
  options_.blocks = 64;
  make();
  const auto path = [](std::initializer_list<std::pair<token_id, std::size_t>> parts) {
    std::vector<token_id> t;
    for (const auto& [first, n] : parts) t = then(std::move(t), first, n);
    return t;
  };
  for (const char* q : {"A", "B"}) ASSERT_TRUE(cache_->set_quota(q, 20).ok());
  const auto kept = path({{600, 48}});
  const auto others = path({{1200, 4}, {1300, 4}});
  const auto start = [&](const char* space, token_id base) {
    published(counting(base + 100, 4), space).release();
    return open(then(counting(base + 100, 4), base + 7, 1), space);
  };
  sequence a = start("A", 0);
  published(path({{200, 4}, {300, 4}}), "A").release();
  sequence b = start("B", 1000);
  published(path({{200, 4}, {400, 4}}), "A").release();
  published(counting(500, 4), "A").release();
  published(others, "B").release();
  published(kept, "A").release();
  (void)cache_->evict(2);
  (void)cache_->evict(1);
  (void)cache_->evict(1);
  published(path({{1200, 4}, {1400, 4}}), "B").release();
  published(counting(1500, 4), "B").release();
  {
    sequence holds = open(then(kept, 9, 1), "A");
    (void)cache_->evict(2);
  }
  ASSERT_EQ(cache_->check_invariants(), "");
  const std::int64_t before = cached(others, "B");
  step_plan plan;
  EXPECT_TRUE(cache_->open(counting(3000, 32), "A", plan).ok());
  EXPECT_EQ(cached(others, "B"), before);
  EXPECT_EQ(cache_->check_invariants(), "");
}

INSTANTIATE_TEST_SUITE_P(policies, hints_quotas, hint_policies);

}  // namespace
}  // namespace radixkv::testing
