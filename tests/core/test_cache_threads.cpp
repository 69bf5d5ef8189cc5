// Readers, writers and evictors on one cache at once; run under ThreadSanitizer too.
#include <atomic>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"

namespace radixkv {
namespace {

constexpr std::uint32_t block_tokens = 4;

std::vector<token_id> conversation(std::mt19937& random, int longest) {
  std::vector<token_id> t;
  const int n = 1 + static_cast<int>(random() % static_cast<unsigned>(longest));
  for (int i = 0; i < n; ++i) t.push_back(i % 5 == 0 ? random() % 3 : static_cast<token_id>(i));
  return t;
}

// Each namespace's tokens are offset by its number, so a match across namespaces would show.
std::vector<token_id> in_space(std::vector<token_id> t, token_id space) {
  for (token_id& x : t) x += space * 1000;
  return t;
}

TEST(cache_threads, readers_writers_and_evictors_agree) {
  cache_options o;
  o.blocks = 400;
  o.block_tokens = block_tokens;
  o.min_prefix_tokens = 1;
  o.logits_rows = 8;
  kv_cache cache = kv_cache::create(o).value();
  std::atomic<bool> stop{false};
  std::atomic<std::int64_t> matched{0};
  std::atomic<std::int64_t> opened{0};
  const std::string spaces[] = {"", "tenant"};

  std::vector<std::thread> threads;
  for (unsigned id = 0; id < 2; ++id) {
    threads.emplace_back([&, id] {  // readers
      std::mt19937 random(id);
      std::vector<block_id> table(64);
      while (!stop) {
        const token_id space = random() % 2;
        const std::vector<token_id> t = in_space(conversation(random, 120), space);
        const prefix_match m = cache.match(t, spaces[space], table);
        ASSERT_LE(m.tokens, static_cast<std::int64_t>(t.size()));
        ASSERT_EQ(m.blocks, m.tokens / block_tokens);
        matched += m.tokens;
        // The other namespace's tokens never match.
        ASSERT_EQ(cache.match(t, spaces[1 - space]).tokens, 0);
      }
    });
  }
  for (unsigned id = 2; id < 4; ++id) {
    threads.emplace_back([&, id] {  // writers
      std::mt19937 random(id);
      // Until a reader has seen something as well: with the watcher asking for the lock all the
      // time one may come to few matches.
      for (int i = 0; i < 1500 || (matched == 0 && i < 1'500'000); ++i) {
        step_plan plan;
        const token_id space = random() % 2;
        const std::vector<token_id> t = in_space(conversation(random, 120), space);
        result<sequence> s = cache.open(t, spaces[space], plan);
        if (!s) {
          ASSERT_EQ(s.error().code, errc::out_of_blocks) << s.error().message;
          continue;
        }
        ++opened;
        std::vector<token_id> back(t.size());
        ASSERT_TRUE(s->read_tokens(0, back).ok());
        ASSERT_EQ(back, t);
        ASSERT_TRUE(s->mark_filled(s->tokens()).ok());
        step_plan after;
        ASSERT_TRUE(s->commit_logits(s->tokens(), 0, after).ok());
        ASSERT_EQ(cache.match(t, spaces[space]).tokens, s->tokens());
        if (random() % 3 == 0) {
          result<sequence> child = s->fork();
          ASSERT_TRUE(child.ok());
          (void)child->reserve(3, plan);
        }
      }
    });
  }
  threads.emplace_back([&] {  // evictor and watcher
    std::mt19937 random(9);
    while (!stop) {
      cache.evict(random() % 20);
      if (random() % 64 == 0) cache.clear();
      ASSERT_EQ(cache.check_invariants(), "");
      (void)cache.statistics();
    }
  });
  threads[2].join();
  threads[3].join();
  stop = true;
  threads[0].join();
  threads[1].join();
  threads[4].join();
  EXPECT_GT(matched.load(), 0);
  EXPECT_GT(opened.load(), 0);
  EXPECT_EQ(cache.check_invariants(), "");
  cache.clear();
  EXPECT_EQ(cache.statistics().blocks_free, o.blocks);
}

// The roots of the default namespace and another one take turns in the same node.
TEST(cache_threads, the_default_namespace_that_comes_and_goes_is_never_taken_for_another) {
  constexpr int rounds = 4000;
  cache_options o;
  o.blocks = 64;
  o.block_tokens = block_tokens;
  kv_cache cache = *kv_cache::create(o);
  const std::vector<token_id> mine(8 * block_tokens, 1);
  const std::vector<token_id> theirs(8 * block_tokens, 2);
  std::atomic<bool> stop{false};
  std::atomic<std::int64_t> wrong{0};
  std::atomic<std::int64_t> found{0};
  std::thread reader([&] {
    while (!stop) {
      found += cache.match(mine, {}).tokens;
      wrong += cache.match(theirs, {}).tokens;
    }
  });
  step_plan plan;
  for (int i = 0; i < rounds || (found == 0 && i < 1000 * rounds); ++i) {
    const bool other = i % 2 == 1;
    const std::vector<token_id>& prompt = other ? theirs : mine;
    plan.clear();
    {
      sequence s = *cache.open(prompt, other ? "other" : "", plan);
      EXPECT_TRUE(s.mark_filled(static_cast<std::int64_t>(prompt.size())).ok());
      EXPECT_TRUE(s.commit().ok());
    }
    EXPECT_EQ(cache.match(mine, {}).tokens, other ? 0 : static_cast<std::int64_t>(mine.size()));
    cache.clear();
  }
  stop = true;
  reader.join();
  EXPECT_GT(found.load(), 0);
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_EQ(cache.check_invariants(), "");
}

}  // namespace
}  // namespace radixkv
