#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/cli/kv_memory.h"
#include "csrc/cli/replay_command.h"
#include "csrc/cli/replay_driver.h"
#include "csrc/cli/trace_generator.h"
#include "radixkv/options.h"

namespace radixkv::cli {
namespace {

trace generated(std::size_t requests, std::uint64_t seed = 1) {
  generator_options options;
  options.requests = requests;
  options.seed = seed;
  options.system_prompt_tokens = 120;
  options.document_tokens = 500;
  options.sessions_per_second = 0.2;
  return *generate_trace(options);
}

replay_config config(const std::string& capacity_text, std::uint32_t block_tokens) {
  replay_config c;
  c.policy = "lru";
  c.pool = *parse_capacity(capacity_text);
  c.block_tokens = block_tokens;
  return c;
}

struct expectation {
  std::uint64_t hit_tokens = 0;
  std::uint64_t hit_blocks = 0;
  std::uint64_t blocks = 0;
};

// What a cache that never forgets finds: the longest prefix of any earlier prompt of the tenant.
expectation by_looking_at_every_earlier_prompt(const trace& t, std::size_t block_tokens) {
  prompt_buffer prompts;
  EXPECT_EQ(*prompts.expand(t, 0, UINT64_MAX), t.requests.size());
  expectation sum;
  for (std::size_t r = 0; r < t.requests.size(); ++r) {
    const auto p = prompts.prompt(r);
    std::size_t longest = 0;
    for (std::size_t e = 0; e < r; ++e) {
      if (t.requests[e].name_space != t.requests[r].name_space) continue;
      const auto q = prompts.prompt(e);
      const auto at = std::mismatch(p.begin(), p.end(), q.begin(), q.end()).first;
      longest = std::max(longest, static_cast<std::size_t>(at - p.begin()));
    }
    if (longest < cache_options{}.min_prefix_tokens) longest = 0;
    sum.hit_tokens += std::min(longest, p.size() - 1);
    sum.hit_blocks += longest / block_tokens;
    if (longest == p.size() && longest % block_tokens != 0) ++sum.hit_blocks;
    sum.blocks += (p.size() + block_tokens - 1) / block_tokens;
  }
  return sum;
}

TEST(replay_driver, finds_what_a_list_of_all_prompts_finds) {
  for (const std::uint32_t block_tokens : {1u, 16u, 64u, 512u}) {
    const trace t = generated(300, block_tokens);
    const expectation wanted = by_looking_at_every_earlier_prompt(t, block_tokens);
    prompt_buffer prompts;
    replay_config c = config("unlimited", block_tokens);
    c.verify = true;
    result<replay_result> r = replay(t, c, prompts);
    ASSERT_TRUE(r.ok()) << r.error().message;
    EXPECT_EQ(r->requests, 300u);
    EXPECT_EQ(r->prompt_tokens, t.prompt_tokens());
    EXPECT_EQ(r->blocks, wanted.blocks);
    EXPECT_EQ(r->hit_blocks, wanted.hit_blocks) << block_tokens;
    EXPECT_EQ(r->hit_tokens, wanted.hit_tokens) << block_tokens;
    EXPECT_EQ(r->evicted_blocks, 0u);
    EXPECT_EQ(r->verify->checked_bytes, wanted.hit_tokens * replay_token_bytes);
    EXPECT_EQ(r->verify->wrong_bytes, 0u);
    EXPECT_GT(r->us->total.mean, 0);
    EXPECT_GE(r->us->total.max, r->us->total.p50);
    EXPECT_GT(r->us->floor_mean, 0);
  }
}

TEST(replay_driver, a_small_pool_evicts_and_serves_no_wrong_byte) {
  const trace t = generated(1500);
  prompt_buffer prompts;
  for (const std::uint32_t threads : {1u, 4u}) {
    replay_config c = config("100K", 16);
    c.verify = true;
    c.threads = threads;
    result<replay_result> r = replay(t, c, prompts);
    ASSERT_TRUE(r.ok()) << r.error().message;
    EXPECT_EQ(r->requests, 1500u);
    EXPECT_GT(r->evicted_blocks, 1000u);
    EXPECT_GT(r->copied_blocks, 10u);
    EXPECT_GT(r->verify->checked_bytes, 1000000u);
    EXPECT_EQ(r->verify->wrong_bytes, 0u);
    EXPECT_EQ(r->threads, threads);
  }
}

TEST(replay_driver, announced_requests_are_served_right_by_many_threads) {
  const trace t = generated(1500);
  prompt_buffer prompts;
  for (const std::uint32_t threads : {1u, 4u}) {
    replay_config c = config("100K", 16);
    c.policy = "reuse_index";
    c.verify = true;
    c.threads = threads;
    c.lookahead = 100;
    result<replay_result> r = replay(t, c, prompts);
    ASSERT_TRUE(r.ok()) << r.error().message;
    EXPECT_EQ(r->requests, 1500u);
    EXPECT_EQ(r->lookahead, 100u);
    EXPECT_GT(r->evicted_blocks, 1000u);
    EXPECT_EQ(r->verify->wrong_bytes, 0u);
    EXPECT_GT(r->us->announce.mean, 0);
    EXPECT_TRUE(r->lru_block_hit_rate().has_value());
  }
}

TEST(replay_driver, a_run_is_repeatable) {
  const trace t = generated(400);
  prompt_buffer prompts;
  const auto a = replay(t, config("30K", 16), prompts);
  const auto b = replay(t, config("30K", 16), prompts);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(a->hit_tokens, b->hit_tokens);
  EXPECT_EQ(a->evicted_blocks, b->evicted_blocks);
}

TEST(replay_driver, requests_that_never_fit_are_refused_and_counted) {
  const trace t = generated(400);
  std::uint64_t too_long = 0;
  for (const trace_request& r : t.requests) too_long += r.prompt_tokens > 3000;
  ASSERT_GT(too_long, 5u);
  prompt_buffer prompts;
  for (const std::uint32_t threads : {1u, 4u}) {
    replay_config c = config("3008", 16);
    c.threads = threads;
    result<replay_result> r = replay(t, c, prompts);
    ASSERT_TRUE(r.ok()) << r.error().message;
    std::uint64_t longer = 0;
    for (const trace_request& q : t.requests) longer += q.prompt_tokens > 3008;
    EXPECT_EQ(r->refused_requests, longer);
    EXPECT_EQ(r->requests, 400u);
    EXPECT_EQ(r->prompt_tokens, t.prompt_tokens());
  }
}

// Short prompts over few ids, some of them in namespaces, that end wherever they like.
trace prompts_that_end_inside_blocks(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  trace t;
  t.name_spaces = {"", "a", "b"};
  const std::uint32_t id_tokens = seed % 3 == 0 ? 3 : 40;
  std::vector<std::vector<std::uint64_t>> made;
  for (int i = 0; i < 150; ++i) {
    std::vector<std::uint64_t> ids;
    if (!made.empty() && random() % 3 != 0) {
      ids = made[random() % made.size()];
      ids.resize(random() % (ids.size() + 1));
    }
    for (std::uint64_t n = random() % 4; n > 0 || ids.empty(); n -= n > 0) {
      ids.push_back(random() % 3);
    }
    trace_request r;
    r.name_space = static_cast<std::uint32_t>(random() % (1 + seed % 3));
    r.first_segment = t.segments.size();
    r.segments = static_cast<std::uint32_t>(ids.size());
    for (std::size_t k = 0; k < ids.size(); ++k) {
      const auto tokens =
          k + 1 < ids.size() ? id_tokens : 1 + static_cast<std::uint32_t>(random() % id_tokens);
      t.segments.push_back({ids[k], tokens});
      r.prompt_tokens += tokens;
    }
    t.requests.push_back(r);
    made.push_back(std::move(ids));
  }
  return t;
}

TEST(replay_driver, no_policy_hits_more_blocks_than_the_offline_optimum) {
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    const trace t = prompts_that_end_inside_blocks(seed);
    prompt_buffer prompts;
    for (const std::uint32_t block_tokens : {1u, 4u, 16u, 128u}) {
      for (const char* capacity : {"unlimited", "128", "512", "900"}) {
        replay_config c = config(capacity, block_tokens);
        c.policy = "belady";
        const auto best = replay(t, c, prompts);
        ASSERT_TRUE(best.ok()) << best.error().message;
        EXPECT_LT(best->hit_tokens, best->prompt_tokens);
        for (const std::string& policy : policy_names()) {
          c.policy = policy;
          const auto r = replay(t, c, prompts);
          ASSERT_TRUE(r.ok()) << r.error().message;
          EXPECT_LE(r->hit_blocks, best->hit_blocks)
              << policy << " seed " << seed << " blocks of " << block_tokens << ", " << capacity;
          if (c.pool.unlimited) {
            EXPECT_EQ(r->hit_blocks, best->hit_blocks)
                << policy << " seed " << seed << " blocks of " << block_tokens;
          }
        }
      }
    }
  }
}

TEST(replay_driver, capacities_that_make_no_pool_are_refused_by_value_and_limit) {
  const trace t = generated(10);
  prompt_buffer prompts;
  EXPECT_EQ(replay(t, config("15", 16), prompts).error().message,
            "a capacity of 15 tokens is less than one block of 16");
  const std::string message = replay(t, config("70000G", 16), prompts).error().message;
  EXPECT_NE(message.find("more than the limit of 1073741824"), std::string::npos) << message;
  replay_config c = config("3M", 16);
  c.policy = "clairvoyant";
  EXPECT_EQ(replay(t, c, prompts).error().code, errc::not_found);
}

}  // namespace
}  // namespace radixkv::cli
