// LRU against an oracle that remembers when each block was last used.
#include "csrc/core/eviction/lru.h"

#include <unordered_map>

#include <gtest/gtest.h>

#include "tests/core/eviction/random_load.h"

namespace radixkv {
namespace {

using study::path;
using study::random_paths;
using study::sim_tree;

struct load {
  std::uint64_t seed;
  std::uint32_t alphabet, longest, open;
  std::int64_t capacity;
  std::uint32_t tick_limit;
};

class lru_oracle : public ::testing::TestWithParam<load> {};

TEST_P(lru_oracle, victims_are_least_recently_used) {
  const load& l = GetParam();
  detail::lru_policy policy(l.tick_limit);
  sim_tree tree(policy, l.capacity, 16);
  random_paths paths(l.seed, l.alphabet, l.longest);
  std::unordered_map<std::uint64_t, std::uint64_t> used;  // block id → request that used it last
  std::vector<std::pair<sim_tree::handle, path>> open;
  int victims = 0;

  // The policy must name a leaf whose last block nobody else's evictable last block is older than.
  const auto expect_oldest = [&] {
    const victim v = policy.next_victim();
    bool any = false;
    std::uint64_t oldest = ~0ull;
    for (node_id n = 1; n < tree.node_limit(); ++n) {
      if (!tree.alive(n) || !tree.evictable(n)) continue;
      any = true;
      oldest = std::min(oldest, used[tree.id(n, tree.blocks(n) - 1)]);
    }
    ASSERT_EQ(any, v.node != no_node);
    if (!any) return;
    ASSERT_TRUE(tree.evictable(v.node));
    ASSERT_EQ(used[tree.id(v.node, tree.blocks(v.node) - 1)], oldest) << "node " << v.node;
    ++victims;
  };

  for (int step = 0; step < 6000; ++step) {
    const std::uint64_t what = paths.number() % 10;
    if (what < 4 && open.size() < l.open) {
      const path p = paths.make();
      open.emplace_back(tree.open(p), p);
    } else if (what < 8 && !open.empty()) {
      const std::size_t k = paths.number() % open.size();
      if (paths.number() % 8 == 0) {
        tree.abandon(open[k].first);
      } else {
        const path p = open[k].second;
        tree.close(open[k].first, {});
        for (std::uint32_t i = 0; i < p.blocks; ++i) used[p.at(i)] = tree.request();
      }
      open[k] = open.back();
      open.pop_back();
    } else if (what == 8) {
      for (std::uint64_t n = paths.number() % 4; n > 0; --n) {
        expect_oldest();
        if (HasFatalFailure()) return;
        tree.evict(1);
      }
    } else if (paths.number() % 200 == 0) {
      tree.clear();
    }
    expect_oldest();
    if (HasFatalFailure()) return;
    ASSERT_EQ(tree.failure(), "");
    if (step % 16 == 0) {
      ASSERT_EQ(policy.check(), "") << "step " << step;
    }
  }
  EXPECT_GT(victims, 1000);
}

INSTANTIATE_TEST_SUITE_P(loads, lru_oracle,
                         ::testing::Values(load{1, 2, 12, 4, 40, detail::lru_policy::max_tick},
                                           load{2, 3, 30, 12, 200, detail::lru_policy::max_tick},
                                           load{3, 8, 3, 3, 30, detail::lru_policy::max_tick},
                                           load{4, 2, 60, 1, 300, detail::lru_policy::max_tick},
                                           load{5, 3, 10, 6, 60, 100}));

TEST(lru, memory_is_bounded_when_one_leaf_is_used_all_the_time) {
  detail::lru_policy policy;
  sim_tree tree(policy, 1000, 16);
  random_paths paths(7, 4, 20);
  const path p = paths.make();
  for (int i = 0; i < 100'000; ++i) tree.close(tree.open(p), {});
  EXPECT_LT(policy.bytes(), 4096u);
}

TEST(lru, a_parent_inherits_recency) {
  detail::lru_policy policy;
  sim_tree tree(policy, 1000, 16);
  const std::vector<std::uint32_t> a{0, 1, 2, 3}, b{0, 1, 4, 5}, c{6, 7};
  const auto use = [&](const std::vector<std::uint32_t>& ids) {
    tree.close(tree.open({ids.data(), 1, static_cast<std::uint32_t>(ids.size())}), {});
  };
  use(a);
  use(c);
  use(b);
  // a's own tail is oldest, then c, then b's tail with the stem that b used.
  std::vector<std::uint64_t> order;
  for (;;) {
    const victim v = policy.next_victim();
    if (v.node == no_node) break;
    order.push_back(tree.id(v.node, tree.blocks(v.node) - 1));
    tree.evict(1);
  }
  EXPECT_EQ(order, (std::vector<std::uint64_t>{3, 2, 7, 6, 5, 4, 1, 0}));
}

}  // namespace
}  // namespace radixkv
