// Orders that begin later than the cache, against a sorted list of uses.
#include "csrc/core/eviction/namespace_quotas.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace radixkv::detail {
namespace {

// Leaves of one block each below the root 0, which are never in use.
class flat_tree final : public tree_view {
 public:
  explicit flat_tree(node_id nodes) : nodes_(nodes) {}
  [[nodiscard]] std::uint32_t block_tokens() const noexcept override { return 16; }
  [[nodiscard]] node_id parent(node_id n) const noexcept override { return n == 0 ? no_node : 0; }
  [[nodiscard]] std::uint32_t first_block(node_id) const noexcept override { return 0; }
  [[nodiscard]] std::uint32_t blocks(node_id n) const noexcept override { return n == 0 ? 0 : 1; }
  [[nodiscard]] std::uint32_t children(node_id n) const noexcept override {
    return n == 0 ? nodes_ - 1 : 0;
  }
  [[nodiscard]] std::uint32_t pinned_blocks(node_id) const noexcept override { return 0; }
  [[nodiscard]] bool is_root(node_id n) const noexcept override { return n == 0; }

 private:
  node_id nodes_;
};

// Every digit of the clock decides somewhere: uses lie 1 to 2,000,000 requests apart. What was
// never used after it came is as old as the request before, and goes in the order of the list.
TEST(namespace_quotas, a_late_order_is_that_of_all_uses_before_it) {
  constexpr node_id nodes = 600;
  for (const unsigned seed : {1u, 2u, 3u}) {
    std::mt19937 random(seed);
    const flat_tree tree(nodes);
    namespace_quotas quotas;
    quotas.attach(tree, nodes);
    ASSERT_TRUE(quotas.make_room(nodes));
    std::uint64_t clock = 0;
    std::vector<std::uint64_t> used(nodes);
    const auto use = [&](node_id n) {
      request_info request;
      request.node = n;
      quotas.on_request(request);
      used[n] = ++clock;
    };
    std::vector<node_id> below(nodes - 1);
    for (node_id n = 1; n < nodes; ++n) below[n - 1] = n;
    std::shuffle(below.begin(), below.end(), random);
    for (const node_id n : below) {
      quotas.on_insert(n);
      used[n] = clock;
      if (random() % 4 != 0) use(n);
    }
    for (const int apart : {1, 3'000, 2'000'000, 2'000'000, 2'500'000, 7}) {
      for (int i = 1; i < apart; ++i) use(below[0]);
      for (int i = 0; i < 120; ++i) use(below[random() % below.size()]);
    }
    ASSERT_GT(clock, std::uint64_t{1} << 22);

    std::shuffle(below.begin(), below.end(), random);
    quotas.set(0, nodes, below);
    std::vector<node_id> expected = below;
    std::stable_sort(expected.begin(), expected.end(),
                     [&](node_id a, node_id b) { return used[a] < used[b]; });
    for (const node_id n : expected) {
      ASSERT_EQ(quotas.next_victim(0).node, n) << "seed " << seed;
      quotas.on_remove(n, 0, true);
    }
    EXPECT_EQ(quotas.next_victim(0).node, no_node);
  }
}

}  // namespace
}  // namespace radixkv::detail
