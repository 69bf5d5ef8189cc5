// Offsets that do not ascend: the match ends, stays in its memory and leaves its workspace as it
// found it. Which prompts are found is undefined then, but for those that the header names.
#include <algorithm>
#include <random>

#include "kernels/prefix_job.cuh"
#include "tests/support/device_index.h"

namespace radixkv::testing {
namespace {

constexpr std::uint32_t size = 16;      // tokens of a block
constexpr std::int64_t tile = 64 * 16;  // tokens of a tile; prompts of at most half are short

// A chain of equal tokens: prompts of them match whole, wherever they begin.
struct chain {
  chain() : index(1000, size) {
    index.insert(std::vector<std::uint32_t>(size * 600, 0), 0);
    index.upload(stream);
  }
  // A good batch, in the workspace that the others leave.
  void expect_good(const device_batch& used, const prompt_batch& batch) {
    device_batch good(batch, size);
    auto a = good.arguments(index);
    a.workspace = used.workspace.data();
    RADIXKV_ASSERT_CUDA(kernels::prefix_match(stream, a));
    stream.synchronize();
    ASSERT_EQ(compare_with_oracle(index, batch, good), "");
    for (const std::byte b : used.workspace.download()) ASSERT_EQ(b, std::byte{0});
  }

  test_stream stream;
  device_index index;
};

prompt_batch equal_prompts(std::size_t prompts, std::size_t length) {
  prompt_batch batch;
  for (std::size_t p = 0; p < prompts; ++p) {
    batch.add(std::vector<std::uint32_t>(length, 0), 0);
  }
  return batch;
}

TEST(prefix_match_offsets, long_prompts_that_overlap_count_as_empty) {
  chain c;
  const prompt_batch batch = equal_prompts(3, 2000);
  device_batch overlapping(batch, size);
  overlapping.offsets.upload(std::vector<std::int64_t>{0, 4000, 2000, 6000});
  RADIXKV_ASSERT_CUDA(kernels::prefix_match(c.stream, overlapping.arguments(c.index)));
  c.stream.synchronize();
  EXPECT_EQ(overlapping.matched.download(), (std::vector<std::int32_t>{0, 0, 250}));
  c.expect_good(overlapping, batch);
}

// Every prompt is long or empty: many would share tiles, and the queue would overflow.
TEST(prefix_match_offsets, long_prompts_in_any_order) {
  chain c;
  std::mt19937_64 random(3);
  for (const std::size_t prompts : {3, 31, 32, 33, 64, 150}) {
    const std::size_t length = tile * 24 / prompts / size * size;
    const prompt_batch batch = equal_prompts(prompts, length);
    device_batch bad(batch, size);
    const auto tiles = static_cast<std::int64_t>(batch.tokens.size()) / tile;
    for (int round = 0; round < 6; ++round) {
      std::vector<std::int64_t> offsets(prompts + 1);
      for (std::size_t i = 0; i < offsets.size(); ++i) {
        offsets[i] = round % 2 ? static_cast<std::int64_t>(i % 2) * tiles * tile
                               : static_cast<std::int64_t>(random() % (tiles + 1)) * tile;
      }
      bad.offsets.upload(offsets);
      RADIXKV_ASSERT_CUDA(kernels::prefix_match(c.stream, bad.arguments(c.index)));
      c.stream.synchronize();
      const auto matched = bad.matched.download();
      std::int64_t whole = 0;
      for (std::size_t p = 0; p < prompts; ++p) {
        const std::int64_t tokens = offsets[p + 1] - offsets[p];
        if (matched[p] == 0) continue;
        ASSERT_EQ(matched[p], std::min<std::int64_t>(tokens / size, 600)) << "prompt " << p;
        whole += tokens;
      }
      ASSERT_LE(whole, static_cast<std::int64_t>(batch.tokens.size()));
      c.expect_good(bad, batch);
      if (HasFatalFailure()) return;
    }
  }
}

// Short and long ones anywhere. Nothing is cached, so that no two prompts write to the same row.
TEST(prefix_match_offsets, any_offsets_at_all) {
  test_stream stream;
  std::mt19937_64 random(4);
  for (const std::uint32_t bt : {1u, 16u, 64u}) {
    device_index index(10, bt);
    index.upload(stream);
    for (int round = 0; round < 20; ++round) {
      const std::size_t prompts = 1 + random() % 70;
      const prompt_batch batch = equal_prompts(prompts, 60 + random() % 60);
      const auto all = static_cast<std::int64_t>(batch.tokens.size());
      device_batch bad(batch, bt);
      std::vector<std::int64_t> offsets = batch.offsets;
      for (std::int64_t& offset : offsets) {
        switch (random() % 3) {
          case 0:  // a little to the left or right
            offset = std::clamp<std::int64_t>(
                offset + static_cast<std::int64_t>(random() % 200) - 100, 0, all);
            break;
          case 1:
            offset = static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(all + 1));
            break;
          default:
            break;
        }
      }
      bad.offsets.upload(offsets);
      RADIXKV_ASSERT_CUDA(kernels::prefix_match(stream, bad.arguments(index)));
      stream.synchronize();
      ASSERT_EQ(bad.matched.download(), std::vector<std::int32_t>(prompts, 0));
      for (const std::byte b : bad.workspace.download()) ASSERT_EQ(b, std::byte{0});
    }
  }
}

// A warp per 32 prompts; answers of lanes behind the last prompt are not written.
__global__ void ask_whether_apart(kernels::detail::match_job job, std::int32_t* apart) {
  const std::uint32_t first = blockIdx.x * 32, prompt = first + threadIdx.x;
  const bool valid = prompt < job.prompt_count;
  const std::int64_t begin = prompt <= job.prompt_count ? job.token_offsets[prompt] : 0;
  const std::int64_t end = valid ? job.token_offsets[prompt + 1] : 0;
  const bool answer = kernels::detail::lies_apart(job, first, begin, end, threadIdx.x);
  if (valid) apart[prompt] = answer;
}

// The rule, prompt by prompt.
bool lies_apart(const std::vector<std::int64_t>& offsets, std::size_t prompt) {
  const std::size_t count = offsets.size() - 1;
  bool apart = true;
  for (std::size_t look = 1; look <= count; look *= 2) {
    const std::size_t before = prompt / look * look, behind = std::min(before + look, count);
    apart &= offsets[before] <= offsets[prompt] && offsets[behind] >= offsets[prompt + 1];
  }
  return apart;
}

TEST(prefix_match_offsets, which_prompts_lie_apart) {
  test_stream stream;
  std::mt19937 random(9);
  for (std::size_t count = 1; count <= 140; ++count) {
    for (int kind = 0; kind < 4; ++kind) {
      std::vector<std::int64_t> offsets(count + 1);
      for (std::size_t i = 0; i <= count; ++i) {
        offsets[i] = static_cast<std::int64_t>(10 * i);
        if (kind == 1) offsets[i] = static_cast<std::int64_t>(random() % 50);
        if (kind == 2) offsets[i] = 10 * static_cast<std::int64_t>(count - i);
      }
      // Ascending, but for a few.
      for (std::size_t i = 0; kind == 3 && i < 1 + count / 20; ++i) {
        offsets[random() % (count + 1)] = static_cast<std::int64_t>(random() % (10 * count));
      }
      const device_array<std::int64_t> device_offsets(offsets);
      const device_array<std::int32_t> apart(count);
      kernels::detail::match_job job = {};
      job.token_offsets = device_offsets.data();
      job.prompt_count = static_cast<std::uint32_t>(count);
      ask_whether_apart<<<static_cast<unsigned>((count + 31) / 32), 32, 0, stream>>>(job,
                                                                                     apart.data());
      RADIXKV_ASSERT_CUDA(cudaGetLastError());
      stream.synchronize();
      const std::vector<std::int32_t> answers = apart.download();
      for (std::size_t p = 0; p < count; ++p) {
        ASSERT_EQ(answers[p] != 0, lies_apart(offsets, p)) << p << " of " << count << ", " << kind;
      }
    }
  }
}

}  // namespace
}  // namespace radixkv::testing
