// Fail the nth block allocation, n = 0, 1, …, until an operation passes: a sequence takes all
// blocks but n, so that the operation gets n and is refused the next. What is refused has changed
// nothing.
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"
#include "tests/core/alloc_failure_world.h"

namespace radixkv::testing {
namespace {

enum class rest : std::uint8_t {
  pinned,    // everything cached is in use: only free blocks are left
  evictable  // what is cached and not in use may go
};

const scenario scenarios[] = {
    {"open_known", [](world& w) { return keep(w, w.cache[0].open(known_prompt, "a", w.plan)); }},
    {"open_fresh", [](world& w) { return keep(w, w.cache[0].open(fresh_prompt, "new", w.plan)); }},
    {"open_parting_inside_a_block",
     [](world& w) { return keep(w, w.cache[0].open(few_tokens, "a", w.plan)); }},
    {"open_announced",
     [](world& w) { return keep(w, w.cache[0].open(fresh_prompt, "a", w.plan, w.announced[0])); },
     true, [](world& w) { EXPECT_TRUE(keep(w, w.cache[0].announce(fresh_prompt, "a")).ok()); }},
    {"append", [](world& w) { return w.open[0].append(fresh_prompt, w.plan); }},
    {"reserve", [](world& w) { return w.open[0].reserve(14, w.plan); }},
    {"reserve_copying_a_shared_tail", [](world& w) { return w.open[1].reserve(6, w.plan); }, true,
     [](world& w) { EXPECT_TRUE(keep(w, w.open[0].fork()).ok()); }},
};

// The last of w.open takes blocks until n are left, those that are to be evicted included.
void leave(world& w, rest r, std::int64_t n) {
  static const std::vector<token_id> one = {9'000'000};
  if (r == rest::pinned) {
    std::vector<std::vector<token_id>> all;
    std::vector<std::string> spaces;
    EXPECT_TRUE(w.cache[0]
                    .for_each_prefix([&](std::string_view space, std::span<const token_id> t) {
                      all.emplace_back(t.begin(), t.end());
                      spaces.emplace_back(space);
                      return true;
                    })
                    .ok());
    // Whole prompts whose logits are cached: they take no block.
    for (std::size_t i = 0; i < all.size(); ++i) {
      EXPECT_TRUE(keep(w, w.cache[0].open(all[i], spaces[i], w.plan)).ok());
    }
    w.plan.clear();
  }
  EXPECT_TRUE(keep(w, w.cache[0].open(one, "another", w.plan)).ok());
  std::int64_t left = 0;
  while (w.cache[0].can_allocate(left + 1)) ++left;
  EXPECT_GE(left, n);
  EXPECT_TRUE(w.open.back().reserve(3 + 4 * (left - n), w.plan).ok());
  EXPECT_TRUE(w.cache[0].can_allocate(n) && !w.cache[0].can_allocate(n + 1));
}

class block_failures : public ::testing::TestWithParam<std::tuple<const char*, rest>> {};

TEST_P(block_failures, refused_operations_change_nothing_and_succeed_later) {
  const auto& [policy, r] = GetParam();
  for (const scenario& sc : scenarios) {
    std::int64_t refused = 0;
    bool passed = false;
    for (std::int64_t n = 0; !passed; ++n) {
      ASSERT_LT(n, world::blocks) << sc.name << " never passes";
      const std::string where = std::string(sc.name) + ", block " + std::to_string(n);
      world w(policy);
      if (sc.prepare) sc.prepare(w);
      leave(w, r, n);
      ASSERT_EQ(w.cache[0].check_invariants(), "") << where;
      const std::string before = w.state();
      const std::size_t hog = w.open.size() - 1;
      const status done = sc.run(w);
      ASSERT_EQ(w.cache[0].check_invariants(), "") << where;
      passed = done.ok();
      if (!passed) {
        ++refused;
        ASSERT_EQ(done.error().code, errc::out_of_blocks) << where;
        ASSERT_EQ(w.state(), before) << where;
        w.open[hog].release();
        const status again = sc.run(w);
        ASSERT_TRUE(again.ok()) << where << ": " << again.error().message;
        ASSERT_EQ(w.cache[0].check_invariants(), "") << where;
      }
      w.close(where);
    }
    EXPECT_GT(refused, 0) << sc.name;
  }
}

INSTANTIATE_TEST_SUITE_P(policies, block_failures,
                         ::testing::Combine(::testing::ValuesIn(online_policies),
                                            ::testing::Values(rest::pinned, rest::evictable)),
                         [](const auto& p) {
                           return std::string(std::get<0>(p.param)) +
                                  (std::get<1>(p.param) == rest::pinned ? "_pinned" : "_evictable");
                         });

}  // namespace
}  // namespace radixkv::testing
