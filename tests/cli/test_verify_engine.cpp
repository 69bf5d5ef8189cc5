#include <vector>

#include <gtest/gtest.h>

#include "csrc/cli/verify_engine.h"

namespace radixkv::cli {
namespace {

constexpr std::uint32_t block_tokens = 4;

// Host memory in which one chosen write goes wrong.
class faulty_memory final : public kv_memory {
 public:
  explicit faulty_memory(std::int64_t damaged_write) : damaged_write_(damaged_write) {
    auto memory = make_host_memory(16, block_tokens);
    EXPECT_TRUE(memory.ok());
    memory_ = std::move(*memory);
  }
  [[nodiscard]] std::string name() const override { return "faulty"; }
  status run(const step_plan& plan) override { return memory_->run(plan); }
  status write(std::span<const token_range> ranges, std::span<const std::byte> bytes) override {
    std::vector<std::byte> copy(bytes.begin(), bytes.end());
    if (damaged_write_-- == 0) copy[copy.size() / 2] ^= std::byte{1};
    return memory_->write(ranges, copy);
  }
  status read(std::span<const token_range> ranges, std::span<std::byte> bytes) override {
    return memory_->read(ranges, bytes);
  }

 private:
  std::unique_ptr<kv_memory> memory_;
  std::int64_t damaged_write_;
};

std::vector<token_id> prompt(std::size_t n, token_id first = 0) {
  std::vector<token_id> tokens;
  for (std::size_t i = 0; i < n; ++i) tokens.push_back(first + static_cast<token_id>(i));
  return tokens;
}

verify_engine engine(std::int64_t damaged_write = -1) {
  return {std::make_unique<faulty_memory>(damaged_write), block_tokens, true};
}

TEST(verify_engine, served_tokens_are_right_where_they_were_computed) {
  verify_engine e = engine();
  const std::vector<block_id> table{3, 1, 2};
  ASSERT_TRUE(e.step("a", prompt(10), 0, table, {}).ok());
  ASSERT_TRUE(e.step("a", prompt(10), 9, table, {}).ok());
  EXPECT_EQ(e.counts().checked_bytes, 9u * replay_token_bytes);
  EXPECT_EQ(e.counts().wrong_bytes, 0u);
}

TEST(verify_engine, copies_count_as_served) {
  verify_engine e = engine();
  ASSERT_TRUE(e.step("a", prompt(8), 0, std::vector<block_id>{0, 1}, {}).ok());
  std::vector<token_id> other = prompt(8);
  other[6] = 99;
  step_plan plan;
  plan.copies.push_back({1, 5, 2});
  ASSERT_TRUE(e.step("a", other, 6, std::vector<block_id>{0, 5}, plan).ok());
  EXPECT_EQ(e.counts().wrong_bytes, 0u);
  // The same without the copy: the bytes of two tokens were never written.
  ASSERT_TRUE(e.step("a", other, 6, std::vector<block_id>{0, 7}, {}).ok());
  EXPECT_GT(e.counts().wrong_bytes, replay_token_bytes);
}

TEST(verify_engine, finds_one_flipped_bit) {
  verify_engine e = engine(0);
  const std::vector<block_id> table{0, 1, 2};
  ASSERT_TRUE(e.step("a", prompt(12), 0, table, {}).ok());
  ASSERT_TRUE(e.step("a", prompt(12), 11, table, {}).ok());
  EXPECT_EQ(e.counts().wrong_bytes, 1u);
}

TEST(verify_engine, finds_the_wrong_namespace_block_and_past) {
  const std::vector<block_id> table{0, 1, 2};
  const std::vector<block_id> swapped{0, 2, 1};
  const auto wrong = [&](std::string_view space, const std::vector<token_id>& tokens,
                         const std::vector<block_id>& blocks) {
    verify_engine e = engine();
    EXPECT_TRUE(e.step("a", prompt(12), 0, table, {}).ok());
    EXPECT_TRUE(e.step(space, tokens, 11, blocks, {}).ok());
    return e.counts().wrong_bytes;
  };
  EXPECT_EQ(wrong("a", prompt(12), table), 0u);
  EXPECT_GT(wrong("b", prompt(12), table), 100u);
  EXPECT_GT(wrong("", prompt(12), table), 100u);
  EXPECT_GT(wrong("a", prompt(12), swapped), 50u);
  std::vector<token_id> other = prompt(12);
  other[0] = 7;  // equal tokens after another first one: all of their KV is another
  EXPECT_GT(wrong("a", other, table), 100u);
}

TEST(verify_engine, a_plan_that_cannot_run_is_an_error) {
  verify_engine e = engine();
  step_plan plan;
  plan.copies.push_back({0, 16, 1});  // block 16 of 16
  EXPECT_FALSE(e.step("a", prompt(4), 0, std::vector<block_id>{0}, plan).ok());
}

}  // namespace
}  // namespace radixkv::cli
