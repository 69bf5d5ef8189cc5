#include <cmath>

#include <gtest/gtest.h>

#include "radixkv/options.h"

namespace radixkv {
namespace {

TEST(options, defaults_with_blocks_are_valid) {
  EXPECT_TRUE(cache_options{.blocks = 1}.validate().ok());
  EXPECT_TRUE(
      (cache_options{.blocks = max_blocks, .block_tokens = max_block_tokens}).validate().ok());
}

TEST(options, each_refusal_names_value_and_limit) {
  const auto refused = [](auto change, const char* message) {
    cache_options o{.blocks = 100};
    change(o);
    const status s = o.validate();
    ASSERT_FALSE(s.ok()) << message;
    EXPECT_EQ(s.error().code, errc::invalid_argument);
    EXPECT_EQ(s.error().message, message);
  };
  refused([](auto& o) { o.blocks = 0; }, "blocks 0 is not in [1, 1073741824]");
  refused([](auto& o) { o.blocks = -5; }, "blocks -5 is not in [1, 1073741824]");
  refused([](auto& o) { o.blocks = max_blocks + 1; },
          "blocks 1073741825 is not in [1, 1073741824]");
  refused([](auto& o) { o.block_tokens = 0; }, "block_tokens 0 is not in [1, 4096]");
  refused([](auto& o) { o.block_tokens = 8192; }, "block_tokens 8192 is not in [1, 4096]");
  refused([](auto& o) { o.block_tokens = 48; },
          "block_tokens 48 is not a power of two in [1, 4096]");
  refused([](auto& o) { o.min_prefix_tokens = 0xffffffffu; },
          "min_prefix_tokens 4294967295 is not in [0, 2147483647]");
  refused([](auto& o) { o.max_prefixes = -1; }, "max_prefixes -1 is not in [0, 2147483647]");
  refused([](auto& o) { o.logits_rows = -1; }, "logits_rows -1 is not in [0, 2147483647]");
  refused([](auto& o) { o.max_sequences = 0; }, "max_sequences 0 is not in [1, 2147483647]");
  refused([](auto& o) { o.low_watermark = -0.5; }, "low_watermark -0.500000 is not in [0, 1]");
  refused([](auto& o) { o.low_watermark = NAN; }, "low_watermark nan is not in [0, 1]");
  refused([](auto& o) { o.high_watermark = 0.05; },
          "high_watermark 0.050000 is not in [low_watermark 0.100000, 1]");
  refused([](auto& o) { o.high_watermark = 1.5; },
          "high_watermark 1.500000 is not in [low_watermark 0.100000, 1]");
  refused([](auto& o) { o.policy.clear(); }, "policy is an empty name");
  refused([](auto& o) { o.hash_bits = 0; }, "hash_bits 0 is not in [1, 64]");
  refused([](auto& o) { o.hash_bits = 65; }, "hash_bits 65 is not in [1, 64]");
}

}  // namespace
}  // namespace radixkv
