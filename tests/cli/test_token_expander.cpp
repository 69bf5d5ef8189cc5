#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/cli/token_expander.h"
#include "csrc/cli/trace_reader.h"

namespace radixkv::cli {
namespace {

std::vector<token_id> expanded(std::uint64_t id, std::size_t tokens) {
  std::vector<token_id> out(tokens);
  expand_segment(id, out);
  return out;
}

TEST(token_expander, equal_ids_give_equal_tokens_however_many) {
  const auto whole = expanded(77, 512);
  const auto part = expanded(77, 100);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin()));
  for (const token_id t : whole) EXPECT_LT(t, 1u << 31);
}

TEST(token_expander, different_ids_differ_from_the_first_token_on) {
  // 20,000 first tokens of 31 bits: fewer than 2 collisions with probability 0.995.
  std::set<token_id> first;
  for (std::uint64_t id = 0; id < 20000; ++id) first.insert(expanded(id, 1)[0]);
  EXPECT_GE(first.size(), 19998u);
  // No id is a shifted copy of a neighbour.
  const auto a = expanded(5, 64);
  const auto b = expanded(6, 64);
  EXPECT_EQ(std::set<token_id>(a.begin(), a.end()).count(b[10]), 0u);
}

TEST(token_expander, prompts_are_their_segments_in_ranges_of_any_size) {
  trace t;
  std::vector<std::vector<token_id>> wanted;
  for (std::uint32_t r = 0; r < 50; ++r) {
    trace_request request;
    request.first_segment = t.segments.size();
    std::vector<token_id> tokens;
    for (std::uint32_t s = 0; s <= r % 4; ++s) {
      const segment part{r * 10 + s, 1 + (r * 37 + s * 11) % 100};
      t.segments.push_back(part);
      const auto piece = expanded(part.id, part.tokens);
      tokens.insert(tokens.end(), piece.begin(), piece.end());
      ++request.segments;
    }
    request.prompt_tokens = static_cast<std::uint32_t>(tokens.size());
    t.requests.push_back(request);
    wanted.push_back(tokens);
  }
  for (const std::uint64_t limit : {1u, 64u, 300u, 1u << 20}) {
    prompt_buffer buffer;
    std::size_t seen = 0;
    while (seen < t.requests.size()) {
      result<std::size_t> end = buffer.expand(t, seen, limit);
      ASSERT_TRUE(end.ok());
      ASSERT_GT(*end, seen);
      for (; seen < *end; ++seen) {
        const auto prompt = buffer.prompt(seen);
        EXPECT_EQ(std::vector<token_id>(prompt.begin(), prompt.end()), wanted[seen]);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(prompt.data()) % 64, 0u);
      }
    }
  }
}

TEST(token_expander, more_than_memory_is_an_error) {
  trace t;
  t.requests.resize(std::size_t{1} << 20);
  for (trace_request& r : t.requests) r.prompt_tokens = 0x7fffffff;  // 2^53 bytes in all
  prompt_buffer buffer;
  result<std::size_t> end = buffer.expand(t, 0, UINT64_MAX);
  ASSERT_FALSE(end.ok());
  EXPECT_EQ(end.error().code, errc::out_of_memory);
}

}  // namespace
}  // namespace radixkv::cli
