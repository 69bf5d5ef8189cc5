// The chains of marks on nodes grow a bucket at a time, and whoever looks at a node's marks meets
// few of other nodes.
#include "csrc/core/eviction/mark_table.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/mix.h"

namespace radixkv::detail {
namespace {

#if defined(RADIXKV_DEBUG_CHECKS)

// Marks looked at by the dearest and by all of so many that are made, one on each node.
TEST(mark_table, a_mark_parts_few_others) {
  constexpr std::uint32_t marks = 100'000;
  std::mt19937 random(1);
  for (const std::uint32_t step : {1u, 2u, 3u, 64u, 1u << 12, 0u}) {
    mark_table table;
    std::uint64_t dearest = 0;
    const std::uint64_t begin = steps_of_thread().marks;
    for (std::uint32_t i = 0; i < marks; ++i) {
      const std::uint64_t before = steps_of_thread().marks;
      table.reserve_one();
      const std::uint32_t slot = table.take_slot();
      table[slot].kind = i % 2 == 0 ? mark_kind::priority : mark_kind::announced;
      table.lay(slot, step == 0 ? static_cast<node_id>(random() >> 4) : i * step, 1);
      dearest = std::max(dearest, steps_of_thread().marks - before);
    }
    const double mean = static_cast<double>(steps_of_thread().marks - begin) / marks;
    EXPECT_LE(dearest, 32u) << "nodes in steps of " << step;
    EXPECT_LE(mean, 2.0) << "nodes in steps of " << step;
  }
}

// Marks that are looked at, at most, to find that of one of these nodes, in a table with this
// seed's secret that has one on each.
std::uint64_t dearest(std::uint64_t seed, const std::vector<node_id>& nodes) {
  const fixed_secrets secrets(seed);
  mark_table table;
  for (const node_id n : nodes) {
    table.reserve_one();
    table.lay(table.take_slot(), n, 1);
  }
  std::uint64_t most = 0;
  for (const node_id n : nodes) {
    const std::uint64_t before = steps_of_thread().marks;
    EXPECT_NE(table.one_of_many_on(n), no_index);
    most = std::max(most, steps_of_thread().marks - before);
  }
  return most;
}

template <typename Chosen>
std::vector<node_id> first_nodes(std::size_t count, Chosen&& chosen) {
  std::vector<node_id> nodes;
  for (node_id n = 0; nodes.size() < count; ++n) {
    if (chosen(n)) nodes.push_back(n);
  }
  return nodes;
}

// Whoever has a million nodes, and knows how ids are hashed, may choose those to be announced. They
// lie in one bucket of 8,192 where ids alone say which.
TEST(mark_table, nodes_cannot_be_chosen_to_share_a_bucket) {
  constexpr std::size_t marks = 4'000;
  EXPECT_LE(dearest(7, first_nodes(marks, [](node_id n) { return n % 64 == 0; })), 16u);
  EXPECT_LE(dearest(7, first_nodes(marks,
                                   [](node_id n) {
                                     return (n * 0x9e3779b97f4a7c15ull >> 32) % 8192 == 0;
                                   })),
            16u);
}

// Nor may he who knows how ids are hashed with the secret of another table.
TEST(mark_table, each_has_a_secret_of_its_own) {
  constexpr std::size_t marks = 1'000;
  constexpr std::uint64_t buckets = 2'048;
  const auto first_secret = [] {
    const fixed_secrets secrets(7);
    return random_secret();
  };
  const std::vector<node_id> nodes =
      first_nodes(marks, [&](node_id n) { return mix(n, first_secret()) % buckets == 0; });
  EXPECT_GE(dearest(7, nodes), marks - 1);  // they do share one where its secret is known
  EXPECT_LE(dearest(8, nodes), 16u);
  EXPECT_LE(dearest(9, nodes), 16u);
}

#else

TEST(mark_table, counts_steps) { GTEST_SKIP() << "built without RADIXKV_DEBUG_CHECKS"; }

#endif

}  // namespace
}  // namespace radixkv::detail
