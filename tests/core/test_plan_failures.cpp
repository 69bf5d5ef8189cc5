// What a failed plan was to fill stays unpublished, and nothing else is lost.

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"
#include "tests/core/kv_cache_cases.h"

namespace radixkv::testing {
namespace {

TEST(plan_failures, a_failed_plan_publishes_nothing) {
  kv_cache cache = make(16, 4, 2);
  publish(cache, counting(0, 8));
  auto t = counting(0, 8);
  t[6] = 99;
  step_plan plan;
  sequence s = cache.open(t, {}, plan).value();
  ASSERT_EQ(plan.copies.size(), 1u);
  cache.report_failure(plan);
  ASSERT_TRUE(s.mark_filled(8).ok());
  EXPECT_EQ(s.commit().error().code, errc::released);
  EXPECT_EQ(cache.match(t).tokens, 6);

  sequence ok = cache.open(counting(50, 8), {}, plan).value();
  ASSERT_TRUE(ok.mark_filled(8).ok());
  step_plan after;
  ASSERT_NE(ok.commit_logits(8, 0, after)->slot, no_slot);
  cache.report_failure(after);
  EXPECT_EQ(cache.match(counting(50, 8)).slot, no_slot);
  EXPECT_EQ(cache.check_invariants(), "");
}

// What a plan was to load lies in the store as before.
TEST(plan_failures, a_failed_load_forgets_no_logits) {
  kv_cache cache = make(16, 4, 2);
  step_plan plan;
  sequence first = cache.open(counting(0, 8), {}, plan).value();
  ASSERT_TRUE(first.mark_filled(8).ok());
  ASSERT_NE(first.commit_logits(8, 0, plan)->slot, no_slot);
  plan.clear();
  sequence again = cache.open(counting(0, 8), {}, plan).value();
  ASSERT_TRUE(again.load_logits(0, plan).ok());
  cache.report_failure(plan);
  EXPECT_NE(cache.match(counting(0, 8)).slot, no_slot);
  EXPECT_EQ(cache.check_invariants(), "");
}

// A sequence whose third block is to be filled by a copy from what is cached.
sequence open_with_copy(kv_cache& cache, step_plan& plan) {
  auto t = counting(0, 12);
  t[10] = 99;
  sequence s = cache.open(t, {}, plan).value();
  EXPECT_EQ(plan.copies.size(), 1u);
  EXPECT_EQ(plan.copies.back().destination, s.block_table()[2]);
  return s;
}

// Reports are looked at when a sequence's turn comes: whatever it does before it commits, the plan
// that failed has been its own.
TEST(plan_failures, what_a_failed_plan_was_to_fill_stays_unpublished) {
  const auto refused = [](sequence& s) {
    EXPECT_TRUE(s.mark_filled(s.tokens()).ok());
    return !s.commit().ok() && s.commit().error().code == errc::released;
  };
  kv_cache cache = make(16, 4);
  publish(cache, counting(0, 12));
  step_plan plan, later, strange;
  strange.copies = {{0, 15, 1}};
  {
    sequence s = open_with_copy(cache, plan);
    cache.report_failure(plan);
    EXPECT_EQ(s.commit(8).error().code, errc::released);
    sequence child = s.fork().value();
    // The child copies what the plan was to fill to a block of its own.
    ASSERT_TRUE(child.reserve(2, later).ok());
    ASSERT_EQ(later.copies.size(), 1u);
    EXPECT_TRUE(refused(child)) << "a fork has the same blocks";
    s.release();
    EXPECT_TRUE(refused(child));
  }
  plan.clear();
  {
    sequence s = open_with_copy(cache, plan);
    sequence child = s.fork().value();
    cache.report_failure(plan);
    ASSERT_TRUE(child.reserve(2, later).ok());  // gives up the block that was reported
    EXPECT_TRUE(refused(child)) << "it was copied from";
    EXPECT_TRUE(refused(s));
  }
  plan.clear();
  {
    sequence s = open_with_copy(cache, plan);
    cache.report_failure(plan);
    sequence child = s.fork().value();
    ASSERT_TRUE(s.truncate(8).ok());
    EXPECT_TRUE(refused(child));
    cache.report_failure(strange);
    EXPECT_TRUE(refused(s)) << "the block has gone, but it was this sequence's";
  }
  plan.clear();
  {
    sequence s = open_with_copy(cache, plan);
    cache.report_failure(plan);
    ASSERT_TRUE(s.append(counting(200, 8), later).ok());
    cache.report_failure(strange);
    EXPECT_TRUE(refused(s)) << "blocks that came later change nothing";
  }
  EXPECT_EQ(cache.match(counting(0, 12)).tokens, 12);
  EXPECT_EQ(cache.check_invariants(), "");
}

TEST(plan_failures, who_takes_a_block_later_has_not_failed) {
  kv_cache cache = make(5, 4);
  publish(cache, counting(0, 12));
  step_plan plan, later;
  {
    const sequence s = open_with_copy(cache, plan);
    cache.report_failure(plan);
  }
  const block_id reported = plan.copies[0].destination;
  sequence next = cache.open(counting(300, 4), {}, later).value();
  ASSERT_TRUE(next.reserve(4, later).ok());
  ASSERT_TRUE(next.block_table()[0] == reported || next.block_table()[1] == reported);
  // Nor has its fork, nor has either where nothing of a plan is anybody's.
  sequence child = next.fork().value();
  step_plan strange;
  strange.copies = {{0, no_block, 1}, {0, 5, 1}, {0, max_blocks - 1, 1}, {0, -7, 1}};
  cache.report_failure(strange);
  ASSERT_TRUE(next.mark_filled(4).ok());
  EXPECT_TRUE(next.commit().ok() && child.mark_filled(4).ok() && child.commit().ok());
  child.release();
  // But a plan that names what it holds now is taken for its own.
  ASSERT_TRUE(next.append(counting(400, 4), later).ok() && next.mark_filled(8).ok());
  strange.copies = {{0, next.block_table()[1], 1}};
  cache.report_failure(strange);
  EXPECT_EQ(next.commit().error().code, errc::released);
  EXPECT_EQ(cache.check_invariants(), "");
}

}  // namespace
}  // namespace radixkv::testing
