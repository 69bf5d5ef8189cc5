// Costs of prompts in lines of memory looked at per token (step_count.h), to be compared with those
// of prompts of the same lengths, as many of them, that share nothing.
#pragma once

#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <string_view>
#include <utility>

#include <gtest/gtest.h>

#include "csrc/core/mix.h"
#include "csrc/core/step_count.h"
#include "radixkv/kv_cache.h"
#include "tests/core/hostile_prompts.h"

namespace radixkv::testing {

#if defined(RADIXKV_DEBUG_CHECKS)

using detail::step_counts;
using detail::steps_of_thread;
// A comparison reads two lines for 16 tokens, of the prompt and of the cache; a hash one of these
// again, out of the first cache. Entries of lists lie four in a line.
inline double lines(const step_counts& before) {
  const step_counts& now = steps_of_thread();
  const auto since = [&](std::uint64_t step_counts::*member) {
    return static_cast<double>(now.*member - before.*member);
  };
  return since(&step_counts::nodes) + 2 * since(&step_counts::token_lines) +
         since(&step_counts::hashed) / 2 + since(&step_counts::lookups) +
         since(&step_counts::entries) / 4 + since(&step_counts::marks);
}

struct cost {
  double match = 0, publish = 0, evict = 0;  // lines per token of the prompts
};

inline bool publish(kv_cache& cache, const tokens& t, std::string_view space = "") {
  step_plan plan;
  result<sequence> s = cache.open(t, space, plan);
  return s && s->mark_filled(s->tokens()).ok() && s->commit().ok();
}

// Publishes what shares so many blocks with a path, and then so many tokens of its next block.
inline bool publish_branch(kv_cache& cache, const tokens& path, std::size_t blocks,
                           std::mt19937& random, std::size_t shared = 0) {
  tokens branch = path;
  branch.resize(blocks * block_tokens + shared);
  const tokens own = random_tokens(random, block_tokens - shared);
  branch.insert(branch.end(), own.begin(), own.end());
  return publish(cache, branch);
}

inline std::int64_t blocks_of(const prompts& all) {
  std::size_t blocks = 64;
  for (const tokens& t : all) blocks += t.size() / block_tokens + 2;
  return static_cast<std::int64_t>(blocks);
}

inline kv_cache make_cache(std::int64_t blocks, const char* policy,
                           std::uint32_t tokens_of_block = block_tokens) {
  cache_options o;
  o.blocks = blocks;
  o.block_tokens = tokens_of_block;
  o.policy = policy;
  return kv_cache::create(std::move(o)).value();
}

// Of serving the prompts, of looking them up, and of evicting as much as they brought.
inline cost cost_of(kv_cache& cache, const prompts& measured) {
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

inline prompts as_long_as(const prompts& like) {
  std::mt19937 random(77);
  prompts plain;
  for (const tokens& t : like) plain.push_back(random_tokens(random, t.size()));
  return plain;
}

// The mean of what is counted with given secrets: they decide the order among siblings and where
// tables are full, and what is counted is not to depend on chance.
template <typename Measure>
double mean_over_secrets(Measure&& measure) {
  constexpr std::uint64_t secrets = 5;
  double sum = 0;
  for (std::uint64_t seed = 0; seed < secrets; ++seed) {
    const detail::fixed_secrets fixed(seed);
    sum += measure();
  }
  return sum / secrets;
}

inline constexpr double most_times = 3;

inline void expect_within(const cost& hostile, const cost& normal, const std::string& name) {
  std::printf("%-36s match %.2f/%.2f publish %.2f/%.2f evict %.3f/%.3f lines per token\n",
              name.c_str(), hostile.match, normal.match, hostile.publish, normal.publish,
              hostile.evict, normal.evict);
  EXPECT_LE(hostile.match, most_times * normal.match) << name;
  EXPECT_LE(hostile.publish, most_times * normal.publish) << name;
  EXPECT_LE(hostile.evict, most_times * normal.evict) << name;
}

#endif

}  // namespace radixkv::testing
