// What the façade promises, case by case; bad input; nothing lost on refusal.
#include <algorithm>
#include <numeric>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"

namespace radixkv {
namespace {

std::vector<token_id> counting(token_id first, std::size_t n) {
  std::vector<token_id> t(n);
  std::iota(t.begin(), t.end(), first);
  return t;
}

kv_cache make(std::int64_t blocks, std::uint32_t block_tokens = 4, std::int32_t logits_rows = 0) {
  cache_options o;
  o.blocks = blocks;
  o.block_tokens = block_tokens;
  o.logits_rows = logits_rows;
  o.min_prefix_tokens = 1;
  o.policy = "lru";  // cases below say what goes first
  return kv_cache::create(o).value();
}

void publish(kv_cache& cache, std::span<const token_id> tokens, std::string_view space = {}) {
  step_plan plan;
  sequence s = cache.open(tokens, space, plan).value();
  ASSERT_TRUE(s.mark_filled(s.tokens()).ok());
  ASSERT_TRUE(s.commit().ok());
}

bool says(const error& e, std::initializer_list<const char*> parts) {
  return std::all_of(parts.begin(), parts.end(),
                     [&](const char* p) { return e.message.find(p) != std::string::npos; });
}

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

TEST(kv_cache, eviction_takes_tails_and_never_what_is_open) {
  kv_cache cache = make(10);
  publish(cache, counting(0, 40));
  EXPECT_EQ(cache.evict(3), 3);
  EXPECT_EQ(cache.match(counting(0, 40)).tokens, 28);
  step_plan plan;
  sequence s = cache.open(counting(0, 17), {}, plan).value();
  EXPECT_EQ(s.cached_tokens(), 16);
  EXPECT_EQ(cache.evict(100), 3) << "the four blocks that the sequence uses stay";
  EXPECT_EQ(cache.match(counting(0, 40)).tokens, 16);
  EXPECT_EQ(cache.clear(), 0);
  s.release();
  EXPECT_EQ(cache.clear(), 4);
}

TEST(kv_cache, least_recently_used_goes_first) {
  kv_cache cache = make(12);
  publish(cache, counting(0, 16));
  publish(cache, counting(100, 16));
  publish(cache, counting(200, 16));
  publish(cache, counting(0, 16));  // used again; one block made room for the copy of its last
  cache.evict(3);
  EXPECT_EQ(cache.match(counting(100, 16)).tokens, 0);
  EXPECT_EQ(cache.match(counting(0, 16)).tokens, 16);
  EXPECT_EQ(cache.match(counting(200, 16)).tokens, 16);
}

TEST(kv_cache, out_of_blocks_is_reported_and_changes_nothing) {
  kv_cache cache = make(8);
  publish(cache, counting(500, 8));
  step_plan plan;
  sequence s = cache.open(counting(0, 24), {}, plan).value();
  const cache_statistics before = cache.statistics();
  plan.clear();
  result<sequence> refused = cache.open(counting(100, 16), {}, plan);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, errc::out_of_blocks);
  EXPECT_TRUE(says(refused.error(), {"16 tokens", "4 blocks", "2 are free"}))
      << refused.error().message;
  const cache_statistics after = cache.statistics();
  EXPECT_EQ(after.blocks_free, before.blocks_free);
  EXPECT_EQ(after.cached_tokens, before.cached_tokens) << "what could be evicted in vain was not";
  EXPECT_EQ(after.failed_opens, before.failed_opens + 1);
  EXPECT_FALSE(s.reserve(24, plan).ok());
  EXPECT_TRUE(plan.empty());
  EXPECT_TRUE(cache.can_allocate(2));
  EXPECT_FALSE(cache.can_allocate(3));
  EXPECT_EQ(cache.check_invariants(), "");
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

TEST(kv_cache, two_requests_that_compute_the_same_leave_one_copy) {
  kv_cache cache = make(16);
  const auto t = counting(0, 16);
  step_plan plan;
  sequence a = cache.open(t, {}, plan).value();
  sequence b = cache.open(t, {}, plan).value();
  ASSERT_TRUE(a.mark_filled(16).ok());
  ASSERT_TRUE(b.mark_filled(16).ok());
  EXPECT_EQ(a.commit()->new_blocks, 4);
  const commit_result second = b.commit().value();
  EXPECT_EQ(second.duplicate_blocks, 4);
  EXPECT_EQ(second.new_blocks, 0);
  EXPECT_EQ(cache.statistics().blocks_used, 8);
  b.release();
  EXPECT_EQ(cache.statistics().blocks_used, 4);
  a.release();
  EXPECT_EQ(cache.statistics().blocks_used, 4);
  EXPECT_EQ(cache.check_invariants(), "");
}

TEST(kv_cache, forks_share_until_they_write) {
  kv_cache cache = make(16);
  step_plan plan;
  sequence a = cache.open(counting(0, 6), {}, plan).value();
  ASSERT_TRUE(a.mark_filled(6).ok());
  sequence b = a.fork().value();
  EXPECT_EQ(cache.statistics().blocks_used, 2);
  EXPECT_TRUE(std::equal(a.block_table().begin(), a.block_table().end(), b.block_table().begin()));
  ASSERT_TRUE(b.reserve(1, plan).ok());
  ASSERT_EQ(plan.copies.size(), 1u);
  EXPECT_EQ(plan.copies[0], (block_copy{a.block_table()[1], b.block_table()[1], 2}));
  plan.clear();
  ASSERT_TRUE(a.reserve(1, plan).ok());
  EXPECT_TRUE(plan.empty()) << "alone again: written in place";
  ASSERT_TRUE(a.accept(counting(70, 1)).ok());
  ASSERT_TRUE(b.accept(counting(80, 1)).ok());
  std::vector<token_id> last(1);
  a.read_tokens(6, last);
  EXPECT_EQ(last[0], 70u);
  b.read_tokens(6, last);
  EXPECT_EQ(last[0], 80u);
  EXPECT_EQ(cache.check_invariants(), "");
}

TEST(kv_cache, generation_is_published_as_it_goes_without_copies) {
  kv_cache cache = make(16);
  step_plan plan;
  sequence s = cache.open(counting(0, 5), {}, plan).value();
  for (token_id t = 5; t < 30; ++t) {
    ASSERT_TRUE(s.reserve(1, plan).ok());
    ASSERT_TRUE(s.accept(std::span(&t, 1)).ok());
    ASSERT_EQ(s.commit()->published_tokens, t);
    ASSERT_EQ(cache.match(counting(0, 40)).tokens, t);
  }
  EXPECT_TRUE(plan.empty());
  EXPECT_EQ(cache.statistics().nodes, 2) << "one root, one run";
  EXPECT_EQ(cache.check_invariants(), "");
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
  cache.match_batch(requests, out, spans);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    std::vector<block_id> table(prompts[i].size() / 4);
    const prefix_match one = cache.match(prompts[i], requests[i].name_space, table);
    EXPECT_EQ(out[i].tokens, one.tokens);
    EXPECT_EQ(out[i].blocks, one.blocks);
    EXPECT_TRUE(std::equal(table.begin(), table.begin() + one.blocks, tables[i].begin()));
  }
}

TEST(kv_cache, a_limit_on_prefixes_is_kept) {
  cache_options o;
  o.blocks = 64;
  o.block_tokens = 4;
  o.max_prefixes = 3;
  kv_cache cache = kv_cache::create(o).value();
  for (token_id i = 0; i < 10; ++i) {
    publish(cache, counting(i * 100, 12));
    EXPECT_LE(cache.statistics().cached_prefixes, 3);
  }
  EXPECT_EQ(cache.match(counting(900, 12)).tokens, 12);
  EXPECT_EQ(cache.match(counting(0, 12)).tokens, 0);
}

TEST(kv_cache, tells_when_watermarks_are_crossed) {
  std::vector<pressure> seen;
  cache_options o;
  o.blocks = 10;
  o.block_tokens = 4;
  o.on_pressure = [&](const pressure_event& e) { seen.push_back(e.level); };
  kv_cache cache = kv_cache::create(o).value();
  EXPECT_TRUE(seen.empty()) << "an unused pool is not under pressure";
  step_plan plan;
  sequence a = cache.open(counting(0, 24), {}, plan).value();  // 4 free
  EXPECT_TRUE(seen.empty());
  sequence b = cache.open(counting(100, 8), {}, plan).value();  // 2 free
  sequence c = cache.open(counting(200, 8), {}, plan).value();  // none free
  b.release();
  c.release();
  EXPECT_EQ(seen, (std::vector{pressure::low, pressure::high, pressure::low, pressure::none}));
}

TEST(kv_cache, a_failed_plan_publishes_nothing) {
  kv_cache cache = make(16, 4, 2);
  publish(cache, counting(0, 8));
  auto t = counting(0, 8);
  t[6] = 99;
  step_plan plan;
  sequence s = cache.open(t, {}, plan).value();
  ASSERT_EQ(plan.copies.size(), 1u);
  cache.report_failure(plan);
  ASSERT_TRUE(s.mark_filled(8).ok());
  EXPECT_EQ(s.commit().error().code, errc::released);
  EXPECT_EQ(cache.match(t).tokens, 6);

  sequence ok = cache.open(counting(50, 8), {}, plan).value();
  ASSERT_TRUE(ok.mark_filled(8).ok());
  step_plan after;
  ASSERT_NE(ok.commit_logits(8, 0, after)->slot, no_slot);
  cache.report_failure(after);
  EXPECT_EQ(cache.match(counting(50, 8)).slot, no_slot);
  EXPECT_EQ(cache.check_invariants(), "");
}

TEST(kv_cache, sequences_may_outlive_the_cache) {
  step_plan plan;
  sequence s;
  {
    kv_cache cache = make(8);
    s = cache.open(counting(0, 8), {}, plan).value();
  }
  ASSERT_TRUE(s.mark_filled(8).ok());
  EXPECT_TRUE(s.commit().ok());
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

}  // namespace
}  // namespace radixkv
