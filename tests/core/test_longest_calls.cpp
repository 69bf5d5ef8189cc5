// No call pays at once for what many calls before it have left: what the dearest of them looks at,
// as tables grow and queues are full of what cannot go (hostile_cost.h).
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/eviction/mark_table.h"
#include "csrc/core/eviction/recency_queue.h"
#include "csrc/core/moved_lines.h"
#include "tests/core/hostile_cost.h"
#include "tests/support/alloc_failure.h"

namespace radixkv::testing {
namespace {

#if defined(RADIXKV_DEBUG_CHECKS)

template <typename Operation>
double lines_of(Operation&& operation) {
  const step_counts before = steps_of_thread();
  operation();
  return lines(before);
}

// The dearest of publications that make all tables grow, many times over. A line that moves is
// read, and two are written.
double dearest_publication(int prompts, bool siblings) {
  std::mt19937 random(11);
  kv_cache cache = make_cache(prompts + 64, "lru");
  double dearest = 0;
  for (int i = 0; i < prompts; ++i) {
    tokens t = random_tokens(random, block_tokens);
    if (siblings) {
      for (token_id& token : t) token %= 4;
      t.back() = static_cast<token_id>(i);
    }
    const std::uint64_t before = detail::moved_lines_of_thread();
    const double own = lines_of([&] { EXPECT_TRUE(publish(cache, t)); });
    const std::uint64_t moved = detail::moved_lines_of_thread() - before;
    dearest = std::max(dearest, own + 3 * static_cast<double>(moved));
  }
  EXPECT_EQ(cache.check_invariants(), "");
  return dearest;
}

TEST(longest_calls, tables_grow_a_few_lines_at_a_time) {
  const detail::fixed_secrets secrets(3);
  for (const bool siblings : {false, true}) {
    const double few = dearest_publication(1'000, siblings);
    const double many = dearest_publication(150'000, siblings);
    std::printf("dearest publication%s: %.0f lines of 1,000, %.0f of 150,000\n",
                siblings ? " among siblings" : "", few, many);
    // The longest row of full lines grows with the logarithm of the table.
    EXPECT_LE(many, most_times * few);
    EXPECT_LE(many, 500);
  }
}

// Each was used so often that S3-FIFO gives it another round.
TEST(longest_calls, a_victim_of_s3fifo_where_all_were_used_again) {
  constexpr int prompts = 20'000;
  constexpr int evicted = 1'000;
  std::mt19937 random(5);
  kv_cache cache = make_cache(prompts + 64, "s3fifo");
  std::vector<tokens> all;
  for (int i = 0; i < prompts; ++i) all.push_back(random_tokens(random, block_tokens));
  for (int round = 0; round < 4; ++round) {
    for (const tokens& t : all) ASSERT_TRUE(publish(cache, t));
  }
  double dearest = 0;
  for (int i = 0; i < evicted; ++i) {
    dearest = std::max(dearest, lines_of([&] { EXPECT_EQ(cache.evict(1), 1); }));
  }
  std::printf("dearest victim of s3fifo: %.0f lines\n", dearest);
  EXPECT_LE(dearest, 300);
  EXPECT_EQ(cache.check_invariants(), "");
}

// All is held, half of it by holds on nodes with children, whose turn to give way would come first:
// neither these nor the leaves, which the policy would name, are looked through.
TEST(longest_calls, a_victim_where_all_is_held) {
  const auto of = [](int held, std::string_view space, const char* policy) {
    std::mt19937 random(6);
    kv_cache cache = make_cache(std::int64_t{3} * held + 64, policy);
    if (!space.empty()) {
      EXPECT_TRUE(cache.set_quota(space, 3 * held).ok());
    }
    const auto hold = [&](const tokens& t, int priority) {
      step_plan plan;
      sequence s = cache.open(t, space, plan).value();
      EXPECT_TRUE(s.mark_filled(s.tokens()).ok() && s.commit().ok() &&
                  s.set_priority(s.tokens() - block_tokens, block_tokens, priority).ok());
    };
    prompts all;
    for (int i = 0; i < held; ++i) {
      all.push_back(random_tokens(random, block_tokens));
      hold(all.back(), 1);
    }
    for (tokens t : all) {
      const tokens more = random_tokens(random, block_tokens);
      t.insert(t.end(), more.begin(), more.end());
      hold(t, 2);
    }
    double dearest = 0;
    for (int i = 0; i < held / 2; ++i) {
      dearest = std::max(dearest, lines_of([&] { EXPECT_EQ(cache.evict(1), 1); }));
    }
    EXPECT_EQ(cache.check_invariants(), "");
    // What has lost its child gives way before those that have one.
    EXPECT_EQ(cache.statistics().blocks_cached, 2 * held - held / 2);
    return dearest;
  };
  for (const std::string_view space : {"", "tenant"}) {
    for (const char* policy : {"lru", "fifo", "lfu", "slru", "s3fifo", "reuse_index"}) {
      const double few = of(100, space, policy), many = of(10'000, space, policy);
      std::printf("dearest victim where all is held, %s: %.0f lines of 100, %.0f of 10,000\n",
                  policy, few, many);
      EXPECT_LE(many, most_times * few);
    }
  }
}

// A hint does not wait until all others have moved to larger tables.
TEST(longest_calls, a_hint_as_their_number_grows) {
  constexpr int hints = 50'000;
  std::mt19937 random(8);
  kv_cache cache = make_cache(hints + 64, "lru");
  double dearest = 0;
  for (int i = 0; i < hints; ++i) {
    step_plan plan;
    sequence s = cache.open(random_tokens(random, block_tokens), "", plan).value();
    ASSERT_TRUE(s.mark_filled(s.tokens()).ok() && s.commit().ok());
    dearest = std::max(dearest, lines_of([&] {
                         EXPECT_TRUE(s.set_priority(0, block_tokens, 1 + i % 100).ok());
                         const sequence released = std::move(s);
                       }));
  }
  std::printf("dearest hint: %.0f lines\n", dearest);
  EXPECT_LE(dearest, 100);
  EXPECT_EQ(cache.check_invariants(), "");
}

// A report costs what its plan has in it, whatever is open; and those who hold blocks that it may
// name look at their own when their turn comes.
TEST(longest_calls, a_plan_that_failed_beside_open_sequences) {
  const auto of = [](int open) {
    std::mt19937 random(13);
    kv_cache cache = make_cache(std::int64_t{3} * open + 3'000, "lru");
    const tokens shared = random_tokens(random, block_tokens);
    EXPECT_TRUE(publish(cache, shared));
    std::vector<sequence> held;
    step_plan plan;
    for (int i = 0; i < open; ++i) {
      tokens t = shared;  // so that a part of a block is to be copied
      t.back() = static_cast<token_id>(i);
      t.resize(2 * block_tokens);
      held.push_back(cache.open(t, "", plan).value());
    }
    EXPECT_EQ(plan.copies.size(), held.size());
    step_plan one;
    one.copies = {plan.copies[0]};
    double dearest = 0;
    double others[2] = {};
    for (int i = 0; i < 200; ++i) {
      if (i % 2 != 0) dearest = std::max(dearest, lines_of([&] { cache.report_failure(one); }));
      others[i % 2] +=
          lines_of([&] { EXPECT_TRUE(publish(cache, random_tokens(random, 10 * block_tokens))); });
    }
    EXPECT_LE(others[1], 1.1 * others[0]);
    EXPECT_TRUE(held.back().mark_filled(held.back().tokens()).ok() && held.back().commit().ok());
    EXPECT_EQ(held.front().commit().error().code, errc::released);
    EXPECT_LE(lines_of([&] { cache.report_failure(plan); }), open);
    return dearest;
  };
  const double few = of(20), many = of(20'000);
  std::printf("a plan that failed: %.1f lines beside 20, %.1f beside 20,000\n", few, many);
  EXPECT_LE(many, few);
}

// What sequences leave in random order malloc has to sort, for whoever asks next: that must not be
// a policy whose history grows, under the cache's lock.
TEST(longest_calls, to_let_go_of_forks_asks_malloc_for_nothing) {
  constexpr std::uint32_t forks = 3'000;
  constexpr std::uint32_t length = 40 * block_tokens;
  std::mt19937 random(12);
  kv_cache cache = make_cache(std::int64_t{length / block_tokens + 2} * forks, "reuse_index");
  step_plan plan;
  sequence whole = cache.open(random_tokens(random, length), "", plan).value();
  ASSERT_TRUE(whole.mark_filled(length).ok());
  std::vector<sequence> all;
  for (std::uint32_t i = 0; i < forks; ++i) {
    plan.clear();
    sequence s = whole.fork().value();
    ASSERT_TRUE(s.truncate(1 + static_cast<std::int64_t>(random() % length)).ok());
    ASSERT_TRUE(s.append(random_tokens(random, 3), plan).ok() && s.mark_filled(s.tokens()).ok() &&
                s.commit().ok());
    all.push_back(std::move(s));
  }
  std::shuffle(all.begin(), all.end(), random);
  const std::size_t before = cache.statistics().index_bytes;
  const std::uint64_t asked = allocations_asked_for();
  for (sequence& s : all) s.release();
  EXPECT_EQ(allocations_asked_for() - asked, 0U);
  EXPECT_GT(cache.statistics().index_bytes, before);  // the history has grown
  EXPECT_EQ(cache.check_invariants(), "");
}

// Nothing is copied, and nothing large asked for, as queues grow: a call that asks malloc for more
// than a kilobyte waits until it has sorted what was freed since the last that did.
TEST(longest_calls, queues_grow_by_small_pieces) {
  constexpr int prompts = 30'000;
  for (const char* policy : {"lru", "fifo", "lfu", "slru", "s3fifo", "reuse_index"}) {
    std::mt19937 random(14);
    kv_cache cache = make_cache(prompts + 64, policy);
    step_plan plan;
    std::size_t largest = 0;
    for (int i = 0; i < prompts; ++i) {
      plan.clear();
      sequence s = cache.open(random_tokens(random, block_tokens), "", plan).value();
      ASSERT_TRUE(s.mark_filled(s.tokens()).ok() && s.commit().ok());
      largest = std::max(largest, largest_allocation_of([&] { s.release(); }));
    }
    std::printf("the most that a release asks for, %s: %zu bytes\n", policy, largest);
    // A heap by larger pieces, and so more often than much has been freed.
    EXPECT_LE(largest, policy == std::string_view("lfu") ? 8192u : 1024u) << policy;
  }
}

// Where more nodes wait than one list of small pieces can name.
TEST(longest_calls, long_queues_grow_by_small_pieces) {
  constexpr node_id nodes = 1'000'000;
  detail::recency_queue queue;
  std::size_t largest = 0;
  for (node_id n = 0; n < nodes; ++n) {
    largest = std::max(largest, largest_allocation_of([&] {
                         EXPECT_NE(queue.push_back(n), detail::recency_queue::nowhere);
                       }));
  }
  std::printf("the most that a queue of %u nodes asks for: %zu bytes\n", nodes, largest);
  EXPECT_LE(largest, 1024U);
  EXPECT_EQ(queue.check(), "");
}

// What was held, and is let go of without a request, joins the policy's order in between.
TEST(longest_calls, what_joins_in_between_is_kept_by_small_pieces) {
  constexpr int prompts = 10'000;
  std::mt19937 random(16);
  cache_options o;
  o.blocks = prompts + 64;
  o.block_tokens = block_tokens;
  o.policy = "lru";
  o.max_announcements = prompts;
  kv_cache cache = kv_cache::create(std::move(o)).value();
  ASSERT_TRUE(publish(cache, random_tokens(random, block_tokens)));  // the least recently used
  std::vector<announcement> held;
  for (int i = 0; i < prompts; ++i) {
    const tokens t = random_tokens(random, block_tokens);
    ASSERT_TRUE(publish(cache, t));
    held.push_back(cache.announce(t).value());
  }
  ASSERT_TRUE(publish(cache, random_tokens(random, block_tokens)));
  const std::int64_t before = cache.statistics().index_bytes;
  std::size_t largest = 0;
  for (announcement& a : held) {
    largest = std::max(largest, largest_allocation_of([&] { a.withdraw(); }));
  }
  std::printf("the most that %d nodes in between ask for: %zu bytes\n", prompts, largest);
  EXPECT_LE(largest, 2048U);
  EXPECT_GT(cache.statistics().index_bytes, before + 8 * prompts);  // they do lie in between
  EXPECT_EQ(cache.check_invariants(), "");
}

// Whoever asks for figures every second does not hold requests up for a walk through all hints.
TEST(longest_calls, statistics_look_at_no_hint) {
  const auto of = [](int hints) {
    std::mt19937 random(17);
    cache_options o;
    o.blocks = 4 * std::int64_t{hints};
    o.block_tokens = block_tokens;
    o.policy = "lru";
    o.max_quotas = o.max_pinned_prefixes = hints;
    kv_cache cache = kv_cache::create(std::move(o)).value();
    std::vector<pinned_prefix> pinned;
    for (int i = 0; i < hints; ++i) {
      const std::string space = std::to_string(i);
      EXPECT_TRUE(cache.set_quota(space, 8).ok());
      const tokens t = random_tokens(random, block_tokens);
      EXPECT_TRUE(publish(cache, t, space));
      pinned.push_back(cache.pin_prefix(t, space).value());
    }
    const double asked = lines_of([&] { EXPECT_EQ(cache.statistics().pinned_prefixes, hints); });
    // The sums agree with what they were made of, then and when all has gone.
    EXPECT_EQ(cache.check_invariants(), "");
    pinned.clear();
    for (int i = 0; i < hints; ++i) EXPECT_TRUE(cache.set_quota(std::to_string(i), 0).ok());
    EXPECT_EQ(cache.check_invariants(), "");
    return asked;
  };
  EXPECT_EQ(of(5'000), of(5));
}

// What the façade says: a look at each node for a quota that is set while its namespace holds
// something, and no more; none before that, and none to change it.
TEST(longest_calls, a_quota_looks_once_at_each_node) {
  const auto of = [](int prompts) {
    std::mt19937 random(18);
    kv_cache cache = make_cache(prompts + 64, "lru");
    for (int i = 0; i < prompts; ++i) {
      EXPECT_TRUE(publish(cache, random_tokens(random, block_tokens), "tenant"));
    }
    const double early = lines_of([&] { EXPECT_TRUE(cache.set_quota("other", 10).ok()); });
    const double first = lines_of([&] { EXPECT_TRUE(cache.set_quota("tenant", prompts).ok()); });
    const double again =
        lines_of([&] { EXPECT_TRUE(cache.set_quota("tenant", prompts + 1).ok()); });
    EXPECT_LE(early, 4);
    EXPECT_LE(again, 4);
    EXPECT_EQ(cache.check_invariants(), "");
    return first / prompts;
  };
  const double few = of(1'000), many = of(50'000);
  std::printf("a quota: %.2f lines a node of 1,000, %.2f of 50,000\n", few, many);
  EXPECT_LE(many, 1.1 * few);
  EXPECT_LE(many, 3);
}

// clear() costs what it frees, however many namespaces go with it.
TEST(longest_calls, to_clear_costs_what_goes) {
  const auto of = [](int spaces) {
    std::mt19937 random(19);
    kv_cache cache = make_cache(spaces + 64, "lru");
    for (int i = 0; i < spaces; ++i) {
      EXPECT_TRUE(publish(cache, random_tokens(random, block_tokens), std::to_string(i)));
    }
    const double cleared = lines_of([&] { EXPECT_EQ(cache.clear(), spaces); });
    EXPECT_EQ(cache.statistics().namespaces, 0);
    return cleared / spaces;
  };
  const double few = of(500), many = of(20'000);
  std::printf("to clear: %.2f lines a namespace of 500, %.2f of 20,000\n", few, many);
  EXPECT_LE(many, 1.2 * few);
}

// Nor does anybody wait for a table of all quotas to grow.
TEST(longest_calls, quotas_grow_by_a_part) {
  constexpr int quotas = 20'000;
  std::mt19937 random(15);
  cache_options o;
  o.blocks = 2 * quotas;
  o.block_tokens = block_tokens;
  o.policy = "lru";
  o.max_quotas = quotas;
  kv_cache cache = kv_cache::create(std::move(o)).value();
  std::size_t largest = 0;
  for (int i = 0; i < quotas; ++i) {
    const std::string space = std::to_string(i);
    largest = std::max(largest, largest_allocation_of([&] {
                         EXPECT_TRUE(cache.set_quota(space, 8).ok());
                         EXPECT_TRUE(publish(cache, random_tokens(random, block_tokens), space));
                       }));
  }
  std::printf("the most that a quota asks for: %zu bytes\n", largest);
  EXPECT_LE(largest, 2 * std::size_t{8} * quotas / 32);
  EXPECT_EQ(cache.check_invariants(), "");
}

// Chains keep their marks and order as buckets are parted.
TEST(longest_calls, marks_are_found_while_their_table_grows) {
  using detail::mark_kind;
  detail::mark_table marks;
  std::mt19937 random(9);
  constexpr node_id nodes = 700;
  std::vector<std::vector<std::uint32_t>> on(nodes);  // few, and many
  std::uint64_t dearest = 0;
  for (int i = 0; i < 5'000; ++i) {
    const std::uint64_t before = steps_of_thread().marks;
    marks.reserve_one();
    dearest = std::max(dearest, steps_of_thread().marks - before);
    const std::uint32_t m = marks.take_slot();
    marks[m].kind = random() % 4 == 0 ? mark_kind::announced : mark_kind::priority;
    const node_id n = random() % nodes;
    marks.lay(m, n, 1 + random() % 9);
    on[n].push_back(m);
    if (random() % 3 == 0) {
      std::vector<std::uint32_t>& some = on[random() % nodes];
      if (!some.empty()) {
        marks.take_off(some.back());
        marks.give_slot(some.back());
        some.pop_back();
      }
    }
    if (i % 50 != 0) continue;
    std::size_t live = 0;
    for (node_id at = 0; at < nodes; ++at) {
      std::vector<std::uint32_t> found;
      marks.for_each_on(at, [&](std::uint32_t k) { found.push_back(k); });
      std::sort(found.begin(), found.end());
      std::vector<std::uint32_t> want = on[at];
      std::sort(want.begin(), want.end());
      ASSERT_EQ(found, want);
      live += want.size();
      if (const std::uint32_t k = marks.one_of_many_on(at); k != detail::no_index && i % 500 == 0) {
        marks.make_foremost(k);
      }
    }
    ASSERT_EQ(marks.live(), live);
  }
  EXPECT_LE(dearest, 60u);
}

#else

TEST(longest_calls, counts_steps) { GTEST_SKIP() << "built without RADIXKV_DEBUG_CHECKS"; }

#endif

}  // namespace
}  // namespace radixkv::testing
