// The default policy never falls behind LRU by more than its bound, whatever the workload: each run
// is compared with LRU on the same requests, and what the policy says LRU would have hit with what
// LRU did hit.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "bench/eviction_study/study.h"
#include "bench/eviction_study/workload.h"
#include "csrc/core/eviction/reuse_index.h"
#include "radixkv/eviction_policy.h"
#include "radixkv/kv_cache.h"
#include "tests/support/sanitized.h"

namespace radixkv {
namespace {

using study::generate;
using study::outcome;
using study::run;
using study::workload;

constexpr std::uint32_t requests = 6000;

class against_lru : public ::testing::TestWithParam<std::string> {};

void compare(const workload& w, std::int64_t capacity, std::uint32_t block_tokens) {
  const auto lru = std::move(make_policy("lru")).value();
  const auto policy = std::move(make_policy("reuse_index")).value();
  const outcome least = run(w, *lru, capacity, block_tokens);
  const outcome got = run(w, *policy, capacity, block_tokens);
  EXPECT_GE(static_cast<double>(got.hit_blocks), 0.99 * static_cast<double>(least.hit_blocks));
  const policy_statistics said = policy->statistics();
  EXPECT_EQ(said.hit_blocks, static_cast<std::uint64_t>(got.hit_blocks));
  const auto blocks = static_cast<double>(capacity / block_tokens);
  EXPECT_NEAR(static_cast<double>(said.lru_hit_blocks), static_cast<double>(least.hit_blocks),
              0.002 * static_cast<double>(least.hit_blocks) + 25'600.0 / block_tokens);
  // What holds by construction: lru_guard.h.
  EXPECT_LE(static_cast<double>(said.lru_hit_blocks) - static_cast<double>(said.hit_blocks),
            0.005 * static_cast<double>(said.lru_hit_blocks) + blocks);
}

TEST_P(against_lru, loses_less_than_a_hundredth) {
  for (std::uint64_t seed = 1; seed <= (sanitized ? 1 : 5); ++seed) {
    const workload w = generate(GetParam(), requests, seed);
    for (const std::uint32_t block_tokens : {64u, 512u}) {
      for (const std::int64_t capacity : {250'000, 500'000, 1'000'000, 3'000'000}) {
        SCOPED_TRACE("seed " + std::to_string(seed) + ", " + std::to_string(capacity) +
                     " tokens in blocks of " + std::to_string(block_tokens));
        compare(w, capacity, block_tokens);
      }
    }
  }
}

// Where LRU hits nothing there is nothing to lose: what the guard lets the model keep must suffice
// to find that out, in caches of a few prompts, too.
TEST(beside_lru, loops_are_hit_in_caches_of_a_few_prompts) {
  constexpr double prompt_tokens = 10'240;
  for (const auto& [name, prompts] : {std::pair{"loop_small", 40}, std::pair{"loop_beyond", 52}}) {
    const workload w = generate(name, requests, 1);
    for (const std::int64_t capacity : {100'000, 250'000}) {
      for (const std::uint32_t block_tokens : {64u, 512u}) {
        const auto policy = std::move(make_policy("reuse_index")).value();
        const double rate = run(w, *policy, capacity, block_tokens).hit_rate();
        EXPECT_GE(rate, 0.6 * static_cast<double>(capacity) / (prompts * prompt_tokens))
            << name << ", " << capacity << " tokens in blocks of " << block_tokens;
      }
    }
  }
}

// In a loop all prompts are alike, and LRU hits none; that it hits a retry now and then must not
// make the policy follow it for good.
TEST(beside_lru, a_loop_is_hit_though_a_prompt_comes_twice_now_and_then) {
  constexpr std::size_t prompts = 500, prompt_tokens = 30 * 16, rounds = 12;
  for (const std::size_t period : {7u, 20u, 50u}) {
    cache_options o;
    o.blocks = 10'000;  // of 15,000
    o.policy = "reuse_index";
    kv_cache cache = kv_cache::create(std::move(o)).value();
    const auto serve = [&](std::size_t i) {
      std::vector<token_id> prompt(prompt_tokens);
      std::mt19937 random(static_cast<std::uint32_t>(i));
      for (token_id& t : prompt) t = static_cast<token_id>(random() % 50'000);
      step_plan plan;
      sequence s = cache.open(prompt, "", plan).value();
      ASSERT_TRUE(s.mark_filled(s.tokens()).ok() && s.commit().ok());
    };
    policy_statistics before;
    for (std::size_t n = 0; n < rounds * prompts; ++n) {
      if (n == (rounds - 3) * prompts) before = cache.statistics().policy;
      serve(n % prompts);
      if (n % period == 0) serve(n % prompts);
    }
    const policy_statistics after = cache.statistics().policy;
    EXPECT_GE(static_cast<double>(after.hit_blocks - before.hit_blocks),
              0.5 * static_cast<double>(after.blocks - before.blocks))
        << period;
  }
}

// Prompts that nobody repeats, but for a few in a hundred, which come back after a pause without
// memory: there is nothing to know.
workload prompts_that_seldom_return(std::uint64_t seed, double share, double pause) {
  std::mt19937_64 random(seed);
  const auto number = [&](std::uint32_t least, std::uint32_t most) {
    return least + static_cast<std::uint32_t>(random() % (most - least + 1));
  };
  const auto uniform = [&] { return (static_cast<double>(random() >> 11) + 0.5) * 0x1p-53; };
  workload w;
  std::multimap<std::size_t, study::study_request> waiting;  // by the request at which it returns
  while (w.requests.size() < requests) {
    study::study_request r;
    if (!waiting.empty() && waiting.begin()->first <= w.requests.size()) {
      r = waiting.begin()->second;
      waiting.erase(waiting.begin());
    } else {
      r.first_id = static_cast<std::uint32_t>(w.ids.size());
      r.ids = number(4, 60);
      r.prompt_tokens = r.ids * study::id_tokens;
      for (std::uint32_t i = 0; i < r.ids; ++i) w.ids.push_back(r.first_id + i);
    }
    r.seconds = 0.3 * static_cast<double>(w.requests.size());
    r.output_tokens = number(10, 700);
    w.requests.push_back(r);
    if (uniform() < share)
      waiting.emplace(w.requests.size() + static_cast<std::size_t>(-std::log(uniform()) * pause),
                      r);
  }
  return w;
}

// LRU hits so little there that a prompt which is lost early is a large share, so nothing is risked
// until the survey of keys says that more would be hit. What is gained by chance makes up for none
// that is lost.
TEST(beside_lru, nothing_is_risked_where_there_is_nothing_to_know) {
  for (const auto& [share, pause] : {std::pair{0.02, 300.0}, std::pair{0.05, 600.0}}) {
    std::int64_t least = 0, lost = 0;
    for (std::uint64_t seed = 1; seed <= 10; ++seed) {
      const workload w = prompts_that_seldom_return(seed, share, pause);
      for (const std::int64_t capacity : {500'000, 1'000'000}) {
        const auto lru = std::move(make_policy("lru")).value();
        const auto policy = std::move(make_policy("reuse_index")).value();
        const std::int64_t hits = run(w, *lru, capacity, 512).hit_blocks;
        lost += std::max<std::int64_t>(0, hits - run(w, *policy, capacity, 512).hit_blocks);
        least += hits;
      }
    }
    EXPECT_LE(static_cast<double>(lost), 0.01 * static_cast<double>(least)) << share;
  }
}

INSTANTIATE_TEST_SUITE_P(generated, against_lru, ::testing::ValuesIn(study::generated_workloads()),
                         [](const auto& of) { return of.param; });

}  // namespace
}  // namespace radixkv
