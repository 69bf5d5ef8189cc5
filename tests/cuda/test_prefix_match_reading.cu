// How much of a prompt is read: at most 3 × matched + 2,048 tokens. What may not be read is left
// uninitialised, so that the simulator's initialisation check reports a read of it.

#include <random>

#include <gtest/gtest.h>

#include "tests/support/device_index.h"

namespace radixkv::testing {
namespace {

TEST(prefix_match_reading, stops_after_the_first_miss) {
  constexpr std::size_t length = 60'000;
  const test_stream stream;
  std::mt19937_64 random(1);
  const auto path = random_tokens(random, length);
  for (const std::size_t cached :
       {0, 16, 1008, 2032, 2048, 2064, 5000, 8176, 8192, 8208, 12'000, 26'624, 26'640}) {
    device_index index(4000, 16);
    index.insert(std::span(path).first(cached), 0);
    index.upload(stream);
    const std::size_t matched = cached / 16 * 16;
    const std::size_t readable = std::min(length, 3 * matched + 2048);

    device_array<std::uint32_t> tokens(length);
    tokens.upload(std::span(path).first(readable));
    const device_array<std::int64_t> offsets(
        std::vector<std::int64_t>{0, static_cast<std::int64_t>(length)});
    prompt_batch shape;
    shape.add(std::vector<std::uint32_t>(length, 0), 0);
    const device_batch results(shape, 16);
    auto a = results.arguments(index);
    a.tokens = tokens.data();
    a.token_offsets = offsets.data();
    RADIXKV_ASSERT_CUDA(kernels::prefix_match(stream, a));
    stream.synchronize();
    EXPECT_EQ(results.matched.download()[0], static_cast<std::int32_t>(matched / 16));
  }
}

}  // namespace
}  // namespace radixkv::testing
