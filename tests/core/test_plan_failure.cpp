// Fail the nth operation of an executor, n = 0, 1, …, until a serving step passes: requests that
// part inside blocks of each other, a fork that goes on, logits that are stored. Nothing that was
// not computed is published, everybody else's bytes are what they were, nothing leaks, and the same
// step then passes.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"
#include "tests/core/alloc_failure_world.h"
#include "tests/support/model_memory.h"

namespace radixkv::testing {
namespace {

std::vector<std::uint64_t> hashes_of(std::span<const token_id> t) {
  std::vector<std::uint64_t> all;
  std::uint64_t h = 1;
  for (const token_id x : t) all.push_back(h = model_memory::fold(h, x));
  return all;
}

class plan_failures : public ::testing::TestWithParam<const char*> {
 protected:
  plan_failures() : cache_(kv_cache::create(options()).value()), memory_(options(), true) {}

  static cache_options options() {
    cache_options o;
    o.blocks = 40;
    o.block_tokens = 4;
    o.min_prefix_tokens = 1;
    o.logits_rows = 8;
    o.policy = GetParam();
    o.clock = [] { return 1.0; };
    return o;
  }
  static std::vector<token_id> prompt(std::size_t shared, token_id rest, std::size_t n) {
    std::vector<token_id> t = tokens_from(0, shared);
    while (t.size() < n) t.push_back(rest++);
    return t;
  }
  void compute(const sequence& s, std::span<const token_id> t) {
    const auto first = static_cast<std::size_t>(s.filled_tokens());
    const std::vector<std::uint64_t> all = hashes_of(t);
    memory_.write(s.block_table(), s.filled_tokens(), std::span(all).subspan(first));
  }
  void serve(const std::vector<token_id>& t) {
    step_plan plan;
    sequence s = cache_.open(t, "", plan).value();
    ASSERT_TRUE(memory_.run(plan).ok());
    compute(s, t);
    ASSERT_TRUE(s.mark_filled(s.tokens()).ok());
    step_plan after;
    ASSERT_TRUE(s.commit_logits(s.tokens(), 0, after).ok());
    memory_.write_batch(0, hashes_of(t).back());
    ASSERT_TRUE(memory_.run(after).ok());
  }
  // Whatever can be matched holds the right bytes, and the right logits.
  void check_cached(const std::string& where) {
    ASSERT_EQ(cache_.check_invariants(), "") << where;
    const status visited =
        cache_.for_each_prefix([&](std::string_view, std::span<const token_id> t) {
          all_.emplace_back(t.begin(), t.end());
          return true;
        });
    ASSERT_TRUE(visited.ok());
    for (const std::vector<token_id>& t : all_) {
      std::vector<block_id> table((t.size() + 3) / 4);
      const prefix_match m = cache_.match(t, "", table);
      const auto whole = static_cast<std::size_t>(m.blocks * 4);
      ASSERT_GE(whole, t.size() / 4 * 4) << where;
      const std::vector<std::uint64_t> hashes = hashes_of(t);
      ASSERT_TRUE(memory_.holds(table, 0, std::span(hashes).first(whole))) << where;
      if (m.slot != no_slot) {
        ASSERT_TRUE(memory_.store_holds(m.slot, hashes.back())) << where;
      }
    }
    all_.clear();
  }

  kv_cache cache_;
  model_memory memory_;
  std::vector<std::vector<token_id>> all_;
};

TEST_P(plan_failures, nothing_uncomputed_is_published) {
  std::int64_t failed_steps = 0;
  bool passed = false;
  for (std::int64_t n = 0; !passed; ++n) {
    ASSERT_LT(n, 50);
    const std::string where = "operation " + std::to_string(n);
    serve(prompt(0, 100, 10));
    serve(prompt(11, 200, 15));
    const std::vector<std::vector<token_id>> prompts = {prompt(7, 300, 12), prompt(10, 400, 13),
                                                        prompt(0, 500, 9), prompt(11, 200, 15)};
    step_plan plan;
    std::vector<sequence> open;
    for (const auto& t : prompts) open.push_back(cache_.open(t, "", plan).value());
    ASSERT_NE(open[3].cached_logits(), no_slot);
    ASSERT_TRUE(open[3].load_logits(2, plan).ok());
    open.push_back(open[3].fork().value());
    ASSERT_TRUE(open[4].reserve(1, plan).ok());  // copies the tail that it shares
    const std::size_t operations = plan.copies.size() + plan.logits.size();
    ASSERT_GE(plan.copies.size(), 3u);
    passed = n >= static_cast<std::int64_t>(operations);

    const status ran = memory_.run(plan, passed ? -1 : n);
    ASSERT_EQ(ran.ok(), passed) << where;
    if (!passed) {
      ++failed_steps;
      cache_.report_failure(plan);
      check_cached(where);
      for (std::size_t i = 0; i < open.size(); ++i) {
        const bool fills = std::ranges::any_of(plan.copies, [&](const block_copy& c) {
          return std::ranges::count(open[i].block_table(), c.destination) != 0;
        });
        const result<commit_result> refused = open[i].commit();
        EXPECT_EQ(refused.ok(), !fills) << where << ", sequence " << i;
        if (!refused) {
          EXPECT_EQ(refused.error().code, errc::released);
        }
      }
      open.clear();
    } else {
      EXPECT_TRUE(memory_.batch_holds(2, hashes_of(prompts[3]).back()));
      for (std::size_t i = 0; i < prompts.size(); ++i) {
        compute(open[i], prompts[i]);
        ASSERT_TRUE(open[i].mark_filled(open[i].tokens()).ok());
        ASSERT_TRUE(open[i].commit().ok());
        ASSERT_TRUE(memory_.holds(open[i].block_table(), 0, hashes_of(prompts[i])));
      }
      ASSERT_TRUE(memory_.holds(open[4].block_table(), 0, hashes_of(prompts[3])));
      open.clear();
    }
    check_cached(where);
    cache_.clear();
    EXPECT_EQ(cache_.statistics().blocks_free, 40) << where;
    EXPECT_EQ(cache_.statistics().logits_used, 0) << where;
  }
  EXPECT_GE(failed_steps, 4);
}

// The store of logits fails: the prefix stays, its logits are forgotten, and can be stored again.
TEST_P(plan_failures, logits_that_were_not_stored_are_not_served) {
  const std::vector<token_id> t = prompt(0, 100, 10);
  for (const bool fail : {true, false}) {
    step_plan plan;
    sequence s = cache_.open(t, "", plan).value();
    ASSERT_TRUE(memory_.run(plan).ok());
    compute(s, t);
    ASSERT_TRUE(s.mark_filled(10).ok());
    step_plan after;
    ASSERT_NE(s.commit_logits(10, 1, after)->slot, no_slot);
    memory_.write_batch(1, hashes_of(t).back());
    ASSERT_EQ(memory_.run(after, fail ? 0 : -1).ok(), !fail);
    if (fail) cache_.report_failure(after);
    const prefix_match m = cache_.match(t);
    EXPECT_EQ(m.tokens, 10);
    EXPECT_EQ(m.slot == no_slot, fail);
    check_cached(fail ? "failed" : "stored");
  }
}

INSTANTIATE_TEST_SUITE_P(policies, plan_failures, ::testing::ValuesIn(online_policies),
                         [](const auto& p) { return std::string(p.param); });

}  // namespace
}  // namespace radixkv::testing
