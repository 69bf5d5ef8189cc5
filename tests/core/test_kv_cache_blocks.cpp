// What the façade promises of blocks, case by case: who keeps them, who shares them, which go
// first.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"
#include "tests/core/kv_cache_cases.h"

namespace radixkv::testing {
namespace {

TEST(kv_cache_blocks, eviction_takes_tails_and_never_what_is_open) {
  kv_cache cache = make(10);
  publish(cache, counting(0, 40));
  EXPECT_EQ(cache.evict(3), 3);
  EXPECT_EQ(cache.match(counting(0, 40)).tokens, 28);
  step_plan plan;
  sequence s = cache.open(counting(0, 17), {}, plan).value();
  EXPECT_EQ(s.cached_tokens(), 16);
  EXPECT_EQ(cache.evict(100), 3) << "the four blocks that the sequence uses stay";
  EXPECT_EQ(cache.match(counting(0, 40)).tokens, 16);
  EXPECT_EQ(cache.clear(), 0);
  s.release();
  EXPECT_EQ(cache.clear(), 4);
}

TEST(kv_cache_blocks, least_recently_used_goes_first) {
  kv_cache cache = make(12);
  publish(cache, counting(0, 16));
  publish(cache, counting(100, 16));
  publish(cache, counting(200, 16));
  publish(cache, counting(0, 16));  // used again; one block made room for the copy of its last
  cache.evict(3);
  EXPECT_EQ(cache.match(counting(100, 16)).tokens, 0);
  EXPECT_EQ(cache.match(counting(0, 16)).tokens, 16);
  EXPECT_EQ(cache.match(counting(200, 16)).tokens, 16);
}

TEST(kv_cache_blocks, out_of_blocks_is_reported_and_changes_nothing) {
  kv_cache cache = make(8);
  publish(cache, counting(500, 8));
  step_plan plan;
  sequence s = cache.open(counting(0, 24), {}, plan).value();
  const cache_statistics before = cache.statistics();
  plan.clear();
  result<sequence> refused = cache.open(counting(100, 16), {}, plan);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, errc::out_of_blocks);
  EXPECT_TRUE(says(refused.error(), {"16 tokens", "4 blocks", "2 are free"}))
      << refused.error().message;
  const cache_statistics after = cache.statistics();
  EXPECT_EQ(after.blocks_free, before.blocks_free);
  EXPECT_EQ(after.cached_tokens, before.cached_tokens) << "what could be evicted in vain was not";
  EXPECT_EQ(after.failed_opens, before.failed_opens + 1);
  EXPECT_FALSE(s.reserve(24, plan).ok());
  EXPECT_TRUE(plan.empty());
  EXPECT_TRUE(cache.can_allocate(2));
  EXPECT_FALSE(cache.can_allocate(3));
  EXPECT_EQ(cache.check_invariants(), "");
}

TEST(kv_cache_blocks, two_requests_that_compute_the_same_leave_one_copy) {
  kv_cache cache = make(16);
  const auto t = counting(0, 16);
  step_plan plan;
  sequence a = cache.open(t, {}, plan).value();
  sequence b = cache.open(t, {}, plan).value();
  ASSERT_TRUE(a.mark_filled(16).ok());
  ASSERT_TRUE(b.mark_filled(16).ok());
  EXPECT_EQ(a.commit()->new_blocks, 4);
  const commit_result second = b.commit().value();
  EXPECT_EQ(second.duplicate_blocks, 4);
  EXPECT_EQ(second.new_blocks, 0);
  EXPECT_EQ(cache.statistics().blocks_used, 8);
  b.release();
  EXPECT_EQ(cache.statistics().blocks_used, 4);
  a.release();
  EXPECT_EQ(cache.statistics().blocks_used, 4);
  EXPECT_EQ(cache.check_invariants(), "");
}

TEST(kv_cache_blocks, forks_share_until_they_write) {
  kv_cache cache = make(16);
  step_plan plan;
  sequence a = cache.open(counting(0, 6), {}, plan).value();
  ASSERT_TRUE(a.mark_filled(6).ok());
  sequence b = a.fork().value();
  EXPECT_EQ(cache.statistics().blocks_used, 2);
  EXPECT_TRUE(std::equal(a.block_table().begin(), a.block_table().end(), b.block_table().begin()));
  ASSERT_TRUE(b.reserve(1, plan).ok());
  ASSERT_EQ(plan.copies.size(), 1u);
  EXPECT_EQ(plan.copies[0], (block_copy{a.block_table()[1], b.block_table()[1], 2}));
  plan.clear();
  ASSERT_TRUE(a.reserve(1, plan).ok());
  EXPECT_TRUE(plan.empty()) << "alone again: written in place";
  ASSERT_TRUE(a.accept(counting(70, 1)).ok());
  ASSERT_TRUE(b.accept(counting(80, 1)).ok());
  std::vector<token_id> last(1);
  ASSERT_TRUE(a.read_tokens(6, last).ok());
  EXPECT_EQ(last[0], 70u);
  ASSERT_TRUE(b.read_tokens(6, last).ok());
  EXPECT_EQ(last[0], 80u);
  for (const std::int64_t first : {std::int64_t{-1}, std::int64_t{7}, std::int64_t{8}, INT64_MAX}) {
    EXPECT_EQ(b.read_tokens(first, last).error().code, errc::invalid_argument) << first;
  }
  EXPECT_EQ(last[0], 80u) << "nothing was written";
  EXPECT_TRUE(b.read_tokens(7, {}).ok());
  EXPECT_NE(b.read_tokens(7, last).error().message.find("reading 1 tokens from 7 on"),
            std::string::npos);
  b.release();
  EXPECT_EQ(b.read_tokens(0, last).error().code, errc::released);
  EXPECT_EQ(cache.check_invariants(), "");
}

// Room that was made before a fork is shared with it: neither writes there.
TEST(kv_cache_blocks, a_fork_ends_the_room_that_was_reserved) {
  kv_cache cache = make(16);
  step_plan plan;
  sequence a = cache.open(counting(0, 6), {}, plan).value();
  ASSERT_TRUE(a.mark_filled(6).ok());
  ASSERT_TRUE(a.reserve(2, plan).ok());
  sequence b = a.fork().value();
  for (sequence* s : {&a, &b}) {
    EXPECT_TRUE(says(s->accept(counting(70, 1)).error(), {"accepting 1", "room for 0"}));
    ASSERT_TRUE(s->reserve(1, plan).ok());
    EXPECT_TRUE(s->accept(counting(70, 1)).ok());
  }
  EXPECT_EQ(plan.copies.size(), 1u);
  EXPECT_EQ(cache.check_invariants(), "");
}

TEST(kv_cache_blocks, generation_is_published_as_it_goes_without_copies) {
  kv_cache cache = make(16);
  step_plan plan;
  sequence s = cache.open(counting(0, 5), {}, plan).value();
  for (token_id t = 5; t < 30; ++t) {
    ASSERT_TRUE(s.reserve(1, plan).ok());
    ASSERT_TRUE(s.accept(std::span(&t, 1)).ok());
    ASSERT_EQ(s.commit()->published_tokens, t);
    ASSERT_EQ(cache.match(counting(0, 40)).tokens, t);
  }
  EXPECT_TRUE(plan.empty());
  EXPECT_EQ(cache.statistics().nodes, 2) << "one root, one run";
  EXPECT_EQ(cache.check_invariants(), "");
}

TEST(kv_cache_blocks, a_limit_on_prefixes_is_kept) {
  cache_options o;
  o.blocks = 64;
  o.block_tokens = 4;
  o.max_prefixes = 3;
  kv_cache cache = kv_cache::create(o).value();
  for (token_id i = 0; i < 10; ++i) {
    publish(cache, counting(i * 100, 12));
    EXPECT_LE(cache.statistics().cached_prefixes, 3);
  }
  EXPECT_EQ(cache.match(counting(900, 12)).tokens, 12);
  EXPECT_EQ(cache.match(counting(0, 12)).tokens, 0);
}

TEST(kv_cache_blocks,
     a_limit_on_prefixes_that_open_sequences_exceed_is_kept_once_they_are_released) {
  cache_options o;
  o.blocks = 64;
  o.block_tokens = 4;
  o.max_prefixes = 2;
  kv_cache cache = kv_cache::create(o).value();
  pinned_prefix stay = cache.pin_prefix(counting(0, 8)).value();
  pinned_prefix too = cache.pin_prefix(counting(100, 8)).value();
  pinned_prefix three = cache.pin_prefix(counting(200, 8)).value();
  std::vector<sequence> open;
  for (token_id i = 0; i < 5; ++i) {
    step_plan plan;
    open.push_back(cache.open(counting(i * 100, 8), {}, plan).value());
    ASSERT_TRUE(open.back().mark_filled(8).ok());
    ASSERT_TRUE(open.back().commit().ok());
  }
  EXPECT_EQ(cache.statistics().cached_prefixes, 5);
  open.clear();
  EXPECT_EQ(cache.statistics().cached_prefixes, 3) << "those that are pinned";
  three.unpin();
  EXPECT_EQ(cache.statistics().cached_prefixes, 2);
  EXPECT_EQ(cache.check_invariants(), "");
}

TEST(kv_cache_blocks_death, callbacks_that_throw_end_the_process) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  cache_options o;
  o.blocks = 10;
  o.block_tokens = 4;
  bool throws = false;
  const auto maybe = [&] {
    if (throws) throw std::runtime_error("no time");
    return 0.0;
  };
  step_plan plan;
  o.clock = maybe;
  kv_cache timed = kv_cache::create(o).value();
  o.clock = {};
  o.on_pressure = [&](const pressure_event&) { (void)maybe(); };
  kv_cache watched = kv_cache::create(o).value();
  throws = true;
  EXPECT_DEATH((void)timed.open(counting(0, 8), {}, plan), "no time");
  EXPECT_DEATH((void)watched.open(counting(0, 36), {}, plan), "no time");
}

TEST(kv_cache_blocks, what_a_visitor_throws_is_passed_on) {
  kv_cache cache = make(16, 4);
  publish(cache, counting(0, 12));
  EXPECT_THROW((void)cache.for_each_prefix([](auto, auto) -> bool { throw 7; }), int);
  EXPECT_EQ(cache.for_each_prefix([](auto, auto) -> bool { throw std::bad_alloc(); }).error().code,
            errc::out_of_memory);
  EXPECT_EQ(cache.check_invariants(), "");  // the lock is free
}

TEST(kv_cache_blocks, tells_when_watermarks_are_crossed) {
  std::vector<pressure> seen;
  cache_options o;
  o.blocks = 10;
  o.block_tokens = 4;
  o.on_pressure = [&](const pressure_event& e) { seen.push_back(e.level); };
  kv_cache cache = kv_cache::create(o).value();
  EXPECT_TRUE(seen.empty()) << "an unused pool is not under pressure";
  step_plan plan;
  sequence a = cache.open(counting(0, 24), {}, plan).value();  // 4 free
  EXPECT_TRUE(seen.empty());
  sequence b = cache.open(counting(100, 8), {}, plan).value();  // 2 free
  sequence c = cache.open(counting(200, 8), {}, plan).value();  // none free
  b.release();
  c.release();
  EXPECT_EQ(seen, (std::vector{pressure::low, pressure::high, pressure::low, pressure::none}));
}

// A limit on prefixes holds as soon as one more is published, whoever is still open.
TEST(kv_cache_blocks, a_commit_keeps_the_limit_on_prefixes) {
  cache_options o;
  o.blocks = 32;
  o.block_tokens = 4;
  o.policy = "lru";
  o.max_prefixes = 2;
  kv_cache cache = kv_cache::create(o).value();
  publish(cache, counting(0, 8));
  publish(cache, counting(100, 8));
  step_plan plan;
  sequence open = cache.open(counting(200, 8), {}, plan).value();
  ASSERT_TRUE(open.mark_filled(8).ok() && open.commit().ok());
  EXPECT_EQ(cache.statistics().cached_prefixes, 2);
  EXPECT_EQ(cache.match(counting(0, 8)).tokens, 0);
}

// Room that was made stays, also where a block of it has to be copied meanwhile.
TEST(kv_cache_blocks, to_reserve_less_takes_no_room_back) {
  kv_cache cache = make(32, 4, 2);
  step_plan plan;
  sequence s = cache.open(counting(0, 6), {}, plan).value();
  ASSERT_TRUE(s.mark_filled(6).ok() && s.commit_logits(6, 0, plan).ok());
  ASSERT_TRUE(s.reserve(9, plan).ok() && s.reserve(2, plan).ok());
  ASSERT_TRUE(s.accept(counting(50, 4)).ok());
  ASSERT_TRUE(s.truncate(6).ok() && s.reserve(9, plan).ok());
  const sequence borrows = cache.open(counting(0, 6), {}, plan).value();
  ASSERT_EQ(borrows.cached_tokens(), 6);
  plan.clear();
  ASSERT_TRUE(s.reserve(2, plan).ok());
  EXPECT_EQ(plan.copies.size(), 1u);
  EXPECT_TRUE(s.accept(counting(50, 9)).ok());
}

TEST(kv_cache_blocks, a_borrowed_tail_is_copied_once) {
  kv_cache cache = make(16, 4, 2);
  step_plan plan;
  sequence first = cache.open(counting(0, 6), {}, plan).value();
  ASSERT_TRUE(first.mark_filled(6).ok());
  ASSERT_TRUE(first.commit_logits(6, 0, plan).ok());
  first.release();
  plan.clear();
  sequence s = cache.open(counting(0, 6), {}, plan).value();
  ASSERT_EQ(s.cached_tokens(), 6);
  ASSERT_TRUE(plan.copies.empty());
  for (const std::size_t copies : {1u, 0u}) {
    plan.clear();
    ASSERT_TRUE(s.append(counting(90, 1), plan).ok());
    EXPECT_EQ(plan.copies.size(), copies);
    ASSERT_TRUE(s.mark_filled(s.tokens()).ok());
  }
}

TEST(kv_cache_blocks, sequences_may_outlive_the_cache) {
  step_plan plan;
  sequence s;
  {
    kv_cache cache = make(8);
    s = cache.open(counting(0, 8), {}, plan).value();
  }
  ASSERT_TRUE(s.mark_filled(8).ok());
  EXPECT_TRUE(s.commit().ok());
}

// A request that published the same beside the one that said so uses the path as well.
TEST(kv_cache_blocks, an_end_is_over_when_another_has_published_the_same) {
  kv_cache cache = make(16);
  step_plan plan;
  sequence first = cache.open(counting(0, 8), {}, plan).value();
  sequence second = cache.open(counting(0, 8), {}, plan).value();
  ASSERT_TRUE(first.mark_filled(8).ok() && first.commit().ok() && first.ended().ok());
  first.release();
  publish(cache, counting(100, 8));
  ASSERT_TRUE(second.mark_filled(8).ok() && second.commit().ok());
  second.release();
  EXPECT_EQ(cache.evict(1), 1);
  EXPECT_EQ(cache.match(counting(0, 8)).tokens, 8);  // what was published in between went first
  EXPECT_EQ(cache.check_invariants(), "");
}

}  // namespace
}  // namespace radixkv::testing
