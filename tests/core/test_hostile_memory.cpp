// Whatever is asked of a cache, what it keeps on the host is bounded by its options
// (docs/reliability.md).
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"
#include "tests/core/hostile_prompts.h"

namespace radixkv::testing {
namespace {

constexpr std::int64_t blocks = 4096;

// Bytes that statistics().index_bytes may reach, by the parts of which it is the sum.
std::int64_t most_bytes(const cache_options& o, std::int64_t name_bytes,
                        std::int64_t hinted_tokens) {
  constexpr std::int64_t entry = 64 / 3;  // 8 bytes, in a table that has just grown to 3 / 8
  const std::int64_t row = 4 * o.block_tokens;
  const std::int64_t pool = 4 * 8;  // who holds a block, free ones in runs, failed plans
  const std::int64_t id = 4 * 8;    // a chunk of 4 ids has a header and may be a quarter full
  const std::int64_t node = 64;
  const std::int64_t fork = 32;           // one for each but one of its siblings
  const std::int64_t tables = 4 * entry;  // of jumps, of children, of siblings and of their forks
  const std::int64_t policy = 64;         // states, queues, ghosts
  const std::int64_t each = row + pool + id + node + fork + tables + policy;
  const std::int64_t histories = std::max<std::int64_t>(
      64 << 10, static_cast<std::int64_t>(1.9 * static_cast<double>(o.blocks * o.block_tokens)));
  // A root for each block and each open sequence at most, with its name and places in two tables.
  const std::int64_t roots = o.blocks + o.max_sequences;
  const std::int64_t namespaces = roots * (node + policy + 160 + name_bytes);
  constexpr std::int64_t quota = 1300;  // a queue of its own, by chunks of 512 bytes
  const std::int64_t hints = o.max_announcements * 400 +
                             o.max_pinned_prefixes * (750 + name_bytes) + o.max_quotas * quota +
                             o.max_sequence_hints * 150 + hinted_tokens * 8;
  constexpr std::int64_t least = 64 << 10;  // of tables and queues, however little they hold
  return o.blocks * each + histories + (name_bytes > 0 ? namespaces : 0) + hints + least;
}

class hostile_memory : public ::testing::TestWithParam<const char*> {
 protected:
  static cache_options options() {
    cache_options o;
    o.blocks = blocks;
    o.block_tokens = block_tokens;
    o.min_prefix_tokens = 1;
    o.policy = GetParam();
    o.max_sequences = 64;
    o.max_announcements = 0;
    o.max_pinned_prefixes = 0;
    o.max_quotas = 0;
    o.max_sequence_hints = 0;
    return o;
  }

  static bool publish(kv_cache& cache, const tokens& t, std::string_view space = "") {
    step_plan plan;
    result<sequence> s = cache.open(t, space, plan);
    return s && s->mark_filled(s->tokens()).ok() && s->commit().ok();
  }

  // Calls `step(cache, i)` so often, and compares every now and then.
  static void expect_bounded(const char* shape, cache_options o, std::size_t steps,
                             const std::function<void(kv_cache&, std::size_t)>& step,
                             std::int64_t name_bytes = 0, std::int64_t hinted_tokens = 0) {
    const std::int64_t bound = most_bytes(o, name_bytes, hinted_tokens);
    kv_cache cache = kv_cache::create(std::move(o)).value();
    std::int64_t most = 0;
    for (std::size_t i = 0; i < steps; ++i) {
      step(cache, i);
      if (i % 16 != 0) continue;
      most = std::max(most, cache.statistics().index_bytes);
      ASSERT_LE(most, bound) << shape << ", step " << i;
    }
    std::printf("%-28s %-11s %6.1f of %6.1f bytes per token\n", shape, GetParam(),
                static_cast<double>(most) / (blocks * block_tokens),
                static_cast<double>(bound) / (blocks * block_tokens));
    EXPECT_EQ(cache.check_invariants(), "");
    cache.clear();
    EXPECT_EQ(cache.statistics().blocks_free, blocks);
  }

  static void expect_bounded(const char* shape, const prompts& all) {
    // Three times around, so that all of it is evicted and comes again.
    expect_bounded(shape, options(), 3 * all.size(), [&](kv_cache& cache, std::size_t i) {
      EXPECT_TRUE(publish(cache, all[i % all.size()]));
    });
  }
};

TEST_P(hostile_memory, shapes_of_prompts) {
  expect_bounded("deep chain", deep_chain(1200));
  expect_bounded("one-token branches", one_token_branches(8000));
  expect_bounded("uneven runs", uneven_runs(600, 9));
  expect_bounded("children", siblings(0, 3 * blocks, 16, 0));
  expect_bounded("the same first token", siblings(0, 3 * blocks, 16, 15));
  expect_bounded("parting everywhere", siblings_parting_everywhere(0, 3 * blocks, 16));
  expect_bounded("equal steps", arithmetic(3 * blocks, 64, 4096));
  expect_bounded("equal samples", equal_samples(800, 512));
}

// Pairs that part at the last token: as many forks, edges and nodes as there can be.
TEST_P(hostile_memory, forks_for_every_two_nodes) {
  expect_bounded("pairs", options(), 6 * blocks, [](kv_cache& cache, std::size_t i) {
    tokens t(block_tokens, static_cast<token_id>(i / 2 * 0x9e3779b1u));
    t.back() = i % 2;
    EXPECT_TRUE(publish(cache, t));
  });
}

TEST_P(hostile_memory, names) {
  const std::string name(100, 'x');
  expect_bounded(
      "namespaces", options(), 3 * blocks,
      [&](kv_cache& cache, std::size_t i) {
        EXPECT_TRUE(publish(cache, {static_cast<token_id>(i)}, name + std::to_string(i)));
        EXPECT_LE(cache.statistics().namespaces, blocks + 64);
      },
      120);
}

// Sequences that stay open, until the next one is refused.
TEST_P(hostile_memory, open_sequences) {
  std::vector<sequence> held;
  std::mt19937 random(1);
  std::int64_t refused = 0;
  expect_bounded("refused", options(), 3000, [&](kv_cache& cache, std::size_t i) {
    step_plan plan;
    result<sequence> s = cache.open(random_tokens(random, 1 + random() % 3000), "", plan);
    if (s) {
      EXPECT_TRUE(s->mark_filled(s->tokens()).ok() && s->commit().ok());
      held.push_back(std::move(*s));
    } else {
      ++refused;
      EXPECT_EQ(s.error().code, errc::out_of_blocks);
      if (refused % 8 == 0) held.clear();
    }
    EXPECT_LE(cache.statistics().sequences, 64);
    if (i == 2999) held.clear();
  });
  EXPECT_GT(refused, 100);
}

// Plans that failed, until each block has been a copy's destination.
TEST_P(hostile_memory, failed_plans) {
  expect_bounded("failed plans", options(), 3 * blocks, [](kv_cache& cache, std::size_t i) {
    EXPECT_TRUE(publish(cache, {static_cast<token_id>(i), 1, 2}));
    step_plan plan;
    const result<sequence> s = cache.open(tokens{static_cast<token_id>(i), 1, 3}, "", plan);
    EXPECT_TRUE(s.ok() && plan.copies.size() == 1);
    cache.report_failure(plan);
  });
}

TEST_P(hostile_memory, hints) {
  cache_options o = options();
  o.max_announcements = 100;
  o.max_pinned_prefixes = 50;
  o.max_quotas = 200;
  constexpr std::int64_t longest = 200;
  const std::string name(100, 'x');
  std::mt19937 random(2);
  std::vector<announcement> announced;
  std::vector<pinned_prefix> pinned;
  std::int64_t refused = 0;
  const std::int64_t hinted = (o.max_announcements + o.max_pinned_prefixes) * longest;
  expect_bounded(
      "hints", o, 6000,
      [&](kv_cache& cache, std::size_t i) {
        const tokens t = random_tokens(random, 1 + random() % longest);
        const std::string space = name + std::to_string(random() % 400);
        publish(cache, t, space);
        if (auto a = cache.announce(t, space)) {
          announced.push_back(std::move(*a));
        } else {
          ++refused;
        }
        if (auto p = cache.pin_prefix(t, space)) {
          pinned.push_back(std::move(*p));
        } else {
          ++refused;
        }
        refused += !cache.set_quota(space, 1 + static_cast<std::int64_t>(random() % 500)).ok();
        if (i % 997 == 996) announced.clear();
        if (i % 1500 == 1499) pinned.clear();
        if (i == 5999) {
          announced.clear();
          pinned.clear();
        }
      },
      120, hinted);
  EXPECT_GT(refused, 1000);
}

// As many as are taken where next to nothing else is kept: at numbers where tables have just grown.
TEST_P(hostile_memory, pinned_prefixes_and_hardly_any_blocks) {
  const auto pin_all = [](std::int64_t most, std::size_t length, bool with_spaces) {
    cache_options o = options();
    o.blocks = 32;
    o.max_pinned_prefixes = most;
    const std::int64_t bound =
        most_bytes(o, with_spaces ? 40 : 0, most * static_cast<std::int64_t>(length));
    kv_cache cache = kv_cache::create(std::move(o)).value();
    const std::int64_t before = cache.statistics().index_bytes;
    std::vector<pinned_prefix> pinned;
    tokens t(length);
    for (std::int64_t i = 0; i < most; ++i) {
      t.back() = static_cast<token_id>(i);
      const std::string space = with_spaces ? "a tenant with a name, " + std::to_string(i) : "";
      pinned.push_back(cache.pin_prefix(t, space).value());
    }
    EXPECT_FALSE(cache.pin_prefix(t).ok());
    const std::int64_t bytes = cache.statistics().index_bytes;
    std::printf("%lld pinned of %zu tokens, %s: %.1f bytes each\n", static_cast<long long>(most),
                length, GetParam(),
                static_cast<double>(bytes - before) / static_cast<double>(most));
    EXPECT_LE(bytes, bound);
    // What the table of docs/reliability.md says of one, without the rest that the options allow.
    const auto each = static_cast<std::int64_t>(8 * length) + 750 + (with_spaces ? 40 : 0);
    EXPECT_LE(bytes - before, most * each);
    EXPECT_EQ(cache.check_invariants(), "");
  };
  for (const std::int64_t most : {513, 1030, 16'500}) {
    pin_all(most, 1, false);
    pin_all(most, 500, false);
    pin_all(most, 1, true);
  }
}

// A namespace with a quota for each block, one of many in use at a time.
TEST_P(hostile_memory, quotas) {
  cache_options o = options();
  o.max_quotas = blocks;
  expect_bounded(
      "quotas", o, 3 * blocks,
      [&](kv_cache& cache, std::size_t i) {
        const std::string space = "tenant " + std::to_string(i % blocks);
        EXPECT_TRUE(cache.set_quota(space, 10).ok());
        EXPECT_TRUE(publish(cache, {static_cast<token_id>(i)}, space));
      },
      20);
}

INSTANTIATE_TEST_SUITE_P(policies, hostile_memory,
                         ::testing::Values("lru", "fifo", "lfu", "slru", "s3fifo", "reuse_index"));

}  // namespace
}  // namespace radixkv::testing
