// What callers say is important, through the façade: prefixes that stay, priorities, times to live.
#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"
#include "tests/core/hints_fixture.h"

namespace radixkv::testing {
namespace {

class hints_retention : public hints_fixture {};

TEST_P(hints_retention, a_pinned_system_prompt_survives_a_flood) {
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

TEST_P(hints_retention, what_is_published_later_of_a_pinned_prefix_stays_too) {
  const auto system = counting(0, 22);  // ends inside a block
  pinned_prefix pin = cache_->pin_prefix(system, "tenant").value();
  EXPECT_EQ(pin.held_tokens(), 0);
  published(counting(0, 12), "tenant").release();
  EXPECT_EQ(pin.held_tokens(), 12);
  published(counting(0, 16), "tenant").release();  // one block more
  EXPECT_EQ(pin.held_tokens(), 16);
  published(then(system, 700, 9)).release();  // another namespace's
  EXPECT_EQ(pin.held_tokens(), 16);
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

TEST_P(hints_retention, several_pins_are_counted_one_by_one_and_their_memory_too) {
  const std::int64_t before = cache_->statistics().index_bytes;
  pinned_prefix late = cache_->pin_prefix(counting(0, 160)).value();  // never all cached
  pinned_prefix deep = cache_->pin_prefix(counting(0, 40)).value();
  pinned_prefix other = cache_->pin_prefix(counting(0, 12)).value();
  const std::int64_t with = cache_->statistics().index_bytes;
  EXPECT_GE(with - before, 212 * 4);
  (void)cache_->pin_prefix(counting(700, 160)).value();
  EXPECT_EQ(cache_->statistics().index_bytes, with) << "what is let go of again costs nothing";
  published(counting(0, 24)).release();
  EXPECT_EQ(late.held_tokens(), 24);
  EXPECT_EQ(deep.held_tokens(), 24);
  EXPECT_EQ(other.held_tokens(), 12);
  EXPECT_EQ(cache_->check_invariants(), "");
  published(counting(0, 40)).release();
  EXPECT_EQ(deep.held_tokens(), 40);
  late.unpin();
  EXPECT_EQ(cache_->check_invariants(), "");
  deep.unpin();
  cache_->evict(1000);
  EXPECT_EQ(cached(counting(0, 40)), 12);
  other.unpin();
  EXPECT_EQ(cache_->check_invariants(), "");
}

// A sequence whose tail another one has published, and more, has none of its own in the index.
TEST_P(hints_retention, what_lies_in_anothers_longer_tail_stays_too) {
  const auto prefix = counting(0, 2), longer = counting(0, 3);
  pinned_prefix pin = cache_->pin_prefix(prefix).value();
  sequence x = open(prefix);
  sequence y = published(longer);
  ASSERT_TRUE(x.commit().ok());
  x.release();
  EXPECT_EQ(cached(prefix), 2);
  EXPECT_EQ(pin.held_tokens(), 2);
  y.release();
  flood();
  EXPECT_EQ(cached(prefix), 2);
}

// Of many prefixes that share a little or much with what is published all are held as far as that:
// whole blocks, or all. Two sequences at a time publish the same, so that one's blocks are the
// other's duplicates.
TEST_P(hints_retention, whoever_publishes_is_compared_with_all_that_is_pinned) {
  options_.blocks = 2000;
  make();
  std::mt19937 random(3);
  const auto some = [&](std::size_t most) {
    std::vector<token_id> t(1 + random() % most);
    for (token_id& x : t) x = random() % 8 == 0 ? 1 : 2;
    return t;
  };
  const char* const spaces[] = {"a", "b"};
  std::vector<std::pair<const char*, std::vector<token_id>>> wanted;
  std::vector<pinned_prefix> pinned;
  for (int i = 0; i < 300; ++i) {
    if (i % 10 == 9) {
      const std::size_t gone = random() % pinned.size();
      pinned.erase(pinned.begin() + static_cast<std::ptrdiff_t>(gone));
      wanted.erase(wanted.begin() + static_cast<std::ptrdiff_t>(gone));
    } else {
      wanted.emplace_back(spaces[random() % 2], some(30));
      pinned.push_back(cache_->pin_prefix(wanted.back().second, wanted.back().first).value());
    }
    const char* const space = spaces[random() % 2];
    const std::vector<token_id> t = some(40);
    sequence first = open(t, space), second = open(t, space);
    for (sequence* s : {&first, &second}) {
      ASSERT_TRUE(s->mark_filled(s->tokens()).ok() && s->commit().ok());
    }
    (random() % 2 == 0 ? first : second).release();
    if (i % 100 == 50) cache_->clear();
    first.release();
    second.release();
    for (std::size_t k = 0; k < pinned.size(); ++k) {
      const std::vector<token_id>& prefix = wanted[k].second;
      const std::int64_t found = cached(prefix, wanted[k].first);
      const bool all = found == static_cast<std::int64_t>(prefix.size());
      ASSERT_EQ(pinned[k].held_tokens(), all ? found : found / block_tokens * block_tokens)
          << "prefix " << k << " after " << i;
    }
    ASSERT_EQ(cache_->check_invariants(), "");
  }
}

TEST_P(hints_retention, pinned_blocks_count_as_in_use_where_room_is_sought) {
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

TEST_P(hints_retention, a_higher_priority_is_evicted_later) {
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

TEST_P(hints_retention, a_priority_is_of_a_range_of_tokens) {
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

TEST_P(hints_retention, a_priority_is_of_all_of_the_block_where_its_range_ends) {
  const auto t = counting(0, 32);
  for (const std::int64_t n : {5, 8, 9}) {
    sequence s = published(t);
    ASSERT_TRUE(s.set_priority(0, n, 5).ok());
    s.release();
    flood();
    EXPECT_EQ(cached(t), n == 9 ? 12 : 8) << n;
    cache_->clear();
  }
}

TEST_P(hints_retention, a_time_to_live_ends_what_nobody_shares) {
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

TEST_P(hints_retention, a_use_ends_a_time_to_live_and_the_time_ends_a_priority) {
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

TEST_P(hints_retention, a_refused_open_leaves_what_was_said_of_the_prefix) {
  const auto older = counting(100, 16), t = counting(0, 16), newer = counting(200, 16);
  for (const int hint : {0, 1, 2}) {
    make();
    published(older).release();
    sequence s = published(t);
    if (hint == 0) ASSERT_TRUE(s.ended().ok());
    if (hint == 1) ASSERT_TRUE(s.set_ttl(5).ok());
    if (hint == 2) ASSERT_TRUE(s.set_priority(0, 16, -5).ok());
    s.release();
    published(newer).release();
    now_ += 10;
    sequence busy = open(counting(500, 4 * 25));
    // 3 blocks are free, 12 are cached, of which 4 are the request's own.
    step_plan plan;
    const auto refused = cache_->open(then(t, 1000, 4 * 13), {}, plan);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, errc::out_of_blocks);
    EXPECT_EQ(cache_->statistics().sequence_hints, 1);
    busy.release();
    cache_->evict(4);
    EXPECT_EQ(cached(t), 0) << "hint " << hint;
    EXPECT_EQ(cached(older), 16);
    EXPECT_EQ(cached(newer), 16);
  }
}

TEST_P(hints_retention, a_priority_below_0_outlives_uses_without_hints) {
  const auto older = counting(100, 16), t = counting(0, 16), newer = counting(200, 16);
  published(older).release();
  sequence s = published(t);
  ASSERT_TRUE(s.set_priority(0, 16, -5).ok());
  s.release();
  published(newer).release();
  published(t).release();
  // Whoever goes on from it says nothing about what follows, which goes in the policy's order; then
  // the priority counts again.
  const auto more = then(t, 300, 16);
  published(more).release();
  EXPECT_EQ(cache_->statistics().sequence_hints, 1);
  pinned_prefix stay = cache_->pin_prefix(older).value(), too = cache_->pin_prefix(newer).value();
  cache_->evict(4);
  EXPECT_EQ(cached(more), 16);
  stay.unpin();
  too.unpin();
  cache_->evict(4);
  EXPECT_EQ(cached(t), 0);
  EXPECT_EQ(cached(older), 16);
  EXPECT_EQ(cached(newer), 16);
}

TEST_P(hints_retention, a_priority_below_0_waits_for_what_follows_it) {
  const auto older = counting(100, 16), t = counting(0, 32), newer = counting(200, 16);
  published(older).release();
  sequence s = published(t);
  ASSERT_TRUE(s.set_priority(0, 16, -5).ok());
  ASSERT_TRUE(s.set_priority(24, 8, -3).ok());
  s.release();
  published(newer).release();
  EXPECT_EQ(cache_->evict(2), 2);
  EXPECT_EQ(cached(t), 24) << "the end that has a priority below 0";
  pinned_prefix stay = cache_->pin_prefix(older).value(), too = cache_->pin_prefix(newer).value();
  EXPECT_EQ(cache_->evict(2), 2);
  EXPECT_EQ(cached(t), 16) << "what has none";
  stay.unpin();
  too.unpin();
  EXPECT_EQ(cache_->evict(4), 4);
  EXPECT_EQ(cached(t), 0);
  EXPECT_EQ(cached(older), 16);
  EXPECT_EQ(cached(newer), 16);
}

TEST_P(hints_retention, the_latest_priority_of_a_range_counts_whatever_its_sign) {
  const auto older = counting(100, 16), t = counting(0, 16);
  for (const int last : {-5, 5}) {
    make();
    published(older).release();
    for (const int priority : {-last, last}) {
      sequence s = published(t);
      ASSERT_TRUE(s.set_priority(0, 16, priority).ok());
      s.release();
    }
    EXPECT_EQ(cache_->statistics().sequence_hints, 1);
    cache_->evict(4);
    EXPECT_EQ(cached(t), last > 0 ? 16 : 0);
    EXPECT_EQ(cached(older), last > 0 ? 0 : 16);
  }
}

TEST_P(hints_retention, an_ended_session_leaves_what_others_share) {
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

TEST_P(hints_retention, a_fork_has_none_of_its_parents_hints) {
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

TEST_P(hints_retention, a_sequence_that_publishes_nothing_leaves_nothing) {
  sequence s = open(counting(0, 16));
  ASSERT_TRUE(s.set_priority(0, 16, 9).ok());
  ASSERT_TRUE(s.set_ttl(5).ok());
  ASSERT_TRUE(s.ended().ok());
  EXPECT_EQ(cache_->statistics().sequence_hints, 3);
  s.release();
  EXPECT_EQ(cache_->statistics().sequence_hints, 0);
}

TEST_P(hints_retention, a_refused_open_loses_no_end_of_a_session_while_another_uses_its_prefix) {
  const auto older = counting(1000, 16), prefix = counting(0, 20), t = then(prefix, 100, 20);
  published(older).release();
  sequence a = published(t);
  sequence b = open(then(prefix, 300, 8));  // uses 5 of its 10 blocks
  ASSERT_TRUE(a.ended().ok());
  a.release();
  step_plan plan;
  ASSERT_FALSE(cache_->open(then(prefix, 5000, 4 * 34), {}, plan));
  ASSERT_TRUE(b.commit().ok());
  b.release();
  published(counting(2000, 16)).release();
  EXPECT_EQ(cache_->evict(4), 4);
  EXPECT_EQ(cached(t), 24);
  EXPECT_EQ(cached(older), 16);
}

TEST_P(hints_retention, a_use_of_a_prefix_leaves_the_end_of_a_session_behind_it) {
  const auto older = counting(1000, 16), prefix = counting(0, 20), t = then(prefix, 100, 20);
  published(older).release();
  sequence a = published(t);
  ASSERT_TRUE(a.ended().ok());
  a.release();
  published(then(prefix, 300, 8)).release();
  published(counting(2000, 16)).release();
  EXPECT_EQ(cache_->evict(5), 5);
  EXPECT_EQ(cached(t), 20);
  EXPECT_EQ(cached(older), 16);
}

TEST_P(hints_retention, a_priority_below_0_ends_none_of_what_lies_before_it) {
  const auto t = counting(0, 40), other = counting(2000, 16);
  sequence a = published(t);
  ASSERT_TRUE(a.set_priority(0, 20, 50).ok());
  a.release();
  sequence b = published(t);
  ASSERT_TRUE(b.set_priority(20, 20, -5).ok());
  b.release();
  published(other).release();
  EXPECT_EQ(cache_->evict(9), 9);
  EXPECT_EQ(cached(t), 20);
  EXPECT_EQ(cached(other), 0);
}

TEST_P(hints_retention, of_ranges_that_end_together_the_one_said_last_counts) {
  for (const double before : {1.0, -5.0}) {
    make();
    const auto t = counting(0, 40), other = counting(2000, 16);
    sequence a = published(t);
    ASSERT_TRUE(a.set_priority(0, 40, before).ok());
    ASSERT_TRUE(a.set_priority(20, 20, 50).ok());
    a.release();
    sequence b = published(other);
    ASSERT_TRUE(b.set_priority(0, 16, 10).ok());
    b.release();
    EXPECT_EQ(cache_->evict(4), 4);
    EXPECT_EQ(cached(t), 40) << before;
    EXPECT_EQ(cached(other), 0) << before;
  }
}

TEST_P(hints_retention, a_clock_may_begin_anywhere) {
  now_ = -1000;
  make();
  const auto t = counting(0, 16), other = counting(2000, 16);
  published(other).release();
  sequence a = published(t);
  ASSERT_TRUE(a.set_ttl(100).ok());
  a.release();
  EXPECT_EQ(cache_->evict(1), 1);
  EXPECT_EQ(cached(t) + cached(other), 28);
  now_ = -800;
  EXPECT_EQ(cache_->evict(3), 3);
  EXPECT_LE(cached(t), 4);
}

// The next block to go is of a path, whose rest stays.
#define EXPECT_NEXT(path)                           \
  do {                                              \
    const std::int64_t before = cached(path);       \
    EXPECT_EQ(cache_->evict(1), 1);                 \
    EXPECT_EQ(cached(path), before - block_tokens); \
  } while (false)

TEST_P(hints_retention, what_was_said_last_of_a_sequence_counts) {
  const auto p = counting(0, 8), q = counting(100, 8);
  sequence s = published(p);
  ASSERT_TRUE(s.ended().ok() && s.expect_return(1, 100).ok());
  s.release();
  published(q).release();
  EXPECT_NEXT(q);
  cache_->clear();

  // Two ranges that end with the same block: the one said again comes last.
  sequence first = published(p);
  ASSERT_TRUE(first.set_priority(0, 8, 1).ok() && first.set_priority(6, 2, 5).ok());
  ASSERT_TRUE(first.set_priority(0, 8, 2).ok());
  first.release();
  sequence second = published(q);
  ASSERT_TRUE(second.set_priority(0, 8, 3).ok());
  second.release();
  EXPECT_NEXT(p);
  cache_->clear();

  // What was held is let go of, and no more than that.
  published(q).release();
  sequence third = published(p);
  ASSERT_TRUE(third.set_priority(4, 4, 3).ok() && third.set_priority(4, 4, -1).ok());
  third.release();
  EXPECT_NEXT(p);
  EXPECT_NEXT(q);
}

TEST_P(hints_retention, a_shorter_range_keeps_its_priority_below_a_longer_one) {
  const auto p = counting(0, 8), q = counting(100, 8);
  sequence s = published(p);
  ASSERT_TRUE(s.set_priority(0, 4, 5).ok() && s.set_priority(0, 8, 1).ok());
  s.release();
  sequence other = published(q);
  ASSERT_TRUE(other.set_priority(0, 8, 3).ok());
  other.release();
  EXPECT_NEXT(p);
  EXPECT_NEXT(q);
  EXPECT_NEXT(q);
  EXPECT_EQ(cached(p), 4);
}

TEST_P(hints_retention, a_range_behind_the_path_holds_nothing_of_it) {
  const auto p = counting(0, 8), q = counting(100, 8);
  sequence s = published(p);
  ASSERT_TRUE(s.set_priority(8, 4, 5).ok());
  s.release();
  sequence other = published(q);
  ASSERT_TRUE(other.set_priority(0, 8, 1).ok());
  other.release();
  EXPECT_NEXT(p);
  EXPECT_NEXT(p);
}

// Of equal priorities what was used again goes last.
TEST_P(hints_retention, use_renews_a_priority) {
  const auto p = counting(0, 4), q = counting(100, 4);
  for (const auto& path : {p, q}) {
    sequence s = published(path);
    ASSERT_TRUE(s.set_priority(0, 4, 1).ok());
    s.release();
  }
  published(p).release();
  EXPECT_NEXT(q);
  EXPECT_EQ(cached(p), 4);
}

#undef EXPECT_NEXT

INSTANTIATE_TEST_SUITE_P(policies, hints_retention, hint_policies);

}  // namespace
}  // namespace radixkv::testing
