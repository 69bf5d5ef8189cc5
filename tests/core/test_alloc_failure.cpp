// Fail the nth allocation, n = 0, 1, …, until an operation passes: each failure is an error and
// nothing else. The index's own arrays are mapped and do not count here.
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"
#include "tests/core/alloc_failure_world.h"
#include "tests/support/alloc_failure.h"

namespace radixkv::testing {
namespace {

const std::vector<token_id> too_large = tokens_from(0, 97);
// Like what is cached up to the middle of a block.
const std::vector<token_id> parting_prompt = [] {
  std::vector<token_id> t = tokens_from(0, 10);
  t.push_back(777);
  return t;
}();

const scenario scenarios[] = {
    {"open_known", [](world& w) { return keep(w, w.cache[0].open(known_prompt, "a", w.plan)); }},
    {"open_fresh", [](world& w) { return keep(w, w.cache[0].open(fresh_prompt, "new", w.plan)); }},
    {"open_evicting", [](world& w) { return keep(w, w.cache[0].open(large_prompt, "a", w.plan)); }},
    {"append", [](world& w) { return w.open[0].append(few_tokens, w.plan); }},
    {"append_evicting",
     [](world& w) { return w.open[0].append(std::span(large_prompt).first(50), w.plan); }},
    {"reserve", [](world& w) { return w.open[0].reserve(9, w.plan); }},
    {"accept",
     [](world& w) {
       if (status s = w.open[0].reserve(3, w.plan); !s) return s;
       return w.open[0].accept(few_tokens);
     },
     false},
    {"fork", [](world& w) { return keep(w, w.open[0].fork()); }},
    {"truncate", [](world& w) { return w.open[0].truncate(9); }},
    {"commit", [](world& w) { return status_of(w.open[0].commit()); }},
    {"commit_part", [](world& w) { return status_of(w.open[0].commit(9)); }},
    {"commit_logits", [](world& w) { return status_of(w.open[0].commit_logits(11, 0, w.plan)); }},
    {"mark_filled", [](world& w) { return w.open[0].mark_filled(11); }},
    {"release",
     [](world& w) {
       w.open[0].release();
       return status();
     }},
    {"evict",
     [](world& w) {
       w.cache[0].evict(5);
       return status();
     },
     false},
    {"clear",
     [](world& w) {
       w.cache[0].clear();
       return status();
     },
     false},
    {"match",
     [](world& w) {
       EXPECT_EQ(w.cache[0].match(known_prompt, "a").tokens, 10);
       return status();
     }},
    {"match_batch",
     [](world& w) {
       const open_request requests[] = {
           {known_prompt, "a"}, {fresh_prompt, "new"}, {few_tokens, "b"}};
       prefix_match out[3];
       status matched = w.cache[0].match_batch(requests, out);
       EXPECT_EQ(out[0].tokens, 10);
       return matched;
     }},
    {"statistics",
     [](world& w) {
       EXPECT_EQ(w.cache[0].statistics().sequences, 1);
       return status();
     }},
    {"sequences", [](world& w) { return status_of(w.cache[0].sequences()); }},
    {"dump", [](world& w) { return status_of(w.cache[0].dump()); }},
    {"for_each_prefix",
     [](world& w) {
       return w.cache[0].for_each_prefix(
           [](std::string_view, std::span<const token_id>) { return true; });
     }},
    // A copy for open[1] and a row of logits, neither of which comes; open[0] has no part in it.
    {"report_failure",
     [](world& w) {
       w.cache[0].report_failure(w.plan);
       return status();
     },
     false,
     [](world& w) {
       EXPECT_TRUE(keep(w, w.cache[0].open(parting_prompt, "a", w.plan)).ok());
       EXPECT_TRUE(keep(w, w.cache[0].open(fresh_prompt, "a", w.plan)).ok());
       EXPECT_TRUE(w.open[2].mark_filled(w.open[2].tokens()).ok());
       EXPECT_TRUE(w.open[2].commit_logits(w.open[2].tokens(), 0, w.plan).ok());
       EXPECT_EQ(w.plan.copies.size(), 1U);
       EXPECT_EQ(w.plan.logits.size(), 1U);
       EXPECT_NE(w.cache[0].match(fresh_prompt, "a").slot, no_slot);
     },
     [](world& w) {
       EXPECT_EQ(status_of(w.open[1].commit()).error().code, errc::released);
       EXPECT_EQ(w.cache[0].match(fresh_prompt, "a").slot, no_slot);
       EXPECT_TRUE(w.open[0].commit().ok() && w.open[2].commit().ok());
     }},
};

// Errors that are no lack of memory stay what they are, or become one.
const scenario refusals[] = {
    {"empty prompt", [](world& w) { return keep(w, w.cache[0].open({}, "", w.plan)); }},
    {"too large", [](world& w) { return keep(w, w.cache[0].open(too_large, "", w.plan)); }},
    {"no room",
     [](world& w) { return w.open[0].reserve(24 * 4 - w.open[0].tokens() + 1, w.plan); }},
    {"accept without room", [](world& w) { return w.open[0].accept(large_prompt); }},
    {"mark beyond", [](world& w) { return w.open[0].mark_filled(50); }},
    {"truncate beyond", [](world& w) { return w.open[0].truncate(50); }},
    {"commit beyond", [](world& w) { return status_of(w.open[0].commit(50)); }},
    {"a batch into too few results",
     [](world& w) {
       const open_request requests[] = {{known_prompt, "a"}, {few_tokens, "b"}};
       prefix_match out[1];
       return w.cache[0].match_batch(requests, out);
     }},
    {"read beyond",
     [](world& w) {
       token_id out[1];
       return w.open[0].read_tokens(w.open[0].tokens(), out);
     }},
    {"negative row", [](world& w) { return status_of(w.open[0].commit_logits(11, -1, w.plan)); }},
    {"no logits", [](world& w) { return w.open[0].load_logits(0, w.plan); }},
    {"released",
     [](world& w) {
       sequence gone;
       return gone.reserve(1, w.plan);
     }},
};

class alloc_failures : public ::testing::TestWithParam<std::tuple<const char*, bool>> {
 protected:
  [[nodiscard]] std::string policy() const { return std::get<0>(GetParam()); }
  [[nodiscard]] bool from_then_on() const { return std::get<1>(GetParam()); }
};

TEST_P(alloc_failures, every_operation_reports_them_and_changes_nothing) {
  fail_each_allocation(scenarios, policy(), from_then_on());
}

TEST_P(alloc_failures, refusals_need_no_memory_to_be_told) {
  refuse_with_each_allocation_failing(refusals, policy(), from_then_on());
}

// A batch stops at the request whose allocation was refused; those before it stay open.
TEST_P(alloc_failures, a_batch_stops_where_memory_is_refused) {
  const open_request requests[] = {{known_prompt, "a"}, {fresh_prompt, "new"}, {few_tokens, "b"}};
  for (std::int64_t n = 0;; ++n) {
    ASSERT_LT(n, 1000);
    const std::int64_t live = live_allocations();
    bool fired = false;
    {
      world w(policy());
      alloc_failure failing(n, from_then_on());
      open_batch_result opened = w.cache[0].open_batch(requests, w.plan);
      failing.stop();
      fired = failing.fired();
      ASSERT_EQ(w.cache[0].check_invariants(), "") << n;
      ASSERT_EQ(w.cache[0].statistics().sequences,
                static_cast<std::int64_t>(opened.sequences.size()) + 1);
      if (opened.sequences.size() < 3) {
        ASSERT_TRUE(fired);
        ASSERT_EQ(opened.stopped.code, errc::out_of_memory);
        ASSERT_FALSE(opened.stopped.message.empty());
      }
      for (std::size_t i = 0; i < opened.sequences.size(); ++i) {
        std::vector<token_id> back(requests[i].tokens.size());
        ASSERT_TRUE(opened.sequences[i].read_tokens(0, back).ok());
        ASSERT_TRUE(std::ranges::equal(back, requests[i].tokens));
      }
      const auto rest = std::span(requests).subspan(opened.sequences.size());
      const open_batch_result again = w.cache[0].open_batch(rest, w.plan);
      ASSERT_EQ(again.sequences.size(), rest.size()) << again.stopped.message;
      ASSERT_EQ(w.cache[0].check_invariants(), "") << n;
    }
    ASSERT_EQ(live_allocations(), live) << "allocation " << n << " leaks";
    if (!fired) break;
  }
}

// However long the prompt is and wherever it parts from others, alone and in a batch.
TEST(matching, asks_for_no_memory) {
  cache_options o;
  o.blocks = 1024;
  o.block_tokens = 4;
  o.logits_rows = 4;
  kv_cache cache = kv_cache::create(o).value();
  const auto serve = [&](std::span<const token_id> tokens) {
    step_plan plan;
    sequence s = cache.open(tokens, {}, plan).value();
    ASSERT_TRUE(s.mark_filled(s.tokens()).ok() && s.commit().ok());
  };
  // One run; a branch behind every block; and every eight.
  std::vector<std::vector<token_id>> prompts;
  for (const std::size_t apart : {1000, 4, 32}) {
    const std::vector<token_id>& path =
        prompts.emplace_back(tokens_from(static_cast<token_id>(10'000 * apart), 600));
    serve(path);
    for (std::size_t at = apart; at < path.size(); at += apart) {
      std::vector<token_id> branch(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(at));
      branch.insert(branch.end(), 4, 7);
      serve(branch);
    }
  }
  std::vector<std::int64_t> cached(prompts.size(), 600);
  prompts.push_back(prompts[1]);
  prompts.back()[301] = 8;  // parts inside a block
  cached.push_back(301);
  prompts.push_back(tokens_from(9, 600));
  cached.push_back(0);
  std::vector<open_request> requests(prompts.size());
  for (std::size_t i = 0; i < prompts.size(); ++i) requests[i].tokens = prompts[i];
  std::vector<prefix_match> alone(prompts.size());
  std::vector<prefix_match> together(prompts.size());
  std::vector<block_id> table(150);
  const std::uint64_t asked = allocations_asked_for();
  for (std::size_t i = 0; i < prompts.size(); ++i) alone[i] = cache.match(prompts[i], {}, table);
  const bool matched = cache.match_batch(requests, together).ok();
  EXPECT_EQ(allocations_asked_for() - asked, 0u);
  EXPECT_TRUE(matched);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(alone[i].tokens, cached[i]) << i;
    EXPECT_EQ(together[i].tokens, cached[i]) << i;
  }
}

TEST_P(alloc_failures, creation_reports_them) {
  std::int64_t failures = 0;
  for (std::int64_t n = 0;; ++n) {
    const std::int64_t live = live_allocations();
    bool fired = false;
    {
      cache_options o;
      o.blocks = 24;
      o.logits_rows = 4;
      o.policy = policy();
      alloc_failure failing(n, from_then_on());
      result<kv_cache> made = kv_cache::create(std::move(o));
      failing.stop();
      fired = failing.fired();
      if (!made) {
        ASSERT_EQ(made.error().code, errc::out_of_memory) << made.error().message;
        ++failures;
      }
      ASSERT_TRUE(fired || made.ok());
    }
    ASSERT_EQ(live_allocations(), live) << "allocation " << n << " leaks";
    if (!fired) break;
  }
  EXPECT_GT(failures, 0);
}

INSTANTIATE_TEST_SUITE_P(
    policies, alloc_failures,
    ::testing::Combine(::testing::ValuesIn(online_policies), ::testing::Bool()), [](const auto& p) {
      return std::string(std::get<0>(p.param)) + (std::get<1>(p.param) ? "_all" : "_one");
    });

}  // namespace
}  // namespace radixkv::testing
