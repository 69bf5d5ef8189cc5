// Shared uncached prefixes of a batch against comparing every pair of prompts.

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

#include "kernels/batch_dedup.h"
#include "tests/support/device_index.h"

namespace radixkv::testing {
namespace {

struct dedup_result {
  std::vector<std::int32_t> representatives;
  std::vector<std::int32_t> shared_blocks;
  bool operator==(const dedup_result&) const = default;
};

dedup_result expected(const device_index& index, const prompt_batch& batch) {
  const std::size_t bt = index.block_tokens();
  dedup_result all;
  for (std::size_t p = 0; p < batch.size(); ++p) {
    const auto mine = batch.prompt(p);
    const std::size_t cached = index.oracle().match(mine, batch.namespaces[p]).size();
    std::size_t most = 0, who = p;
    for (std::size_t q = 0; q < p; ++q) {
      if (batch.namespaces[q] != batch.namespaces[p]) continue;
      const auto other = batch.prompt(q);
      const auto differ = std::mismatch(mine.begin(), mine.end(), other.begin(), other.end());
      const std::size_t common = static_cast<std::size_t>(differ.first - mine.begin()) / bt;
      if (common > cached && common - cached > most) {
        most = common - cached;
        who = q;
      }
    }
    all.representatives.push_back(static_cast<std::int32_t>(who));
    all.shared_blocks.push_back(static_cast<std::int32_t>(most));
  }
  return all;
}

dedup_result on_device(const device_index& index, const prompt_batch& batch, cudaStream_t stream,
                       int times = 1) {
  const device_batch device(batch, index.block_tokens());
  const auto match = device.arguments(index);
  require_cuda(kernels::prefix_match(stream, match));
  const device_array<std::int32_t> representatives(batch.size());
  const device_array<std::int32_t> shared(batch.size());
  std::size_t workspace_bytes = 0;
  require_cuda(kernels::batch_dedup_workspace_bytes(match.prompt_count, match.token_count,
                                                    index.block_tokens(), workspace_bytes));
  const device_array<std::byte> workspace(workspace_bytes);
  kernels::batch_dedup_arguments a;
  a.hash = match.hash;
  a.block_tokens = index.block_tokens();
  a.tokens = match.tokens;
  a.token_offsets = match.token_offsets;
  a.namespace_ids = match.namespace_ids;
  a.prompt_count = match.prompt_count;
  a.token_count = match.token_count;
  a.matched_blocks = match.matched_blocks;
  a.block_table = match.block_table;
  a.representatives = representatives.data();
  a.shared_blocks = shared.data();
  a.workspace = workspace.data();
  a.workspace_bytes = workspace.size();
  for (int i = 0; i < times; ++i) require_cuda(kernels::batch_dedup(stream, a));
  require_cuda(cudaStreamSynchronize(stream));
  return {representatives.download(), shared.download()};
}

prompt_batch random_batch(std::mt19937_64& random, device_index& index, std::size_t prompts) {
  const std::size_t bt = index.block_tokens();
  prompt_batch batch;
  std::vector<std::vector<std::uint32_t>> all;
  for (std::size_t p = 0; p < prompts; ++p) {
    std::vector<std::uint32_t> prompt;
    if (!all.empty() && random() % 4) {  // continues the beginning of another one
      prompt = all[random() % all.size()];
      prompt.resize(random() % (prompt.size() + 1));
    }
    const auto more = random_tokens(random, random() % (6 * bt), 3);
    prompt.insert(prompt.end(), more.begin(), more.end());
    all.push_back(prompt);
    const auto name_space = static_cast<std::int32_t>(random() % 2);
    batch.add(prompt, name_space);
    if (random() % 8 == 0) index.insert(std::span(prompt).first(prompt.size() / 2), name_space);
  }
  return batch;
}

class batch_dedup_hash_bits : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(batch_dedup_hash_bits, equals_comparing_all_pairs) {
  const test_stream stream;
  std::mt19937_64 random(GetParam());
  for (const std::uint32_t block_tokens : {1, 4, 16, 32, 256}) {
    device_index index(4000, block_tokens, GetParam());
    const prompt_batch batch = random_batch(random, index, 60);
    index.upload(stream);
    const dedup_result want = expected(index, batch);
    EXPECT_GT(std::ranges::count_if(want.shared_blocks, [](auto n) { return n > 0; }), 4);
    EXPECT_EQ(on_device(index, batch, stream), want) << block_tokens << " tokens per block";
  }
}

INSTANTIATE_TEST_SUITE_P(forced_collisions, batch_dedup_hash_bits,
                         ::testing::Values(62, 12, 8, 4, 1));

TEST(batch_dedup, many_equal_prompts) {
  const test_stream stream;
  std::mt19937_64 random(1);
  device_index index(100, 16);
  const auto path = random_tokens(random, 900);
  index.insert(std::span(path).first(160), 0);
  index.upload(stream);
  prompt_batch batch;
  for (int i = 0; i < 300; ++i) batch.add(path, 0);
  const dedup_result got = on_device(index, batch, stream, 2);
  for (std::size_t p = 1; p < batch.size(); ++p) {
    ASSERT_EQ(got.representatives[p], 0);
    ASSERT_EQ(got.shared_blocks[p], 46);
  }
  EXPECT_EQ(got.shared_blocks[0], 0);
}

// More prompts than warps that look for them, and prompts that part on both sides of every read
// ahead.
TEST(batch_dedup, many_small_prompts_and_long_ones_that_part_anywhere) {
  const test_stream stream;
  std::mt19937_64 random(3);
  device_index index(100, 4);
  prompt_batch batch;
  dedup_result want;
  for (std::int32_t p = 0; p < 9000; ++p) {
    const bool repeats = p % 3 == 2;
    auto prompt = random_tokens(random, 4 + random() % 8);
    if (repeats) {
      const auto before = batch.prompt(static_cast<std::size_t>(p) - 1);
      prompt.assign(before.begin(), before.end());
    }
    batch.add(prompt, 0);
    want.representatives.push_back(repeats ? p - 1 : p);
    want.shared_blocks.push_back(repeats ? static_cast<std::int32_t>(prompt.size() / 4) : 0);
  }
  const auto path = random_tokens(random, 2100);
  batch.add(path, 0);
  want.representatives.push_back(9000);
  want.shared_blocks.push_back(0);
  for (const std::size_t part : {3, 4, 127, 128, 255, 256, 257, 1023, 1024, 1500, 2050}) {
    auto prompt = path;
    prompt[part] ^= 1;
    batch.add(prompt, 0);
    // Nobody before has parted later from the path.
    want.representatives.push_back(part < 4 ? static_cast<std::int32_t>(batch.size()) - 1 : 9000);
    want.shared_blocks.push_back(static_cast<std::int32_t>(part / 4));
  }
  EXPECT_EQ(on_device(index, batch, stream), want);
}

TEST(batch_dedup, prompts_without_blocks) {
  const test_stream stream;
  device_index index(10, 16);
  prompt_batch batch;
  batch.add({}, 0);
  batch.add(std::vector<std::uint32_t>(15, 1), 0);
  batch.add(std::vector<std::uint32_t>(15, 1), 0);
  EXPECT_EQ(on_device(index, batch, stream), (dedup_result{{0, 1, 2}, {0, 0, 0}}));
  prompt_batch empty;
  empty.add({}, 0);
  EXPECT_EQ(on_device(index, empty, stream), (dedup_result{{0}, {0}}));
}

TEST(batch_dedup, refuses_bad_arguments) {
  const test_stream stream;
  kernels::batch_dedup_arguments a;
  EXPECT_EQ(cudaSuccess, kernels::batch_dedup(stream, a));
  a.prompt_count = 1;
  EXPECT_EQ(cudaErrorInvalidValue, kernels::batch_dedup(stream, a));
  a.block_tokens = 16;
  EXPECT_EQ(cudaErrorInvalidValue, kernels::batch_dedup(stream, a));
  a.token_count = -1;
  EXPECT_EQ(cudaErrorInvalidValue, kernels::batch_dedup(stream, a));
  for (const auto& [tokens, block_tokens] :
       {std::pair{std::int64_t{1} << 50, 16u}, std::pair{std::int64_t{100}, 48u}}) {
    std::size_t bytes = 1;
    EXPECT_EQ(cudaErrorInvalidValue,
              kernels::batch_dedup_workspace_bytes(1, tokens, block_tokens, bytes));
    EXPECT_EQ(0u, bytes);
  }
}

}  // namespace
}  // namespace radixkv::testing
