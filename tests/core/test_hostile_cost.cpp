// What prompts made to be slow can cost (hostile_cost.h), and what a tenant's calls tell, by their
// steps, of another tenant's prompts.
#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/mix.h"
#include "radixkv/index_listener.h"
#include "tests/core/hostile_cost.h"

namespace radixkv::testing {
namespace {

#if defined(RADIXKV_DEBUG_CHECKS)

// The mean of some caches: their secrets differ, and with them the order among siblings.
cost mean_cost_of(const prompts& measured, const char* policy) {
  constexpr int caches = 5;
  cost sum;
  for (int i = 0; i < caches; ++i) {
    const detail::fixed_secrets fixed(static_cast<std::uint64_t>(i));
    kv_cache cache = make_cache(blocks_of(measured), policy);
    const cost c = cost_of(cache, measured);
    sum = {sum.match + c.match / caches, sum.publish + c.publish / caches,
           sum.evict + c.evict / caches};
  }
  return sum;
}

void compare(const std::string& name, const prompts& measured, const char* policy) {
  expect_within(mean_cost_of(measured, policy), mean_cost_of(as_long_as(measured), policy),
                name + ", " + policy);
}

class hostile_cost : public ::testing::TestWithParam<const char*> {};

TEST_P(hostile_cost, deep_chains) { compare("deep chain", deep_chain(400), GetParam()); }

TEST_P(hostile_cost, one_token_branches) {
  compare("one-token branches", one_token_branches(1500), GetParam());
}

TEST_P(hostile_cost, uneven_runs) {
  for (const std::size_t longer : {5u, 9u, 17u}) {
    const prompts all = uneven_runs(150, longer);
    compare(("uneven runs " + std::to_string(longer)).c_str(), all, GetParam());
  }
}

// Lines per token of a match of one path, made of runs of so many blocks again and again, or of
// one. Branches share so many tokens of a block with it.
double match_cost(const std::vector<std::size_t>& runs, bool whole, std::size_t shared = 0) {
  constexpr std::size_t blocks = 400;
  std::mt19937 random(7);
  kv_cache cache = make_cache(2 * blocks, "lru");
  const tokens path = random_tokens(random, blocks * block_tokens);
  EXPECT_TRUE(publish(cache, path));
  std::size_t at = 0;
  for (std::size_t i = 0; !whole && (at += runs[i % runs.size()]) < blocks; ++i) {
    EXPECT_TRUE(publish_branch(cache, path, at, random, shared));
  }
  const step_counts before = steps_of_thread();
  EXPECT_EQ(cache.match(path).tokens, static_cast<std::int64_t>(path.size()));
  return lines(before) / static_cast<double>(path.size());
}

// What was looked up ahead of a run behind which path hashes start anew is of no use: that it is
// given up there, and not gone on with, keeps these paths, found by a search for the dearest,
// cheap.
TEST(hostile_cost_of_matches, long_runs_among_short_ones) {
  const double normal = match_cost({}, true);
  for (const std::vector<std::size_t>& runs :
       std::vector<std::vector<std::size_t>>{{2},
                                             {1, 9, 1},
                                             {1, 1, 5, 1},
                                             {1, 1, 9, 1, 1, 1, 2},
                                             {9, 1, 1, 3, 2},
                                             {1, 2, 1, 1, 3, 4, 9, 1, 1},
                                             {1, 1, 1, 9, 1, 1, 1, 1},
                                             {1, 1, 9, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1}}) {
    for (const std::size_t shared : {std::size_t{0}, block_tokens - std::size_t{2}}) {
      const double hostile = mean_over_secrets([&] { return match_cost(runs, false, shared); });
      std::printf("%zu runs again and again, %zu tokens shared: match %.2f/%.2f lines per token\n",
                  runs.size(), shared, hostile, normal);
      EXPECT_LE(hostile, most_times * normal);
    }
  }
}

TEST_P(hostile_cost, equal_samples_of_paths) {
  compare("equal samples", equal_samples(4000, 512), GetParam());
}

TEST_P(hostile_cost, arithmetic_tokens) {
  for (const std::uint64_t step :
       {1ull, 1ull << 12, 1ull << 20, 0x9e3779b97f4a7c15ull, 0xf1de83e19937733dull}) {
    compare(("arithmetic " + std::to_string(step)).c_str(), arithmetic(4000, 64, step), GetParam());
  }
}

// The worst of many secrets, not their mean: none of them makes such tokens dear.
TEST_P(hostile_cost, arithmetic_tokens_whatever_the_secrets) {
  constexpr std::uint64_t fixed = 150, fresh = 50;
  for (const std::uint64_t step : {std::uint64_t{1}, std::uint64_t{1} << 12}) {
    const prompts measured = arithmetic(1000, 64, step);
    const cost normal = mean_cost_of(as_long_as(measured), GetParam());
    cost worst;
    for (std::uint64_t i = 0; i < fixed + fresh; ++i) {
      const std::uint64_t seed = i < fixed ? i : detail::random_secret();
      const detail::fixed_secrets secrets(seed);
      kv_cache cache = make_cache(blocks_of(measured), GetParam());
      const cost c = cost_of(cache, measured);
      EXPECT_LE(c.publish, most_times * normal.publish) << "secrets " << seed;
      worst = {std::max(worst.match, c.match), std::max(worst.publish, c.publish),
               std::max(worst.evict, c.evict)};
    }
    expect_within(worst, normal, "worst of arithmetic " + std::to_string(step) + ", " + GetParam());
  }
}

// What requests cost in lines that have to evict while so many sequences are open, which share a
// prefix: of each its own end, or, as forks, nothing.
double cost_beside(std::size_t open, bool forks, std::size_t shared_blocks, const char* policy) {
  std::mt19937 random(3);
  constexpr std::int64_t blocks = 6000;
  kv_cache cache = make_cache(blocks, policy);
  step_plan plan;
  const tokens shared = random_tokens(random, shared_blocks * block_tokens);
  std::vector<sequence> held;
  while (held.size() < open) {
    if (forks && !held.empty()) {
      held.push_back(held.front().fork().value());
      continue;
    }
    tokens t = shared;
    const tokens own = random_tokens(random, block_tokens + 3);
    t.insert(t.end(), own.begin(), own.end());
    held.push_back(cache.open(t, "", plan).value());
    EXPECT_TRUE(held.back().mark_filled(held.back().tokens()).ok() && held.back().commit().ok());
  }
  prompts cold;
  for (int i = 0; i < 200; ++i) cold.push_back(random_tokens(random, 30 * block_tokens));
  for (const tokens& t : cold) EXPECT_TRUE(publish(cache, t));
  EXPECT_GT(cache.statistics().evicted_blocks, 0);
  const step_counts before = steps_of_thread();
  std::size_t total = 0;
  for (int i = 0; i < 100; ++i) {
    const tokens t = random_tokens(random, 30 * block_tokens);
    total += t.size();
    EXPECT_TRUE(publish(cache, t));
  }
  const double cost = lines(before) / static_cast<double>(total);
  EXPECT_EQ(cache.check_invariants(), "");
  return cost;
}

// Whoever holds sequences open does not make others walk through them when they look for room.
TEST_P(hostile_cost, open_sequences) {
  const auto mean = [](std::size_t open, bool forks) {
    return mean_over_secrets([=] { return cost_beside(open, forks, 100, GetParam()); });
  };
  const double normal = mean(1, false);
  for (const bool forks : {false, true}) {
    const double many = mean(500, forks);
    std::printf("500 open%s, %s: %.3f/%.3f lines per token\n", forks ? " forks" : "", GetParam(),
                many, normal);
    EXPECT_LE(many, 1.05 * normal) << forks;
  }
}

// Lines per block that sequences generate in a full pool; each forked once before, or not.
double generating_cost(bool forked, const char* policy) {
  std::mt19937 random(5);
  kv_cache cache = make_cache(6000, policy);
  step_plan plan;
  std::vector<sequence> generating;
  for (int k = 0; k < 32; ++k) {
    sequence s = cache.open(random_tokens(random, 10 * block_tokens), "", plan).value();
    EXPECT_TRUE(s.mark_filled(s.tokens()).ok() && s.commit().ok());
    if (forked) (void)s.fork().value();
    generating.push_back(std::move(s));
  }
  prompts recent;
  for (int i = 0; i < 600; ++i) {
    if (i % 4 == 3) {
      EXPECT_TRUE(publish(cache, recent[recent.size() - 1 - random() % 3]));
    }
    recent.push_back(random_tokens(random, 20 * block_tokens));
    EXPECT_TRUE(publish(cache, recent.back()));
  }
  const step_counts before = steps_of_thread();
  constexpr int steps = 20;
  for (int i = 0; i < steps; ++i) {
    for (sequence& s : generating) {
      EXPECT_TRUE(s.append(random_tokens(random, block_tokens), plan).ok());
      EXPECT_TRUE(s.mark_filled(s.tokens()).ok() && s.commit().ok());
    }
  }
  const double cost = lines(before) / steps / static_cast<double>(generating.size());
  EXPECT_EQ(cache.check_invariants(), "");
  return cost;
}

// That somebody else's request ended where a sequence goes on does not make eviction look for it.
TEST_P(hostile_cost, sequences_that_were_forked_generate) {
  const double normal = generating_cost(false, GetParam());
  const double forked = generating_cost(true, GetParam());
  std::printf("forked once, %s: %.1f/%.1f lines per block\n", GetParam(), forked, normal);
  EXPECT_LE(forked, most_times * normal);
}

class takes_all final : public index_listener {
 public:
  bool on_publish(block_id, block_id, std::string_view,
                  std::span<const token_id>) noexcept override {
    return true;
  }
  std::uint64_t on_drop(block_id) noexcept override { return 0; }
  std::uint64_t retired() noexcept override { return 0; }
};

// Nodes looked at per block by a commit of what somebody else has published, a node for each block.
double duplicates_cost(bool listens) {
  constexpr std::size_t path = 500;
  std::mt19937 random(4);
  cache_options o;
  o.blocks = 3 * path;
  o.block_tokens = block_tokens;
  o.policy = "lru";
  if (listens) o.listener = std::make_shared<takes_all>();
  kv_cache cache = kv_cache::create(std::move(o)).value();
  const tokens t = random_tokens(random, path * block_tokens);
  step_plan plan;
  sequence late = cache.open(t, "", plan).value();
  EXPECT_TRUE(publish(cache, t));
  for (std::size_t i = 1; i < path; ++i) {
    tokens branch(t.begin(), t.begin() + static_cast<std::ptrdiff_t>(i * block_tokens));
    branch.resize(branch.size() + block_tokens, 9);
    EXPECT_TRUE(publish(cache, branch));
  }
  const std::uint64_t before = steps_of_thread().nodes;
  EXPECT_TRUE(late.mark_filled(late.tokens()).ok());
  EXPECT_EQ(late.commit().value().duplicate_blocks, static_cast<std::int64_t>(path));
  return static_cast<double>(steps_of_thread().nodes - before) / path;
}

TEST(hostile_cost_of_listeners, duplicates_are_not_looked_for_once_more_for_a_listener) {
  const double silent = mean_over_secrets([] { return duplicates_cost(false); });
  EXPECT_LE(mean_over_secrets([] { return duplicates_cost(true); }), 1.1 * silent);
}

INSTANTIATE_TEST_SUITE_P(policies, hostile_cost,
                         ::testing::Values("lru", "fifo", "lfu", "slru", "s3fifo", "reuse_index"));

std::vector<step_counts> steps_of_calls(kv_cache& cache, const prompts& mine) {
  std::vector<step_counts> all;
  const auto record = [&](const step_counts& before) {
    const step_counts& now = steps_of_thread();
    // Slots beyond the first of a look-up depend on how full the shared tables are, not of what.
    all.push_back({now.nodes - before.nodes, now.token_lines - before.token_lines,
                   now.hashed - before.hashed, now.lookups - before.lookups, 0,
                   now.marks - before.marks});
  };
  for (const tokens& t : mine) {
    step_counts before = steps_of_thread();
    (void)cache.match(t, "mine");
    record(before);
    before = steps_of_thread();
    step_plan plan;
    sequence s = cache.open(t, "mine", plan).value();
    record(before);
    before = steps_of_thread();
    EXPECT_TRUE(s.mark_filled(s.tokens()).ok() && s.commit().ok());
    record(before);
    before = steps_of_thread();
    s.release();
    record(before);
  }
  return all;
}

// The steps of my calls when another tenant has cached the same prompts, others, or none.
std::array<std::vector<step_counts>, 3> beside_others(const prompts& mine, const char* policy) {
  const prompts others = as_long_as(mine);
  std::array<std::vector<step_counts>, 3> seen;
  for (std::size_t other = 0; other < 3; ++other) {
    kv_cache cache = make_cache(20'000, policy);
    for (std::size_t i = 0; i < mine.size() && other > 0; ++i) {
      EXPECT_TRUE(publish(cache, other == 1 ? mine[i] : others[i], "theirs"));
    }
    seen[other] = steps_of_calls(cache, mine);
  }
  return seen;
}

// Each goes on from a block of an earlier one.
prompts conversations(token_id alphabet, std::size_t step) {
  std::mt19937 random(6);
  prompts mine;
  for (std::size_t i = 0; i < 200; ++i) {
    tokens t;
    if (i % 2 != 0) t = mine[random() % mine.size()];
    t.resize(t.size() / 2 / step * step);
    const std::size_t n = t.size() + 1 + random() % 200;
    while (t.size() < n) t.push_back(static_cast<token_id>(random() % alphabet));
    mine.push_back(std::move(t));
  }
  return mine;
}

// Match, open, commit and release take the very same steps whatever another tenant has cached:
// there is nothing that their time could tell.
TEST_P(hostile_cost, another_tenant_changes_no_step) {
  const auto seen = beside_others(conversations(1'000'000'000, block_tokens), GetParam());
  for (std::size_t i = 0; i < seen[0].size(); ++i) {
    ASSERT_EQ(seen[0][i], seen[1][i]) << "call " << i;
    ASSERT_EQ(seen[0][i], seen[2][i]) << "call " << i;
  }
}

// Among siblings that part inside a block the order of steps is random, by design: then the mean is
// the same.
TEST_P(hostile_cost, another_tenant_changes_no_mean) {
  const auto seen = beside_others(conversations(3, 1), GetParam());
  double sums[3] = {};
  for (std::size_t k = 0; k < 3; ++k) {
    for (const step_counts& c : seen[k]) {
      sums[k] += static_cast<double>(c.nodes + c.token_lines + c.hashed + c.lookups);
    }
  }
  EXPECT_NEAR(sums[1] / sums[0], 1, 0.1);
  EXPECT_NEAR(sums[2] / sums[0], 1, 0.1);
}

#else

TEST(hostile_cost, counts_steps) { GTEST_SKIP() << "built without RADIXKV_DEBUG_CHECKS"; }

#endif

}  // namespace
}  // namespace radixkv::testing
