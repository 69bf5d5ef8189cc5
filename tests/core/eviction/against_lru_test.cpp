// The default policy never falls behind LRU by more than its bound, whatever the workload: each run
// is compared with LRU on the same requests, and what the policy says LRU would have hit with what
// LRU did hit.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "bench/eviction_study/study.h"
#include "bench/eviction_study/workload.h"
#include "csrc/core/eviction/reuse_index.h"
#include "radixkv/eviction_policy.h"

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
  for (const std::uint64_t seed : {1u, 2u, 3u, 4u, 5u}) {
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

INSTANTIATE_TEST_SUITE_P(generated, against_lru, ::testing::ValuesIn(study::generated_workloads()),
                         [](const auto& of) { return of.param; });

}  // namespace
}  // namespace radixkv
