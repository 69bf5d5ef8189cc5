// What prompts made to be slow can cost, in lines of memory looked at per token (step_count.h), and
// what a tenant's calls tell, by their steps, of another tenant's prompts.
//
// Costs are compared with those of prompts of the same lengths, as many of them, that share
// nothing.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/mix.h"
#include "csrc/core/step_count.h"
#include "radixkv/kv_cache.h"
#include "tests/core/hostile_prompts.h"

namespace radixkv::testing {
namespace {

#if defined(RADIXKV_DEBUG_CHECKS)

using detail::step_counts;
using detail::steps_of_thread;
// A block's comparison reads two lines, of the prompt and of the cache; its hash one of these
// again, out of the first cache. Entries of lists lie four in a line.
double lines(const step_counts& before) {
  const step_counts& now = steps_of_thread();
  const auto since = [&](std::uint64_t step_counts::*member) {
    return static_cast<double>(now.*member - before.*member);
  };
  return since(&step_counts::nodes) + 2 * since(&step_counts::blocks) +
         since(&step_counts::hashed) / 2 + since(&step_counts::lookups) +
         since(&step_counts::entries) / 4 + since(&step_counts::marks);
}

struct cost {
  double match = 0, publish = 0, evict = 0;  // lines per token of the prompts
};

bool publish(kv_cache& cache, const tokens& t, std::string_view space = "") {
  step_plan plan;
  result<sequence> s = cache.open(t, space, plan);
  return s && s->mark_filled(s->tokens()).ok() && s->commit().ok();
}

std::int64_t blocks_of(const prompts& all) {
  std::size_t blocks = 64;
  for (const tokens& t : all) blocks += t.size() / block_tokens + 2;
  return static_cast<std::int64_t>(blocks);
}

kv_cache make_cache(std::int64_t blocks, const char* policy, std::uint32_t tokens = block_tokens) {
  cache_options o;
  o.blocks = blocks;
  o.block_tokens = tokens;
  o.policy = policy;
  return kv_cache::create(std::move(o)).value();
}

// Of serving the prompts, of looking them up, and of evicting as much as they brought.
cost cost_of(kv_cache& cache, const prompts& measured) {
  std::size_t total = 0;
  for (const tokens& t : measured) total += t.size();
  const std::int64_t held = cache.statistics().blocks_cached;
  cost c;
  step_counts before = steps_of_thread();
  for (const tokens& t : measured) EXPECT_TRUE(publish(cache, t));
  c.publish = lines(before) / static_cast<double>(total);
  before = steps_of_thread();
  for (const tokens& t : measured) {
    EXPECT_EQ(cache.match(t).tokens, static_cast<std::int64_t>(t.size()));
  }
  c.match = lines(before) / static_cast<double>(total);
  const std::int64_t brought = cache.statistics().blocks_cached - held;
  before = steps_of_thread();
  EXPECT_EQ(cache.evict(brought), brought);
  c.evict = lines(before) / static_cast<double>(total);
  return c;
}

prompts as_long_as(const prompts& like) {
  std::mt19937 random(77);
  prompts plain;
  for (const tokens& t : like) plain.push_back(random_tokens(random, t.size()));
  return plain;
}

constexpr double most = 3;

void expect_within(const cost& hostile, const cost& normal, const std::string& name) {
  std::printf("%-36s match %.2f/%.2f publish %.2f/%.2f evict %.3f/%.3f lines per token\n",
              name.c_str(), hostile.match, normal.match, hostile.publish, normal.publish,
              hostile.evict, normal.evict);
  EXPECT_LE(hostile.match, most * normal.match) << name;
  EXPECT_LE(hostile.publish, most * normal.publish) << name;
  EXPECT_LE(hostile.evict, most * normal.evict) << name;
}

// The mean of some caches: their secrets differ, and with them the order among siblings.
cost mean_cost_of(const prompts& measured, const char* policy) {
  constexpr int caches = 5;
  cost sum;
  for (int i = 0; i < caches; ++i) {
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
      EXPECT_LE(c.publish, most * normal.publish) << "secrets " << seed;
      worst = {std::max(worst.match, c.match), std::max(worst.publish, c.publish),
               std::max(worst.evict, c.evict)};
    }
    expect_within(worst, normal, "worst of arithmetic " + std::to_string(step) + ", " + GetParam());
  }
}

INSTANTIATE_TEST_SUITE_P(policies, hostile_cost,
                         ::testing::Values("lru", "fifo", "lfu", "slru", "s3fifo", "reuse_index"));

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::size_t many = 200'000;
#else
constexpr std::size_t many = 1'000'000;
#endif

// Prompts of several lengths that go on where many siblings do, made by `make(first, n, length)`.
template <typename Make>
void compare_siblings(const std::string& name, const Make& make) {
  kv_cache one = make_cache(many + 100'000, "lru"), other = make_cache(many + 100'000, "lru");
  for (const tokens& t : make(0, many, block_tokens)) ASSERT_TRUE(publish(one, t));
  std::mt19937 random(9);
  for (std::size_t i = 0; i < many; ++i) {
    ASSERT_TRUE(publish(other, random_tokens(random, block_tokens)));
  }
  for (const std::size_t length : {16u, 32u, 128u, 512u}) {
    const prompts measured = make(many, 1000, length);
    const cost hostile = cost_of(one, measured);
    const cost normal = cost_of(other, as_long_as(measured));
    expect_within(hostile, normal, name + ", length " + std::to_string(length));
  }
}

// A million children of one node.
TEST(hostile_cost_siblings, a_million) {
  for (const std::size_t parting : {0u, 1u, 15u}) {
    compare_siblings("parting at " + std::to_string(parting),
                     [&](std::size_t first, std::size_t n, std::size_t length) {
                       return siblings(first, n, length, parting);
                     });
  }
}

// There is a fork at every length: a place among them is found in the logarithm of a block's
// length, whatever their number.
TEST(hostile_cost_siblings, a_million_that_part_everywhere) {
  compare_siblings("parting everywhere", siblings_parting_everywhere);
}

// Prompts of one block that share 1, 2, … tokens with one of them, which every fork knows, and
// leave in the order in which the next to go is the one that all that are left know.
TEST(hostile_cost_siblings, one_that_all_forks_know) {
  constexpr std::uint32_t length = 256;
  std::mt19937 random(10);
  prompts chain;
  const tokens all = random_tokens(random, length);
  for (std::size_t shared = 1; shared < length; ++shared) {
    chain.push_back(all);
    chain.back()[shared] = ~all[shared];
    if (shared == 1) chain.push_back(all);
  }
  const auto evict_lines = [](const prompts& in_order) {
    kv_cache cache = make_cache(1000, "lru", length);
    for (const tokens& t : in_order) EXPECT_TRUE(publish(cache, t));
    std::vector<const tokens*> used = {&in_order[0], &in_order[1]};
    for (std::size_t i = in_order.size(); i-- > 2;) used.push_back(&in_order[i]);
    for (const tokens* t : used) EXPECT_TRUE(publish(cache, *t));
    const step_counts before = steps_of_thread();
    const auto blocks = static_cast<std::int64_t>(in_order.size());
    EXPECT_EQ(cache.evict(blocks), blocks);
    return lines(before) / static_cast<double>(blocks);
  };
  const double hostile = evict_lines(chain);
  const double normal = evict_lines(as_long_as(chain));
  std::printf("evict %.2f/%.2f lines per block\n", hostile, normal);
  EXPECT_LE(hostile, most * normal);
}

std::vector<step_counts> steps_of_calls(kv_cache& cache, const prompts& mine) {
  std::vector<step_counts> all;
  const auto record = [&](const step_counts& before) {
    const step_counts& now = steps_of_thread();
    // Slots beyond the first of a look-up depend on how full the shared tables are, not of what.
    all.push_back({now.nodes - before.nodes, now.blocks - before.blocks, now.hashed - before.hashed,
                   now.lookups - before.lookups, 0, now.marks - before.marks});
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
      sums[k] += static_cast<double>(c.nodes + c.blocks + c.hashed + c.lookups);
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
