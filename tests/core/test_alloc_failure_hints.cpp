// Fail the nth allocation of what callers say beforehand: announcements, pinned prefixes, quotas,
// priorities, times to live, returns, learnt weights; and of what then meets these hints.
#include <cstddef>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"
#include "tests/core/alloc_failure_world.h"
#include "tests/support/alloc_failure.h"

namespace radixkv::testing {
namespace {

// Every kind of hint, on what is cached and on what is open.
void say_all(world& w) {
  EXPECT_TRUE(keep(w, w.cache[0].announce(known_prompt, "a")).ok());
  EXPECT_TRUE(keep(w, w.cache[0].announce(fresh_prompt, "new")).ok());
  EXPECT_TRUE(keep(w, w.cache[0].pin_prefix(tokens_from(0, 6), "a")).ok());
  EXPECT_TRUE(keep(w, w.cache[0].pin_prefix(fresh_prompt, "a")).ok());
  EXPECT_TRUE(w.cache[0].set_quota("a", 14).ok());
  EXPECT_TRUE(w.cache[0].set_quota("new", 6).ok());
  EXPECT_TRUE(w.open[0].set_priority(0, 6, 3).ok());
  EXPECT_TRUE(w.open[0].set_priority(4, 7, -2).ok());
  EXPECT_TRUE(w.open[0].set_ttl(5).ok());
  EXPECT_TRUE(w.open[0].expect_return(0.5, 3).ok());
}

void open_fresh_in_new(world& w) {
  EXPECT_TRUE(w.cache[0].set_quota("new", 6).ok());
  EXPECT_TRUE(keep(w, w.cache[0].open(fresh_prompt, "new", w.plan)).ok());
  EXPECT_TRUE(w.open[1].mark_filled(13).ok());
  w.plan.clear();
}

void learn(world& w) {
  w.learnt = w.cache[0].save_policy().value();
  for (token_id i = 0; i < 40; ++i) w.finish(tokens_from(500 + i, 9), "b");
}

const scenario scenarios[] = {
    {"announce_known", [](world& w) { return keep(w, w.cache[0].announce(known_prompt, "a")); }},
    {"announce_fresh", [](world& w) { return keep(w, w.cache[0].announce(large_prompt, "new")); }},
    {"announce_another", [](world& w) { return keep(w, w.cache[0].announce(large_prompt, "a")); },
     true, &say_all},
    {"open_announced",
     [](world& w) { return keep(w, w.cache[0].open(known_prompt, "a", w.plan, w.announced[0])); },
     true, [](world& w) { EXPECT_TRUE(keep(w, w.cache[0].announce(known_prompt, "a")).ok()); }},
    {"withdraw",
     [](world& w) {
       w.announced[0].withdraw();
       return status();
     },
     false, &say_all},
    {"pin_known", [](world& w) { return keep(w, w.cache[0].pin_prefix(known_prompt, "a")); }},
    {"pin_fresh", [](world& w) { return keep(w, w.cache[0].pin_prefix(fresh_prompt, "new")); }},
    {"pin_another", [](world& w) { return keep(w, w.cache[0].pin_prefix(known_prompt, "a")); },
     true, &say_all},
    {"unpin",
     [](world& w) {
       w.pinned[0].unpin();
       return status();
     },
     false, &say_all},
    {"quota", [](world& w) { return w.cache[0].set_quota("a", 20); }},
    {"quota_evicting", [](world& w) { return w.cache[0].set_quota("a", 5); }},
    {"quota_of_nobody", [](world& w) { return w.cache[0].set_quota("a name as yet unused", 5); }},
    {"quota_lowered", [](world& w) { return w.cache[0].set_quota("a", 6); }, true, &say_all},
    {"quota_lifted", [](world& w) { return w.cache[0].set_quota("a", 0); }, true, &say_all},
    {"open_under_quota",
     [](world& w) { return keep(w, w.cache[0].open(fresh_prompt, "new", w.plan)); }, true,
     &say_all},
    {"append_under_quota", [](world& w) { return w.open[1].append(few_tokens, w.plan); }, true,
     &open_fresh_in_new},
    {"commit_under_quota", [](world& w) { return status_of(w.open[1].commit()); }, true,
     &open_fresh_in_new},
    {"priority", [](world& w) { return w.open[0].set_priority(0, 8, 7); }},
    {"priority_below", [](world& w) { return w.open[0].set_priority(2, 4, -7); }},
    {"priority_again", [](world& w) { return w.open[0].set_priority(0, 6, 4); }, true, &say_all},
    {"priority_back", [](world& w) { return w.open[0].set_priority(0, 6, 0); }, true, &say_all},
    {"ttl", [](world& w) { return w.open[0].set_ttl(9); }},
    {"ttl_again", [](world& w) { return w.open[0].set_ttl(9); }, true, &say_all},
    {"expect_return", [](world& w) { return w.open[0].expect_return(0.9, 1); }},
    {"expect_again", [](world& w) { return w.open[0].expect_return(0.9, 1); }, true, &say_all},
    {"ended", [](world& w) { return w.open[0].ended(); }},
    {"ended_after_all", [](world& w) { return w.open[0].ended(); }, true, &say_all},
    {"release_with_hints",
     [](world& w) {
       if (status s = status_of(w.open[0].commit()); !s) return s;
       w.open[0].release();
       return status();
     },
     true, &say_all},
    {"fork_with_hints", [](world& w) { return keep(w, w.open[0].fork()); }, true, &say_all},
    {"commit_with_hints", [](world& w) { return status_of(w.open[0].commit()); }, true, &say_all},
    {"open_evicting_hints",
     [](world& w) { return keep(w, w.cache[0].open(large_prompt, "c", w.plan)); }, true, &say_all},
    {"evict_hints",
     [](world& w) {
       w.cache[0].evict(12);
       return status();
     },
     false, &say_all},
    {"clear_hints",
     [](world& w) {
       w.cache[0].clear();
       return status();
     },
     false, &say_all},
    {"save_policy", [](world& w) { return status_of(w.cache[0].save_policy()); }},
    {"load_policy", [](world& w) { return w.cache[0].load_policy(w.learnt); }, true, &learn},
};

class alloc_failures_of_hints : public ::testing::TestWithParam<std::tuple<const char*, bool>> {};

TEST_P(alloc_failures_of_hints, every_hint_reports_them_and_changes_nothing) {
  fail_each_allocation(scenarios, std::get<0>(GetParam()), std::get<1>(GetParam()));
}

const std::vector<token_id> too_large = tokens_from(0, 97);
const std::vector<std::byte> no_weights(7);

const scenario refusals[] = {
    {"announce nothing", [](world& w) { return keep(w, w.cache[0].announce({}, "a")); }},
    {"announce too much", [](world& w) { return keep(w, w.cache[0].announce(too_large, "a")); }},
    {"announced elsewhere",
     [](world& w) { return keep(w, w.cache[0].open(known_prompt, "a", w.plan, w.announced[0])); },
     true,
     [](world& w) {
       cache_options o;
       o.blocks = 4;
       w.cache.push_back(kv_cache::create(std::move(o)).value());
       EXPECT_TRUE(keep(w, w.cache[1].announce(known_prompt, "a")).ok());
     }},
    {"pin nothing", [](world& w) { return keep(w, w.cache[0].pin_prefix({}, "a")); }},
    {"quota below 0", [](world& w) { return w.cache[0].set_quota("a", -1); }},
    {"more than the quota",
     [](world& w) { return keep(w, w.cache[0].open(large_prompt, "new", w.plan)); }, true,
     &say_all},
    {"priority 101", [](world& w) { return w.open[0].set_priority(0, 1, 101); }},
    {"priority of nothing", [](world& w) { return w.open[0].set_priority(0, 0, 1); }},
    {"priority from below 0", [](world& w) { return w.open[0].set_priority(-1, 2, 1); }},
    {"ttl of 0", [](world& w) { return w.open[0].set_ttl(0); }},
    {"return by 2", [](world& w) { return w.open[0].expect_return(2, 1); }},
    {"return at -1", [](world& w) { return w.open[0].expect_return(0.5, -1); }},
    {"hint on nothing",
     [](world&) {
       sequence gone;
       return gone.set_ttl(1);
     }},
    {"weights that are none", [](world& w) { return w.cache[0].load_policy(no_weights); }},
};

TEST_P(alloc_failures_of_hints, refusals_need_no_memory_to_be_told) {
  refuse_with_each_allocation_failing(refusals, std::get<0>(GetParam()), std::get<1>(GetParam()));
}

// An announcement of a prompt with many hashes, some of which another has as well.
TEST_P(alloc_failures_of_hints, a_path_is_announced_with_all_hashes_or_none) {
  const std::vector<token_id> prompt = tokens_from(0, 1000);
  std::vector<token_id> beside = tokens_from(0, 500);
  beside.resize(900);
  std::int64_t failures = 0;
  for (std::int64_t n = 0;; ++n) {
    ASSERT_LT(n, 1000);
    const std::int64_t live = live_allocations();
    bool fired = false;
    {
      cache_options o;
      o.blocks = 80;
      o.block_tokens = 16;
      o.policy = std::get<0>(GetParam());
      kv_cache cache = kv_cache::create(std::move(o)).value();
      const announcement other = cache.announce(beside, "a").value();
      alloc_failure failing(n, std::get<1>(GetParam()));
      result<announcement> made = cache.announce(prompt, "a");
      failing.stop();
      fired = failing.fired();
      ASSERT_EQ(cache.check_invariants(), "") << "allocation " << n;
      ASSERT_EQ(made.ok(), !fired) << "allocation " << n;
      if (!made) {
        ++failures;
        ASSERT_EQ(made.error().code, errc::out_of_memory);
        ASSERT_EQ(cache.statistics().announcements, 1);
        made = cache.announce(prompt, "a");
        ASSERT_TRUE(made.ok() && cache.check_invariants().empty());
      }
      made->withdraw();
      ASSERT_EQ(cache.check_invariants(), "") << "allocation " << n;
    }
    ASSERT_EQ(live_allocations(), live) << "allocation " << n << " leaks";
    if (!fired) break;
  }
  EXPECT_GT(failures, 5);
}

INSTANTIATE_TEST_SUITE_P(
    policies, alloc_failures_of_hints,
    ::testing::Combine(::testing::ValuesIn(online_policies), ::testing::Bool()), [](const auto& p) {
      return std::string(std::get<0>(p.param)) + (std::get<1>(p.param) ? "_all" : "_one");
    });

}  // namespace
}  // namespace radixkv::testing
