#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "csrc/cli/trace_generator.h"

namespace radixkv::cli {
namespace {

TEST(trace_generator, is_deterministic_and_depends_on_the_seed) {
  generator_options options;
  options.requests = 500;
  result<trace> a = generate_trace(options);
  result<trace> b = generate_trace(options);
  options.seed = 2;
  result<trace> c = generate_trace(options);
  ASSERT_TRUE(a.ok() && b.ok() && c.ok());
  EXPECT_EQ(a->segments, b->segments);
  EXPECT_NE(a->segments, c->segments);
}

TEST(trace_generator, keeps_the_promises_of_a_trace) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    generator_options options;
    options.seed = seed;
    options.requests = 1000;
    result<trace> t = generate_trace(options);
    ASSERT_TRUE(t.ok());
    ASSERT_EQ(t->requests.size(), 1000u);
    EXPECT_EQ(t->name_spaces.size(), options.tenants);
    double before = 0;
    for (const trace_request& r : t->requests) {
      EXPECT_GE(r.seconds, before);
      before = r.seconds;
      EXPECT_LT(r.name_space, options.tenants);
      std::uint64_t sum = 0;
      for (const segment& s : t->segments_of(r)) {
        EXPECT_GE(s.tokens, 1u);
        sum += s.tokens;
      }
      EXPECT_EQ(sum, r.prompt_tokens);
      EXPECT_LE(sum, options.max_prompt_tokens);
    }
  }
}

TEST(trace_generator, has_turns_shared_system_prompts_and_forks) {
  result<trace> t = generate_trace({});
  ASSERT_TRUE(t.ok());
  std::set<std::uint64_t> first_ids;
  std::set<std::uint64_t> seen;
  std::size_t long_conversations = 0;
  for (const trace_request& r : t->requests) {
    const auto segments = t->segments_of(r);
    first_ids.insert(segments.front().id);
    long_conversations += segments.size() > 8;
  }
  EXPECT_LE(first_ids.size(), 24u);
  EXPECT_GT(long_conversations, t->requests.size() / 20);
  // A fork cuts a message that another prompt holds whole.
  std::vector<segment> sorted = t->segments;
  std::sort(sorted.begin(), sorted.end(), [](const segment& a, const segment& b) {
    return a.id != b.id ? a.id < b.id : a.tokens < b.tokens;
  });
  std::size_t cuts = 0;
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    cuts += sorted[i].id == sorted[i - 1].id && sorted[i].tokens != sorted[i - 1].tokens;
  }
  EXPECT_GT(cuts, t->requests.size() / 50);
}

TEST(trace_generator, refuses_options_outside_their_limits) {
  generator_options options;
  options.requests = 0;
  result<trace> t = generate_trace(options);
  ASSERT_FALSE(t.ok());
  EXPECT_EQ(t.error().message, "the generator's requests is 0, outside 1 … 100000000");
  options = {};
  options.fork_chance = 1.5;
  EXPECT_EQ(generate_trace(options).error().message,
            "the generator's fork_chance is 1.5, outside 0 … 1");
  options = {};
  options.max_prompt_tokens = 1000;
  EXPECT_FALSE(generate_trace(options).ok());
}

}  // namespace
}  // namespace radixkv::cli
