// What reuse_index says LRU would have hit, against what LRU hits: the same requests go through two
// caches of one size. Conversations end anywhere in a block, share beginnings, are edited and asked
// again.
#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"

namespace radixkv {
namespace {

struct load {
  std::uint32_t talks, least_new_tokens, most_new_tokens, requests;
};

class talk_source {
 public:
  talk_source(const load& of, std::uint64_t seed) : of_(of), random_(seed) {
    std::vector<std::vector<token_id>> systems(4);
    for (auto& s : systems) add(s, 1 + random_() % 300);
    for (std::uint32_t i = 0; i < of.talks; ++i) talks_.push_back(systems[i % systems.size()]);
    fresh_ = talks_;
  }
  // The next prompt; valid until the next call.
  const std::vector<token_id>& next() {
    // The younger, the likelier: the least of two.
    const std::size_t n = talks_.size();
    std::vector<token_id>& t = talks_[std::min(random_() % n, random_() % n)];
    switch (random_() % 16) {
      case 0:  // a new conversation, whose beginning others share
        t = fresh_[random_() % n];
        break;
      case 1:  // an earlier message is edited
        t.resize(1 + random_() % t.size());
        break;
      case 2:  // the same again
        return t;
      default:
        break;
    }
    add(t, of_.least_new_tokens + random_() % (of_.most_new_tokens - of_.least_new_tokens + 1));
    return t;
  }

 private:
  void add(std::vector<token_id>& t, std::uint64_t n) {
    for (; n > 0; --n) t.push_back(static_cast<token_id>(random_() % 50'000));
  }

  load of_;
  std::mt19937_64 random_;
  std::vector<std::vector<token_id>> talks_, fresh_;
};

struct counted {
  std::int64_t hits = 0;  // whole blocks
  cache_statistics at_end;
};

counted replay(const std::string& policy, const load& of, std::uint64_t seed, std::uint32_t size,
               std::int64_t blocks) {
  cache_options o;
  o.blocks = blocks;
  o.block_tokens = size;
  o.policy = policy;
  kv_cache cache = kv_cache::create(std::move(o)).value();
  talk_source talks(of, seed);
  counted out;
  for (std::uint32_t i = 0; i < of.requests; ++i) {
    step_plan plan;
    sequence s = cache.open(talks.next(), "", plan).value();
    out.hits += s.matched_tokens() / size;
    EXPECT_TRUE(s.mark_filled(s.tokens()).ok() && s.commit().ok());
  }
  out.at_end = cache.statistics();
  return out;
}

class lru_shadow_in_a_cache : public ::testing::TestWithParam<std::uint32_t> {};  // block_tokens

TEST_P(lru_shadow_in_a_cache, says_what_there_is_to_hit_where_nothing_is_evicted) {
  const counted got = replay("reuse_index", {50, 1, 90, 600}, GetParam(), GetParam(), 40'000);
  EXPECT_EQ(got.at_end.evicted_blocks, 0);
  EXPECT_GT(got.hits, 0);
  EXPECT_EQ(got.at_end.policy.hit_blocks, static_cast<std::uint64_t>(got.hits));
  EXPECT_EQ(got.at_end.policy.lru_hit_blocks, got.at_end.policy.hit_blocks);
}

// Of what the policy has evicted and LRU would hold, it recognises whole chunks of 256 tokens, so
// it may say too little, and hardly ever too much.
TEST_P(lru_shadow_in_a_cache, says_what_lru_hits) {
  const std::uint32_t size = GetParam();
  for (const load& of : {load{60, 1, 400, 3000}, load{60, 512, 2048, 3000}}) {
    for (const std::uint64_t seed : {1u, 2u}) {
      for (const std::int64_t tokens : {120'000, 240'000, 480'000}) {
        const counted lru = replay("lru", of, seed, size, tokens / size);
        const counted got = replay("reuse_index", of, seed, size, tokens / size);
        const double ratio =
            static_cast<double>(got.at_end.policy.lru_hit_blocks) / static_cast<double>(lru.hits);
        EXPECT_LE(ratio, 1.002) << "seed " << seed << ", " << tokens << " tokens";
        EXPECT_GE(ratio, 0.98) << "seed " << seed << ", " << tokens << " tokens";
      }
    }
  }
}

// What was evicted is recognised behind turns too short for a chunk of their own, too.
TEST_P(lru_shadow_in_a_cache, knows_what_lies_behind_short_turns) {
  const std::uint32_t size = GetParam(), chunk = std::max(256u, size);
  const std::vector<std::size_t> turns{4 * chunk + size, size, size, 8 * chunk};  // tokens
  std::int64_t lru_hits = 0;
  cache_statistics got;
  for (const char* const policy : {"lru", "reuse_index"}) {
    cache_options o;
    o.blocks = 10'000;
    o.block_tokens = size;
    o.policy = policy;
    kv_cache cache = kv_cache::create(std::move(o)).value();
    std::vector<token_id> talk;
    const auto serve = [&] {
      step_plan plan;
      sequence s = cache.open(talk, "", plan).value();
      EXPECT_TRUE(s.mark_filled(s.tokens()).ok() && s.commit().ok());
      return s.matched_tokens() / size;
    };
    std::int64_t hits = 0;
    for (const std::size_t tokens : turns) {
      for (std::size_t i = 0; i < tokens; ++i) talk.push_back(static_cast<token_id>(talk.size()));
      hits += serve();
    }
    if (policy == std::string("lru")) {
      lru_hits = hits + serve();
    } else {
      EXPECT_GT(cache.evict(10'000), 0);
      EXPECT_EQ(serve(), 0);
      got = cache.statistics();
    }
  }
  const auto said = static_cast<std::int64_t>(got.policy.lru_hit_blocks);
  EXPECT_LE(said, lru_hits);
  EXPECT_GE(said, lru_hits - chunk / size) << "but for the rest of the last chunk";
}

INSTANTIATE_TEST_SUITE_P(block_tokens, lru_shadow_in_a_cache, ::testing::Values(16u, 64u, 512u));

}  // namespace
}  // namespace radixkv
