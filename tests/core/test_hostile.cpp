// Tenants that mean harm: what they learn of others, and what their prompts can cost. Costs are
// counted in nodes and bytes, not in time; bench/host times them.
#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"
#include "tests/support/sanitized.h"

namespace radixkv {
namespace {

using tokens = std::vector<token_id>;

kv_cache make_cache(cache_options o) {
  o.min_prefix_tokens = 1;
  return kv_cache::create(std::move(o)).value();
}

// Opens, fills, publishes and closes. False if it was refused.
bool publish(kv_cache& cache, const tokens& t, std::string_view space) {
  step_plan plan;
  result<sequence> s = cache.open(t, space, plan);
  if (!s) return false;
  EXPECT_TRUE(s->mark_filled(s->tokens()).ok());
  step_plan after;
  EXPECT_TRUE(s->commit_logits(s->tokens(), 0, after).ok());
  return true;
}

tokens random_tokens(std::mt19937& random, std::size_t n, token_id below) {
  tokens t(n);
  for (token_id& x : t) x = static_cast<token_id>(random() % below);
  return t;
}

// What a tenant sees of its own prompts.
struct view {
  std::int64_t matched = 0;
  std::int64_t blocks = 0;
  bool logits = false;
  friend bool operator==(const view&, const view&) = default;
};

std::vector<view> what_is_seen(const kv_cache& cache, const std::vector<tokens>& prompts,
                               std::string_view space) {
  std::vector<view> seen;
  for (const tokens& t : prompts) {
    const prefix_match m = cache.match(t, space);
    seen.push_back({m.tokens, m.blocks, m.slot != no_slot});
  }
  return seen;
}

// Every bit of what a tenant can ask is the same whether another one has cached the same prompts,
// others, or nothing: no probe tells what another tenant said.
TEST(hostile, another_namespace_is_invisible) {
  for (const std::uint32_t hash_bits : {8u, 64u}) {
    std::mt19937 random(5);
    std::vector<tokens> prompts;
    for (int i = 0; i < 40; ++i) prompts.push_back(random_tokens(random, 1 + random() % 60, 2));
    std::vector<std::vector<view>> seen;
    for (const int other : {0, 1, 2}) {
      cache_options o;
      o.blocks = 4000;
      o.block_tokens = 4;
      o.logits_rows = 200;
      o.hash_bits = hash_bits;
      kv_cache cache = make_cache(std::move(o));
      for (std::size_t i = 0; i < prompts.size(); i += 2) publish(cache, prompts[i], "mine");
      for (std::size_t i = 0; i < prompts.size() && other == 1; ++i) {
        publish(cache, prompts[i], "theirs");
      }
      for (int i = 0; i < 40 && other == 2; ++i) {
        publish(cache, random_tokens(random, 1 + random() % 60, 2), "theirs");
      }
      seen.push_back(what_is_seen(cache, prompts, "mine"));
      const std::vector<view> none = what_is_seen(cache, prompts, "nobody");
      EXPECT_TRUE(std::ranges::all_of(none, [](const view& v) { return v == view{}; }));
    }
    EXPECT_EQ(seen[0], seen[1]);
    EXPECT_EQ(seen[0], seen[2]);
  }
}

// Names that are prefixes of each other, contain zeros, or are empty are different namespaces.
TEST(hostile, names_are_compared_whole) {
  cache_options o;
  o.blocks = 100;
  o.block_tokens = 4;
  kv_cache cache = make_cache(std::move(o));
  const std::string names[] = {"",
                               std::string(1, '\0'),
                               std::string(2, '\0'),
                               "a",
                               std::string("a\0b", 3),
                               std::string("a\0c", 3),
                               std::string(100'000, 'a')};
  const tokens t = {1, 2, 3, 4, 5, 6};
  for (const std::string& name : names) {
    EXPECT_EQ(cache.match(t, name).tokens, 0) << name.size();
    ASSERT_TRUE(publish(cache, t, name));
    EXPECT_EQ(cache.match(t, name).tokens, 6);
  }
  EXPECT_EQ(cache.statistics().namespaces, static_cast<std::int64_t>(std::size(names)));
}

// Namespaces take no place from each other's blocks, however few sequences may be open.
TEST(hostile, every_block_may_be_in_a_namespace_of_its_own) {
  cache_options o;
  o.blocks = 50;
  o.block_tokens = 4;
  o.max_sequences = 1;
  kv_cache cache = make_cache(std::move(o));
  for (token_id i = 0; i < 200; ++i) {
    ASSERT_TRUE(publish(cache, {i, 1, 2}, "tenant " + std::to_string(i)));
    step_plan plan;
    sequence s = cache.open(tokens{i, 1, 2}, "tenant " + std::to_string(i), plan).value();
    ASSERT_TRUE(s.append(tokens{3}, plan).ok());
    ASSERT_TRUE(s.mark_filled(4).ok());
    ASSERT_EQ(s.commit().value().published_tokens, 4);
  }
  EXPECT_GE(cache.statistics().namespaces, 49);
  EXPECT_EQ(cache.check_invariants(), "");
}

// With hashes of 8 bits nearly all collide; each block that is served is still the right one.
TEST(hostile, equal_hashes_never_give_a_wrong_block) {
  cache_options o;
  o.blocks = 20'000;
  o.block_tokens = 2;
  o.hash_bits = 8;
  kv_cache cache = make_cache(std::move(o));
  std::mt19937 random(8);
  std::vector<std::vector<token_id>> owner(20'000);  // block → path that it was filled for
  for (int i = 0; i < 3000; ++i) {
    const tokens t = random_tokens(random, 2 + random() % 20, 3);
    step_plan plan;
    result<sequence> s = cache.open(t, "", plan);
    ASSERT_TRUE(s.ok());
    const std::int64_t whole = s->cached_tokens() / 2;
    const std::span<const block_id> table = s->block_table();
    for (std::int64_t b = 0; b < static_cast<std::int64_t>(table.size()); ++b) {
      const auto end = std::min<std::size_t>(t.size(), static_cast<std::size_t>(2 * b + 2));
      const tokens path(t.begin(), t.begin() + static_cast<std::ptrdiff_t>(end));
      auto& held = owner[static_cast<std::size_t>(table[static_cast<std::size_t>(b)])];
      if (b < whole) {
        ASSERT_EQ(held, path) << "prompt " << i << ", block " << b;
      } else {
        held = path;
      }
    }
    ASSERT_TRUE(s->mark_filled(s->tokens()).ok());
    ASSERT_TRUE(s->commit(s->tokens() / 2 * 2).ok());
  }
  EXPECT_EQ(cache.check_invariants(), "");
}

struct cost {
  std::int64_t nodes = 0;
  std::int64_t bytes = 0;
  std::int64_t tokens = 0;
};

// Index cost of caching prompts that share nothing, to compare shapes with.
cost cost_of(const std::vector<tokens>& prompts, std::int64_t blocks) {
  cache_options o;
  o.blocks = blocks;
  o.block_tokens = 16;
  o.policy = "lru";  // a policy's histories have a bound of their own, a share of the capacity
  kv_cache cache = make_cache(std::move(o));
  const std::int64_t before = cache.statistics().index_bytes;
  for (const tokens& t : prompts) EXPECT_TRUE(publish(cache, t, ""));
  const cache_statistics s = cache.statistics();
  EXPECT_EQ(cache.check_invariants(), "");
  for (const tokens& t : prompts) {
    EXPECT_EQ(cache.match(t, "").tokens, static_cast<std::int64_t>(t.size()));
  }
  return {s.nodes, s.index_bytes - before, s.blocks_cached * 16};
}

// Chains that branch at every token: the index has no node smaller than a block, so there are never
// more nodes than blocks, and its bytes per block stay bounded.
TEST(hostile, one_token_branches_make_no_small_nodes) {
  std::vector<tokens> chains, plain;
  tokens path;
  std::mt19937 random(3);
  for (int i = 0; i < 400; ++i) {
    path.push_back(static_cast<token_id>(random() % 1000));
    tokens branch = path;
    branch.push_back(2000 + static_cast<token_id>(i));  // parts after each token of the chain
    chains.push_back(branch);
  }
  for (int i = 0; i < 400; ++i) plain.push_back(random_tokens(random, 160, 1'000'000));
  const cost hostile = cost_of(chains, 20'000);
  const cost usual = cost_of(plain, 20'000);
  EXPECT_LE(hostile.nodes, hostile.tokens / 16);
  EXPECT_LE(usual.nodes, usual.tokens / 16);
  const double each = static_cast<double>(hostile.bytes) / static_cast<double>(hostile.tokens);
  const double normal = static_cast<double>(usual.bytes) / static_cast<double>(usual.tokens);
  // A block costs its row and, at worst, a node of 64 bytes with its entries in two tables.
  EXPECT_LE(each, 3 * normal);
}

// Many children of one node, found among each other by their tokens whatever their number.
TEST(hostile, a_million_children_of_one_node) {
  constexpr token_id children = sanitized ? 100'000 : 1'000'000;
  cache_options o;
  o.blocks = children + 16;
  o.block_tokens = 1;
  kv_cache cache = make_cache(std::move(o));
  for (token_id i = 0; i < children; ++i) {
    step_plan plan;
    const tokens t = {7, i};
    result<sequence> s = cache.open(t, "", plan);
    ASSERT_TRUE(s.ok());
    ASSERT_TRUE(s->mark_filled(2).ok());
    ASSERT_TRUE(s->commit().ok());
  }
  EXPECT_EQ(cache.statistics().cached_prefixes, children);
  for (token_id i = 0; i < children; i += 997) {
    EXPECT_EQ(cache.match(tokens{7, i}, "").tokens, 2);
    EXPECT_EQ(cache.match(tokens{7, i + children}, "").tokens, 1);
  }
  EXPECT_EQ(cache.check_invariants(), "");
}

// Wide forks below a long common beginning: members leave in any order.
TEST(hostile, siblings_that_share_most_of_a_block_come_and_go) {
  for (token_id shared = 1; shared < 15; ++shared) {
    for (token_id wide = shared + 1; wide < 16; ++wide) {
      cache_options o;
      o.blocks = 64;
      o.block_tokens = 16;
      o.policy = "fifo";
      kv_cache cache = make_cache(std::move(o));
      for (token_id i = 0; i < 100; ++i) {
        tokens t(16, 7);
        t[i % 8 == 7 ? shared : wide] = 100 + i;
        ASSERT_TRUE(publish(cache, t, ""));
        ASSERT_EQ(cache.check_invariants(), "") << shared << ", " << wide << ", prompt " << i;
        ASSERT_EQ(cache.match(t, "").tokens, 16);
      }
      while (cache.evict(1) == 1) ASSERT_EQ(cache.check_invariants(), "");
    }
  }
}

// Whatever arrives, what the cache holds is bounded by its options: prompts, names, sequences.
TEST(hostile, memory_is_bounded_by_options) {
  cache_options o;
  o.blocks = 256;
  o.block_tokens = 4;
  o.logits_rows = 8;
  o.max_sequences = 16;
  kv_cache cache = make_cache(std::move(o));
  std::mt19937 random(11);
  std::int64_t most = 0;
  std::int64_t after_warm_up = 0;
  std::vector<sequence> held;
  for (int i = 0; i < 30'000; ++i) {
    const std::string space = "tenant " + std::to_string(random());
    step_plan plan;
    result<sequence> s =
        cache.open(random_tokens(random, 1 + random() % 900, 1'000'000), space, plan);
    if (s) {
      EXPECT_TRUE(s->mark_filled(s->tokens()).ok());
      step_plan after;
      EXPECT_TRUE(s->commit_logits(s->tokens(), 0, after).ok());
      if (random() % 4 == 0) held.push_back(std::move(*s));
    } else {
      EXPECT_EQ(s.error().code, errc::out_of_blocks);
      held.clear();
    }
    const cache_statistics now = cache.statistics();
    EXPECT_LE(now.sequences, 16);
    EXPECT_LE(now.namespaces, 256 + 16);
    EXPECT_LE(now.nodes, 256 + now.namespaces);
    EXPECT_LE(now.logits_used, 8);
    most = std::max(most, now.index_bytes);
    if (i == 3000) after_warm_up = most;
  }
  EXPECT_LE(most, after_warm_up * 5 / 4);
  held.clear();
  cache.clear();
  EXPECT_EQ(cache.statistics().blocks_free, 256);
  EXPECT_EQ(cache.statistics().namespaces, 0);
}

}  // namespace
}  // namespace radixkv
