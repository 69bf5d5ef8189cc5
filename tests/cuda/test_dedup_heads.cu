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

// Adds all and compares with a map. A table of twice as many entries as there may be keys.
void expect_lowest(const std::vector<std::uint64_t>& keys,
                   const std::vector<std::uint32_t>& prompts, std::uint32_t log2_heads) {
  std::map<std::uint64_t, std::uint32_t> lowest;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const auto [at, fresh] = lowest.emplace(keys[i], prompts[i]);
    at->second = std::min(at->second, prompts[i]);
  }
  ASSERT_LE(2 * lowest.size(), std::size_t{1} << log2_heads);
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
  const auto got = found.download();
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

}  // namespace
}  // namespace radixkv::kernels
