// Matching against an oracle: every block size, every alignment, skewed lengths, many prompts.

#include <algorithm>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "tests/support/device_index.h"

namespace radixkv::testing {
namespace {

// Prompts that continue, leave or repeat what is cached, cut at any token.
prompt_batch random_batch(std::mt19937_64& random, device_index& index, std::size_t prompts,
                          std::size_t longest_blocks) {
  const std::size_t bt = index.block_tokens();
  std::vector<std::vector<std::uint32_t>> paths;
  std::vector<std::int32_t> namespaces;
  for (int i = 0; i < 8; ++i) {
    std::vector<std::uint32_t> path;
    if (i > 0 && random() % 2) {  // shares a beginning
      const auto& other = paths[random() % paths.size()];
      path.assign(other.begin(),
                  other.begin() + static_cast<std::ptrdiff_t>(random() % (other.size() + 1)));
    }
    const auto more = random_tokens(random, random() % (longest_blocks * bt) + 1);
    path.insert(path.end(), more.begin(), more.end());
    paths.push_back(path);
    namespaces.push_back(static_cast<std::int32_t>(random() % 3));
    index.insert(path, namespaces.back());
  }
  prompt_batch batch;
  for (std::size_t p = 0; p < prompts; ++p) {
    const std::size_t which = random() % paths.size();
    std::vector<std::uint32_t> prompt = paths[which];
    std::size_t length = random() % (prompt.size() + 1);
    if (random() % 3 == 0) length = std::min<std::size_t>(length, random() % (4 * bt));
    prompt.resize(length);
    if (random() % 3 == 0 && !prompt.empty()) prompt[random() % prompt.size()] ^= 1;
    if (random() % 3 == 0) {
      const auto more = random_tokens(random, random() % (2 * bt));
      prompt.insert(prompt.end(), more.begin(), more.end());
    }
    batch.add(prompt,
              random() % 8 == 0 ? static_cast<std::int32_t>(random() % 4) : namespaces[which]);
  }
  return batch;
}

class prefix_match_block_size : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(prefix_match_block_size, equals_the_oracle) {
  const std::uint32_t bt = GetParam();
  const test_stream stream;
  std::mt19937_64 random(bt);
  for (std::uint32_t misalignment = 0; misalignment < 4; ++misalignment) {
    const std::size_t longest = std::max<std::size_t>(8, std::min<std::size_t>(400, 6400 / bt));
    device_index index(4000, bt);
    const prompt_batch batch = random_batch(random, index, 90, longest);
    index.upload(stream);
    EXPECT_EQ(index.mirror().check_invariants(), "");
    EXPECT_EQ(match_and_compare(index, batch, stream, misalignment), "")
        << "misaligned by " << misalignment << " tokens";
  }
}

INSTANTIATE_TEST_SUITE_P(all, prefix_match_block_size,
                         ::testing::Values(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024));

TEST(prefix_match, every_length_around_the_tiles) {
  const test_stream stream;
  std::mt19937_64 random(1);
  device_index index(1000, 16);
  const auto path = random_tokens(random, 9000);
  index.insert(path, 0);
  index.upload(stream);
  prompt_batch batch;
  for (const std::size_t around : {0, 16, 512, 528, 1024, 2048, 3072, 8192}) {
    for (std::size_t length = around < 18 ? 0 : around - 18; length < around + 18; ++length) {
      batch.add(std::span(path).first(length), 0);
    }
  }
  EXPECT_EQ(match_and_compare(index, batch, stream), "");
}

TEST(prefix_match, a_miss_anywhere_in_a_long_prompt) {
  const test_stream stream;
  std::mt19937_64 random(2);
  device_index index(3000, 16);
  const auto path = random_tokens(random, 30'000);
  index.insert(path, 5);
  index.upload(stream);
  prompt_batch batch;
  for (int i = 0; i < 12; ++i) {
    auto prompt = path;
    prompt[random() % prompt.size()] += 1;
    batch.add(prompt, 5);
  }
  batch.add(path, 5);
  batch.add(path, 4);
  EXPECT_EQ(match_and_compare(index, batch, stream), "");
}

TEST(prefix_match, what_evictions_leave) {
  const test_stream stream;
  std::mt19937_64 random(3);
  device_index index(2000, 16);
  std::vector<std::vector<std::uint32_t>> paths;
  for (int i = 0; i < 10; ++i) {
    auto path = i == 0 ? std::vector<std::uint32_t>() : paths[0];
    path.resize(std::min<std::size_t>(path.size(), random() % 1500));
    const auto more = random_tokens(random, 2000);
    path.insert(path.end(), more.begin(), more.end());
    paths.push_back(path);
    index.insert(path, 0);
  }
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < 150; ++i) {
      (void)index.remove_last(paths[random() % paths.size()], 0);
    }
    index.insert(paths[random() % paths.size()], 0);
    index.upload(stream);
    ASSERT_EQ(index.mirror().check_invariants(), "");
    prompt_batch batch;
    for (const auto& path : paths) batch.add(path, 0);
    EXPECT_EQ(match_and_compare(index, batch, stream), "");
  }
}

TEST(prefix_match, many_tiny_prompts) {
  const test_stream stream;
  std::mt19937_64 random(4);
  device_index index(2000, 16);
  std::vector<std::vector<std::uint32_t>> paths;
  for (int i = 0; i < 500; ++i) {
    paths.push_back(random_tokens(random, 48));
    index.insert(paths.back(), 0);
  }
  index.upload(stream);
  prompt_batch batch;
  for (int i = 0; i < 5000; ++i) {
    const std::size_t length = random() % 45;
    if (random() % 2) {
      batch.add(std::span(paths[random() % paths.size()]).first(length), 0);
    } else {
      batch.add(random_tokens(random, length), 0);
    }
  }
  EXPECT_EQ(match_and_compare(index, batch, stream), "");
}

// Thread blocks that have not started must hold nothing that those that run wait for.
TEST(prefix_match, a_grid_larger_than_the_device) {
  const test_stream stream;
  device_index index(1000, 1);
  const std::vector<std::uint32_t> path(500, 3);
  index.insert(path, 0);
  index.upload(stream);
  prompt_batch batch;
  for (int i = 0; i < 120'000; ++i) batch.add(std::vector<std::uint32_t>{i % 2 == 0 ? 3u : 4u}, 0);
  for (int i = 0; i < 3; ++i) batch.add(path, 0);
  const device_batch on_device(batch, 1);
  auto arguments = on_device.arguments(index);
  arguments.multiprocessors = 2000;
  RADIXKV_ASSERT_CUDA(kernels::prefix_match(stream, arguments));
  stream.synchronize();
  EXPECT_EQ(compare_with_oracle(index, batch, on_device), "");
}

TEST(prefix_match, one_prompt_of_a_million_tokens) {
  const test_stream stream;
  std::mt19937_64 random(5);
  device_index index(1000, 1024);
  const auto path = random_tokens(random, 1'000'000);
  index.insert(path, 0);
  index.upload(stream);
  prompt_batch batch;
  batch.add(path, 0);
  EXPECT_EQ(match_and_compare(index, batch, stream), "");
}

TEST(prefix_match, nothing_cached_and_empty_prompts) {
  const test_stream stream;
  device_index index(10, 16);
  prompt_batch batch;
  batch.add({}, 0);
  batch.add(std::vector<std::uint32_t>(5000, 0), 0);
  batch.add({}, 0);
  batch.add(std::vector<std::uint32_t>(15, 7), 2);
  EXPECT_EQ(match_and_compare(index, batch, stream), "");
  prompt_batch empty;
  empty.add({}, 0);
  EXPECT_EQ(match_and_compare(index, empty, stream), "");
}

// Tokens that hashes without secrets trip over.
TEST(prefix_match, repetitive_tokens) {
  const test_stream stream;
  device_index index(2000, 16);
  prompt_batch batch;
  std::vector<std::uint32_t> zeros(4000, 0);
  std::vector<std::uint32_t> thue_morse(4096);
  for (std::size_t i = 0; i < thue_morse.size(); ++i) {
    thue_morse[i] = static_cast<std::uint32_t>(__builtin_popcountll(i) & 1);
  }
  index.insert(zeros, 0);
  index.insert(thue_morse, 0);
  index.upload(stream);
  for (auto& t : thue_morse) t ^= 1;
  batch.add(thue_morse, 0);
  for (auto& t : thue_morse) t ^= 1;
  batch.add(thue_morse, 0);
  batch.add(zeros, 0);
  zeros.resize(10'000);
  batch.add(zeros, 0);
  zeros[2047] = 0xffffffff;
  batch.add(zeros, 0);
  EXPECT_EQ(match_and_compare(index, batch, stream), "");
}

TEST(prefix_match, matches_again_with_the_same_workspace) {
  const test_stream stream;
  std::mt19937_64 random(6);
  device_index index(4000, 16);
  const prompt_batch batch = random_batch(random, index, 60, 400);
  index.upload(stream);
  const device_batch on_device(batch, 16);
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(cudaSuccess, kernels::prefix_match(stream, on_device.arguments(index)));
  }
  stream.synchronize();
  EXPECT_EQ(compare_with_oracle(index, batch, on_device), "");
}

TEST(prefix_match, inside_a_graph) {
  const test_stream stream;
  std::mt19937_64 random(7);
  device_index index(4000, 16);
  const prompt_batch batch = random_batch(random, index, 40, 300);
  index.upload(stream);
  const device_batch on_device(batch, 16);
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  RADIXKV_ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  RADIXKV_ASSERT_CUDA(kernels::prefix_match(stream, on_device.arguments(index)));
  RADIXKV_ASSERT_CUDA(cudaStreamEndCapture(stream, &graph));
  RADIXKV_ASSERT_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  for (int i = 0; i < 2; ++i) RADIXKV_ASSERT_CUDA(cudaGraphLaunch(executable, stream));
  stream.synchronize();
  EXPECT_EQ(compare_with_oracle(index, batch, on_device), "");
  RADIXKV_ASSERT_CUDA(cudaGraphExecDestroy(executable));
  RADIXKV_ASSERT_CUDA(cudaGraphDestroy(graph));
}

TEST(prefix_match, refuses_bad_arguments) {
  const test_stream stream;
  device_index index(10, 16);
  prompt_batch batch;
  batch.add(std::vector<std::uint32_t>(100, 1), 0);
  const device_batch on_device(batch, 16);
  const auto good = on_device.arguments(index);
  const auto refused = [&](auto&& spoil) {
    auto bad = good;
    spoil(bad);
    return kernels::prefix_match(stream, bad);
  };
  EXPECT_EQ(cudaErrorInvalidValue, refused([](auto& a) { a.tokens = nullptr; }));
  EXPECT_EQ(cudaErrorInvalidValue, refused([](auto& a) { a.token_offsets = nullptr; }));
  EXPECT_EQ(cudaErrorInvalidValue, refused([](auto& a) { a.matched_blocks = nullptr; }));
  EXPECT_EQ(cudaErrorInvalidValue, refused([](auto& a) { a.block_table = nullptr; }));
  EXPECT_EQ(cudaErrorInvalidValue, refused([](auto& a) { a.workspace = nullptr; }));
  EXPECT_EQ(cudaErrorInvalidValue, refused([](auto& a) { --a.workspace_bytes; }));
  EXPECT_EQ(cudaErrorInvalidValue, refused([](auto& a) { a.table.blocks = nullptr; }));
  EXPECT_EQ(cudaErrorInvalidValue, refused([](auto& a) { a.table.groups = nullptr; }));
  EXPECT_EQ(cudaErrorInvalidValue, refused([](auto& a) { a.table.tokens = nullptr; }));
  EXPECT_EQ(cudaErrorInvalidValue, refused([](auto& a) { a.table.block_tokens = 48; }));
  EXPECT_EQ(cudaErrorInvalidValue, refused([](auto& a) { a.table.block_tokens = 2048; }));
  EXPECT_EQ(cudaErrorInvalidValue, refused([](auto& a) { a.table.block_tokens = 0; }));
  EXPECT_EQ(cudaErrorInvalidValue, refused([](auto& a) { a.table.log2_slots = 40; }));
  EXPECT_EQ(cudaErrorInvalidValue, refused([](auto& a) { a.table.block_count = 1 << 20; }));
  EXPECT_EQ(cudaErrorInvalidValue, refused([](auto& a) { a.token_count = -1; }));
  EXPECT_EQ(cudaErrorInvalidValue, refused([](auto& a) { a.token_count = std::int64_t{1} << 31; }));
  EXPECT_EQ(cudaErrorMisalignedAddress,
            refused([](auto& a) { a.workspace = static_cast<std::byte*>(a.workspace) + 8; }));
  EXPECT_EQ(cudaErrorMisalignedAddress, refused([](auto& a) { a.table.tokens += 1; }));
  EXPECT_EQ(cudaSuccess, refused([](auto& a) { a.prompt_count = 0; }));
  EXPECT_EQ(cudaSuccess, refused([](auto&) {}));
  stream.synchronize();
}

// Offsets outside of the batch give an empty prompt, not an access.
TEST(prefix_match, offsets_outside_of_the_batch) {
  const test_stream stream;
  device_index index(100, 16);
  const std::vector<std::uint32_t> path(64, 3);
  index.insert(path, 0);
  index.upload(stream);
  prompt_batch batch;
  batch.add(path, 0);
  batch.add(path, 0);
  device_batch on_device(batch, 16);
  on_device.offsets.upload(std::vector<std::int64_t>{0, 64, 5000});
  RADIXKV_ASSERT_CUDA(kernels::prefix_match(stream, on_device.arguments(index)));
  stream.synchronize();
  EXPECT_EQ(on_device.matched.download(), (std::vector<std::int32_t>{4, 0}));
  on_device.offsets.upload(std::vector<std::int64_t>{-64, 0, 64});
  RADIXKV_ASSERT_CUDA(kernels::prefix_match(stream, on_device.arguments(index)));
  stream.synchronize();
  EXPECT_EQ(on_device.matched.download(), (std::vector<std::int32_t>{0, 4}));
}

}  // namespace
}  // namespace radixkv::testing
