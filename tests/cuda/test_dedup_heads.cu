// The table of lowest prompts per hash, filled in any order by many threads at once.

#include <algorithm>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "kernels/dedup_heads.cuh"
#include "tests/cuda/cuda_test.h"

namespace radixkv::kernels {
namespace {

using testing::device_array;
using testing::require_cuda;

__global__ void add_all(dedup_job job, const std::uint64_t* keys, const std::uint32_t* prompts,
                        std::uint32_t count) {
  const std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) add_head(job, keys[i], prompts[i]);
}

__global__ void find_all(dedup_job job, const std::uint64_t* keys, std::uint32_t* heads,
                         std::uint32_t count) {
  const std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) heads[i] = head_of(job, keys[i]);
}

// The lowest prompt of every key.
std::map<std::uint64_t, std::uint32_t> lowest_of(const std::vector<std::uint64_t>& keys,
                                                 const std::vector<std::uint32_t>& prompts) {
  std::map<std::uint64_t, std::uint32_t> lowest;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const auto [at, fresh] = lowest.emplace(keys[i], prompts[i]);
    at->second = std::min(at->second, prompts[i]);
  }
  return lowest;
}

// Adds all, then finds them all. REQUIRES: at most half as many keys as the table has entries.
std::vector<std::uint32_t> add_and_find(const std::vector<std::uint64_t>& keys,
                                        const std::vector<std::uint32_t>& prompts,
                                        std::uint32_t log2_heads) {
  const device_array<unsigned long long> heads(
      std::vector<unsigned long long>(std::size_t{1} << log2_heads, no_head));
  dedup_job job = {};
  job.memory.heads = heads.data();
  job.log2_heads = log2_heads;
  const device_array<std::uint64_t> device_keys(keys);
  const device_array<std::uint32_t> device_prompts(prompts), found(keys.size());
  const auto count = static_cast<std::uint32_t>(keys.size());
  const unsigned blocks = (count + 63) / 64;
  add_all<<<blocks, 64>>>(job, device_keys.data(), device_prompts.data(), count);
  find_all<<<blocks, 64>>>(job, device_keys.data(), found.data(), count);
  require_cuda(cudaGetLastError());
  require_cuda(cudaDeviceSynchronize());
  return found.download();
}

// For keys of different low halves.
void expect_lowest(const std::vector<std::uint64_t>& keys,
                   const std::vector<std::uint32_t>& prompts, std::uint32_t log2_heads) {
  auto lowest = lowest_of(keys, prompts);
  ASSERT_LE(2 * lowest.size(), std::size_t{1} << log2_heads);
  const auto got = add_and_find(keys, prompts, log2_heads);
  for (std::size_t i = 0; i < keys.size(); ++i) ASSERT_EQ(got[i], lowest[keys[i]]) << i;
}

TEST(dedup_heads, the_lowest_prompt_of_a_hash_whatever_comes_first) {
  std::mt19937_64 random(7);
  for (const std::size_t different : {1, 40, 512}) {
    std::vector<std::uint64_t> distinct(different), keys;
    for (std::uint64_t& key : distinct) key = random() & hash_sum_mask;
    std::vector<std::uint32_t> prompts;
    for (std::uint32_t i = 0; i < 1500; ++i) {
      keys.push_back(distinct[random() % different]);
      prompts.push_back(1499 - i);  // ever lower
    }
    expect_lowest(keys, prompts, 10);
    std::shuffle(prompts.begin(), prompts.end(), random);
    expect_lowest(keys, prompts, 10);
  }
}

TEST(dedup_heads, probes_go_round_the_end_of_the_table) {
  std::mt19937_64 random(8);
  std::vector<std::uint64_t> keys;
  std::vector<std::uint32_t> prompts;
  while (keys.size() < 32) {
    const std::uint64_t key = random() & hash_sum_mask;
    if (home_slot(key, 6) < 60) continue;
    for (int twice = 0; twice < 2; ++twice) {
      keys.push_back(key);
      prompts.push_back(static_cast<std::uint32_t>(random() % 1000));
    }
  }
  expect_lowest(keys, prompts, 6);
}

// A key's answer may be another's with the same low half, never one higher than its own.
TEST(dedup_heads, keys_of_equal_halves_and_near_homes_may_share_an_entry) {
  constexpr std::uint32_t log2_heads = 6;
  std::mt19937_64 random(9);
  int lower = 0;
  for (int round = 0; round < 40; ++round) {
    std::vector<std::uint64_t> keys;
    std::vector<std::uint32_t> prompts;
    const auto add = [&](std::uint64_t key) {
      for (int times = 0; times < 3; ++times) {
        keys.push_back(key);
        prompts.push_back(static_cast<std::uint32_t>(random() % 1000));
      }
    };
    for (int family = 0; family < 8; ++family) {
      const std::uint64_t key = random() & hash_sum_mask;
      const std::uint32_t home = home_slot(key, log2_heads);
      add(key);
      for (int relatives = 0; relatives < 3;) {
        const std::uint64_t other = (random() << 32 | (key & 0xffffffffu)) & hash_sum_mask;
        const std::uint32_t away = (home_slot(other, log2_heads) - home) % (1u << log2_heads);
        if (other == key || away > 1) continue;
        add(other);
        ++relatives;
      }
    }
    auto lowest = lowest_of(keys, prompts);
    ASSERT_LE(2 * lowest.size(), std::size_t{1} << log2_heads);
    const auto got = add_and_find(keys, prompts, log2_heads);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      ASSERT_LE(got[i], lowest[keys[i]]) << i;
      bool added = false;
      for (std::size_t j = 0; j < keys.size() && !added; ++j) {
        added = got[i] == prompts[j] && (keys[i] ^ keys[j]) << 32 == 0;
      }
      ASSERT_TRUE(added) << i << ": " << got[i];
      lower += got[i] < lowest[keys[i]] ? 1 : 0;
    }
  }
  EXPECT_GT(lower, 1000);
}

}  // namespace
}  // namespace radixkv::kernels
