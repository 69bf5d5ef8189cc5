// What the façade promises of matching and opening, case by case; bad input; listings.
#include <algorithm>
#include <cstdint>
#include <fstream>

#include <gtest/gtest.h>
#include <unistd.h>

#include "radixkv/kv_cache.h"
#include "tests/core/kv_cache_cases.h"

namespace radixkv::testing {
namespace {

TEST(kv_cache, serves_all_but_one_token_and_copies_inside_a_block) {
  kv_cache cache = make(16);
  const auto t = counting(0, 10);
  publish(cache, t);
  step_plan plan;
  sequence again = cache.open(t, {}, plan).value();
  EXPECT_EQ(again.matched_tokens(), 10);
  EXPECT_EQ(again.cached_tokens(), 9);
  ASSERT_EQ(plan.copies.size(), 1u);
  EXPECT_EQ(plan.copies[0].tokens, 1u);
  EXPECT_EQ(plan.copies[0].destination, again.block_table()[2]);
  EXPECT_NE(plan.copies[0].source, plan.copies[0].destination);

  auto parted = counting(0, 7);
  parted[6] = 99;
  plan.clear();
  sequence other = cache.open(parted, {}, plan).value();
  EXPECT_EQ(other.cached_tokens(), 6);
  ASSERT_EQ(plan.copies.size(), 1u);
  EXPECT_EQ(plan.copies[0].tokens, 2u);
  EXPECT_EQ(cache.check_invariants(), "");
}

TEST(kv_cache, a_whole_prompt_with_logits_needs_no_pass) {
  kv_cache cache = make(16, 4, 2);
  for (const std::size_t n : {8u, 10u}) {
    const auto t = counting(static_cast<token_id>(100 * n), n);
    step_plan plan;
    step_plan after;
    sequence s = cache.open(t, {}, plan).value();
    EXPECT_EQ(s.cached_logits(), no_slot);
    ASSERT_TRUE(s.mark_filled(s.tokens()).ok());
    const commit_result done = s.commit_logits(s.tokens(), 5, after).value();
    ASSERT_NE(done.slot, no_slot);
    ASSERT_EQ(after.logits.size(), 1u);
    EXPECT_EQ(after.logits[0], (logits_move{logits_direction::store, done.slot, 5}));
    s.release();

    EXPECT_EQ(cache.match(t).slot, done.slot);
    plan.clear();
    sequence again = cache.open(t, {}, plan).value();
    EXPECT_EQ(again.cached_tokens(), static_cast<std::int64_t>(n));
    EXPECT_EQ(again.cached_logits(), done.slot);
    EXPECT_TRUE(plan.empty());
    ASSERT_TRUE(again.load_logits(3, plan).ok());
    EXPECT_EQ(plan.logits[0], (logits_move{logits_direction::load, done.slot, 3}));
    // Going on writes into the shared tail: it is copied first.
    plan.clear();
    ASSERT_TRUE(again.reserve(1, plan).ok());
    EXPECT_EQ(plan.copies.size(), n % 4 ? 1u : 0u);
    EXPECT_EQ(cache.check_invariants(), "");
  }
}

TEST(kv_cache, logits_go_with_their_prompt) {
  kv_cache cache = make(4, 4, 2);
  const auto t = counting(0, 8);
  step_plan plan;
  sequence s = cache.open(t, {}, plan).value();
  ASSERT_TRUE(s.mark_filled(8).ok());
  ASSERT_NE(s.commit_logits(8, 0, plan)->slot, no_slot);
  s.release();
  EXPECT_EQ(cache.statistics().logits_used, 1);
  cache.evict(1);
  EXPECT_EQ(cache.statistics().logits_used, 0);
  EXPECT_EQ(cache.check_invariants(), "");
}

TEST(kv_cache, short_matches_count_as_misses) {
  cache_options o;
  o.blocks = 64;
  o.block_tokens = 4;
  kv_cache cache = kv_cache::create(o).value();  // min_prefix_tokens 8
  publish(cache, counting(0, 20));
  auto t = counting(0, 20);
  t[7] = 99;
  step_plan plan;
  sequence s = cache.open(t, {}, plan).value();
  EXPECT_EQ(s.cached_tokens(), 0);
  EXPECT_TRUE(plan.empty());
  t = counting(0, 20);
  t[8] = 99;
  sequence longer = cache.open(t, {}, plan).value();
  EXPECT_EQ(longer.cached_tokens(), 8);
  const cache_statistics stats = cache.statistics();
  EXPECT_EQ(stats.short_matches, 1);
  EXPECT_EQ(stats.requests, 3);
  EXPECT_EQ(stats.requests_hit, 1);
  EXPECT_EQ(stats.tokens_hit, 8);
  EXPECT_EQ(stats.tokens_looked_up, 60);
}

TEST(kv_cache, namespaces_share_nothing) {
  kv_cache cache = make(64);
  const auto t = counting(0, 12);
  publish(cache, t, "a");
  EXPECT_EQ(cache.match(t, "a").tokens, 12);
  EXPECT_EQ(cache.match(t, "b").tokens, 0);
  EXPECT_EQ(cache.match(t, "").tokens, 0);
  EXPECT_EQ(cache.match(t, std::string_view("a\0", 2)).tokens, 0);
  publish(cache, t, "b");
  EXPECT_EQ(cache.statistics().namespaces, 2);
  cache.clear();
  EXPECT_EQ(cache.statistics().namespaces, 0) << "empty namespaces are forgotten";
}

TEST(kv_cache, refuses_bad_input_by_value_and_limit) {
  kv_cache cache = make(4);
  step_plan plan;
  EXPECT_TRUE(says(cache.open({}, {}, plan).error(), {"0 tokens", "1"}));
  EXPECT_TRUE(says(cache.open(counting(0, 17), {}, plan).error(), {"17", "16"}));
  sequence s = cache.open(counting(0, 6), {}, plan).value();
  EXPECT_TRUE(says(s.commit(7).error(), {"7", "0"}));
  EXPECT_TRUE(says(s.mark_filled(7).error(), {"7", "6"}));
  EXPECT_TRUE(says(s.accept(counting(0, 1)).error(), {"1", "0"}));
  EXPECT_TRUE(says(s.append(counting(0, 11), plan).error(), {"11", "6", "16"}));
  EXPECT_TRUE(says(s.reserve(-1, plan).error(), {"-1"}));
  EXPECT_TRUE(says(s.truncate(7).error(), {"7", "6"}));
  ASSERT_TRUE(s.mark_filled(6).ok());
  EXPECT_TRUE(says(s.commit_logits(0, 0, plan).error(), {"0 tokens", "at least 1"}));
  ASSERT_TRUE(s.commit(5).ok());
  EXPECT_TRUE(says(s.truncate(4).error(), {"4", "5"}));
  EXPECT_TRUE(says(s.load_logits(0, plan).error(), {"no logits"}));
  EXPECT_TRUE(says(s.commit_logits(6, -1, plan).error(), {"-1"}));
  s.release();
  EXPECT_EQ(s.append(counting(0, 1), plan).error().code, errc::released);
  EXPECT_EQ(s.commit().error().code, errc::released);
  EXPECT_EQ(s.fork().error().code, errc::released);
  EXPECT_TRUE(s.block_table().empty());
  EXPECT_TRUE(plan.empty());
  EXPECT_EQ(cache.check_invariants(), "");
}

TEST(kv_cache, refuses_bad_options) {
  cache_options o;
  EXPECT_FALSE(kv_cache::create(o).ok());
  o.blocks = 8;
  o.block_tokens = 12;
  EXPECT_TRUE(says(kv_cache::create(o).error(), {"12"}));
  o.block_tokens = 16;
  o.policy = "no such";
  EXPECT_EQ(kv_cache::create(o).error().code, errc::not_found);
}

TEST(kv_cache, a_batch_opens_until_one_does_not_fit) {
  kv_cache cache = make(8);
  const auto a = counting(0, 16);
  const auto b = counting(100, 12);
  const auto c = counting(200, 8);
  const open_request requests[] = {{a, ""}, {b, ""}, {c, ""}};
  step_plan plan;
  open_batch_result opened = cache.open_batch(requests, plan);
  EXPECT_EQ(opened.sequences.size(), 2u);
  EXPECT_EQ(opened.stopped.code, errc::out_of_blocks);
  EXPECT_EQ(cache.sequences()->size(), 2u);
  EXPECT_EQ((*cache.sequences())[1].tokens, 12);
}

TEST(kv_cache, batch_matching_equals_matching_one_by_one) {
  kv_cache cache = make(4096);
  std::vector<std::vector<token_id>> prompts;
  for (token_id i = 0; i < 200; ++i) {
    auto t = counting(0, 8 + i % 50);
    t.push_back(1000 + i % 7);
    for (token_id j = 0; j < i % 11; ++j) t.push_back(j * i);
    if (i % 2 == 0) publish(cache, t, i % 3 ? "x" : "y");
    prompts.push_back(t);
  }
  std::vector<open_request> requests;
  std::vector<std::vector<block_id>> tables;
  std::vector<std::span<block_id>> spans;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    requests.push_back({prompts[i], i % 5 ? "x" : "y"});
    tables.emplace_back(prompts[i].size() / 4);
    spans.emplace_back(tables.back());
  }
  std::vector<prefix_match> out(prompts.size());
  ASSERT_TRUE(cache.match_batch(requests, out, spans).ok());
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    std::vector<block_id> table(prompts[i].size() / 4);
    const prefix_match one = cache.match(prompts[i], requests[i].name_space, table);
    EXPECT_EQ(out[i].tokens, one.tokens);
    EXPECT_EQ(out[i].blocks, one.blocks);
    EXPECT_TRUE(std::equal(table.begin(), table.begin() + one.blocks, tables[i].begin()));
  }
}

// Results or block tables of another number than the requests are refused, and nothing is written.
TEST(kv_cache, match_batch_refuses_spans_of_another_length) {
  kv_cache cache = make(64);
  const auto t = counting(1, 9);
  publish(cache, t);
  const std::vector<open_request> requests(3, open_request{t, {}});
  const prefix_match untouched{-7, -7, -7};
  for (const std::size_t n : {std::size_t{0}, std::size_t{2}, std::size_t{4}}) {
    std::vector<prefix_match> out(n, untouched);
    const status refused = cache.match_batch(requests, out);
    ASSERT_EQ(refused.error().code, errc::invalid_argument);
    EXPECT_EQ(refused.error().message,
              "a batch of 3 requests cannot be matched into " + std::to_string(n) + " results");
    for (const prefix_match& m : out) EXPECT_EQ(m.tokens, -7);
  }
  std::vector<prefix_match> out(3, untouched);
  const std::vector<std::span<block_id>> tables(2);
  const status refused = cache.match_batch(requests, out, tables);
  ASSERT_EQ(refused.error().code, errc::invalid_argument);
  EXPECT_EQ(refused.error().message, "a batch of 3 requests cannot be matched into 2 block tables");
  EXPECT_EQ(out[0].tokens, -7);
  EXPECT_TRUE(cache.match_batch(requests, out).ok());
  EXPECT_EQ(out[2].tokens, 9);
}

TEST(kv_cache, dumps_and_lists_what_is_cached) {
  kv_cache cache = make(32);
  publish(cache, counting(0, 9), "tenant");
  auto t = counting(0, 9);
  t[5] = 77;
  publish(cache, t, "tenant");
  const std::string text = cache.dump().value();
  EXPECT_NE(text.find("namespace \"tenant\""), std::string::npos);
  EXPECT_NE(text.find("77"), std::string::npos);
  publish(cache, counting(0, 9), std::string_view("a\"\0\n\\\xc3\xa9", 7));
  EXPECT_NE(cache.dump().value().find("namespace \"a\\x22\\x00\\x0a\\x5c\\xc3\\xa9\"\n"),
            std::string::npos);
  (void)cache.clear();
  publish(cache, counting(0, 9), "tenant");
  publish(cache, t, "tenant");
  std::vector<std::vector<token_id>> found;
  const status visited =
      cache.for_each_prefix([&](std::string_view space, std::span<const token_id> tokens) {
        EXPECT_EQ(space, "tenant");
        found.emplace_back(tokens.begin(), tokens.end());
        return true;
      });
  EXPECT_TRUE(visited.ok());
  std::sort(found.begin(), found.end());
  EXPECT_EQ(found, (std::vector{counting(0, 9), t}));
}

std::int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::int64_t pages = 0, resident = 0;
  statm >> pages >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

TEST(kv_cache, prefault_takes_the_memory_of_the_tokens_at_creation) {
  constexpr std::int64_t blocks = 1 << 21, token_bytes = blocks * 16 * 4;  // 128 MiB
  for (const bool prefault : {false, true}) {
    const std::int64_t before = resident_bytes();
    const kv_cache cache =
        kv_cache::create({.blocks = blocks, .policy = "lru", .prefault = prefault}).value();
    const std::int64_t taken = resident_bytes() - before;
    if (prefault) {
      EXPECT_GE(taken, token_bytes);
    } else {
      EXPECT_LT(taken, token_bytes / 2);
    }
  }
}

}  // namespace
}  // namespace radixkv::testing
