// When nodes were last used, also after the clock's end.
#include "csrc/core/eviction/last_uses.h"

#include <gtest/gtest.h>

namespace radixkv::detail {
namespace {

TEST(last_uses, a_request_is_later_than_all_before_it) {
  last_uses uses;
  ASSERT_TRUE(uses.make_room(4));
  uses.on_request(2);
  uses.on_insert(1);
  EXPECT_EQ(uses.of(1), uses.of(2)) << "it came with the last request";
  uses.on_request(1);
  uses.on_request(3);
  EXPECT_LT(uses.of(2), uses.of(1));
  EXPECT_LT(uses.of(1), uses.of(3));
}

TEST(last_uses, a_parent_inherits_only_what_is_later) {
  last_uses uses;
  ASSERT_TRUE(uses.make_room(4));
  for (const node_id n : {1u, 0u, 2u}) uses.on_request(n);
  const last_uses::tick latest = uses.of(2);
  uses.on_remove(2, 0);
  EXPECT_EQ(uses.of(0), latest);
  uses.on_remove(1, 0);
  EXPECT_EQ(uses.of(0), latest);
  uses.on_split(1);
  EXPECT_EQ(uses.of(1), 0u);
}

TEST(last_uses, the_order_outlives_the_clock) {
  constexpr node_id nodes = 8;
  last_uses uses(nodes, 16);
  ASSERT_TRUE(uses.make_room(nodes));
  for (int i = 0; i < 1000; ++i) {
    uses.on_request(static_cast<node_id>(i) % nodes);
    for (int k = 1; k < static_cast<int>(nodes); ++k) {  // from the latest back
      if (i < k) break;
      const auto now = static_cast<node_id>(i - k) % nodes;
      const auto later = static_cast<node_id>(i - k + 1) % nodes;
      ASSERT_LE(uses.of(now), uses.of(later)) << i << " " << k;
    }
    if (i > 0) {
      ASSERT_LT(uses.of(static_cast<node_id>(i - 1) % nodes),
                uses.of(static_cast<node_id>(i) % nodes));
    }
    ASSERT_LE(uses.of(static_cast<node_id>(i) % nodes), 16u);
  }
}

}  // namespace
}  // namespace radixkv::detail
