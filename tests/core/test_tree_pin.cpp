// A node's pins against a sorted list.
#include <algorithm>
#include <list>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/tree_pin.h"

namespace radixkv::detail {
namespace {

class tree_pin_test : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(tree_pin_test, the_deepest_is_known_whichever_go) {
  const std::uint32_t depths = GetParam();
  constexpr node_id here = 7;
  std::mt19937 random(depths);
  node_pins pins;
  std::list<tree_pin> laid;
  for (int op = 0; op < 20'000; ++op) {
    const bool grows = op / 2'000 % 2 == 0;
    if (laid.empty() || random() % 4 < (grows ? 3u : 1u)) {
      tree_pin& p = laid.emplace_back();
      p.node = here;
      p.depth = static_cast<std::uint32_t>(random() % depths);
      pins.add(p);
    } else {
      // The deepest, the first one, the last one, or any.
      auto p = std::max_element(laid.begin(), laid.end(),
                                [](const auto& a, const auto& b) { return a.depth < b.depth; });
      const auto which = random() % 4;
      if (which == 1) p = laid.begin();
      if (which == 2) p = std::prev(laid.end());
      if (which == 3) p = std::next(laid.begin(), static_cast<long>(random() % laid.size()));
      pins.remove(*p);
      laid.erase(p);
    }
    std::uint32_t deepest = 0;
    for (const tree_pin& p : laid) deepest = std::max(deepest, p.depth);
    ASSERT_EQ(pins.depth(), deepest);
    ASSERT_EQ(pins.empty(), laid.empty());
    if (op % 64 != 0) continue;
    ASSERT_EQ(pins.check(here), "");
    std::vector<const tree_pin*> seen;
    pins.for_each([&](const tree_pin& p) { seen.push_back(&p); });
    std::sort(seen.begin(), seen.end());
    ASSERT_EQ(seen.size(), laid.size());
    ASSERT_EQ(std::unique(seen.begin(), seen.end()), seen.end());
  }
}

INSTANTIATE_TEST_SUITE_P(depths, tree_pin_test, ::testing::Values(1u, 2u, 100u, 1'000'000u));

}  // namespace
}  // namespace radixkv::detail
