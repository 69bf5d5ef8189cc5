// The chains of marks on nodes grow a bucket at a time, and whoever looks at a node's marks meets
// few of other nodes.
#include "csrc/core/eviction/mark_table.h"

#include <algorithm>
#include <cstdint>
#include <random>

#include <gtest/gtest.h>

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

#else

TEST(mark_table, counts_steps) { GTEST_SKIP() << "built without RADIXKV_DEBUG_CHECKS"; }

#endif

}  // namespace
}  // namespace radixkv::detail
