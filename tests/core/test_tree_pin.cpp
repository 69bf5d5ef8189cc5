// A node's pins against a list, also when the node is split.
#include <algorithm>
#include <list>
#include <random>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/tree_pin.h"

namespace radixkv::detail {
namespace {

class tree_pin_test : public ::testing::TestWithParam<std::tuple<std::uint32_t, std::uint32_t>> {};

TEST_P(tree_pin_test, the_deepest_is_known_whichever_go) {
  const auto [depths, priorities] = GetParam();
  constexpr node_id here = 7, above = 8;
  std::mt19937 random(depths);
  node_pins pins;
  std::list<tree_pin> laid;
  for (int op = 0; op < 20'000; ++op) {
    const bool grows = op / 2'000 % 2 == 0;
    if (laid.empty() || random() % 4 < (grows ? 3u : 1u)) {
      tree_pin& p = laid.emplace_back();
      p.depth = static_cast<std::uint32_t>(random() % depths);
      p.priority = static_cast<std::uint32_t>(random() % priorities);
      pins.add(p, here);
    } else {
      // The deepest, the first one, the last one, or any.
      auto p = std::max_element(laid.begin(), laid.end(),
                                [](const auto& a, const auto& b) { return a.depth < b.depth; });
      const auto which = random() % 4;
      if (which == 1) p = laid.begin();
      if (which == 2) p = std::prev(laid.end());
      if (which == 3) p = std::next(laid.begin(), static_cast<long>(random() % laid.size()));
      EXPECT_TRUE(p->is_laid());
      pins.remove(*p);
      EXPECT_FALSE(p->is_laid());
      laid.erase(p);
    }
    if (op % 500 == 499) {
      // Those that end above the split are the upper node's, and go.
      const auto at = static_cast<std::uint32_t>(random() % depths);
      node_pins upper = pins.split_off(at, above);
      ASSERT_EQ(upper.check(above), "");
      ASSERT_EQ(pins.check(here), "");
      for (const tree_pin& p : laid) ASSERT_EQ(p.end(), p.depth <= at ? above : here);
      laid.remove_if([&](tree_pin& p) {
        if (p.depth > at) return false;
        upper.remove(p);
        return true;
      });
      ASSERT_TRUE(upper.empty());
    }
    std::uint32_t deepest = 0;
    for (const tree_pin& p : laid) deepest = std::max(deepest, p.depth);
    ASSERT_EQ(pins.depth(), deepest);
    ASSERT_EQ(pins.empty(), laid.empty());
    ASSERT_EQ(pins.several(), laid.size() > 1);
    if (op % 64 != 0) continue;
    ASSERT_EQ(pins.check(here), "");
    std::vector<const tree_pin*> seen;
    pins.for_each([&](const tree_pin& p) { seen.push_back(&p); });
    std::size_t last = 0;
    for (const tree_pin& p : laid) {
      const node_id end = p.end_if_last();
      ASSERT_EQ(end, &p == seen.front() ? here : no_node);
      last += end == here;
    }
    ASSERT_EQ(last, laid.empty() ? 0 : 1);
    ASSERT_EQ(pins.count(), laid.size());
    std::sort(seen.begin(), seen.end());
    ASSERT_EQ(seen.size(), laid.size());
    ASSERT_EQ(std::unique(seen.begin(), seen.end()), seen.end());
  }
}

INSTANTIATE_TEST_SUITE_P(depths, tree_pin_test,
                         ::testing::Combine(::testing::Values(1u, 2u, 100u, 1'000'000u),
                                            ::testing::Values(1u, 3u, 1u << 31)));

}  // namespace
}  // namespace radixkv::detail
