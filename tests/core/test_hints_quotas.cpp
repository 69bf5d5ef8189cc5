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

INSTANTIATE_TEST_SUITE_P(policies, hints_quotas, hint_policies);

}  // namespace
}  // namespace radixkv::testing
