// Chunks of block ids: sizes, sharing, reuse.
#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "csrc/core/block_lists.h"

namespace radixkv::detail {
namespace {

TEST(block_lists, a_chunk_fits_and_wastes_at_most_a_fifth) {
  block_lists lists;
  ASSERT_TRUE(lists.create(1 << 20));
  for (std::uint32_t n = 1; n < 3000; ++n) {
    const block_lists::chunk c = lists.allocate(n);
    ASSERT_NE(c, 0u);
    ASSERT_GE(lists.capacity(c), n);
    if (n >= 16) {
      ASSERT_LE(lists.capacity(c), n + n / 4);
    }
  }
}

TEST(block_lists, chunks_do_not_overlap_and_come_back) {
  block_lists lists;
  ASSERT_TRUE(lists.create(4096));
  std::mt19937 random(1);
  std::map<block_lists::chunk, std::uint32_t> held;
  std::size_t peak = 0;
  for (int i = 0; i < 20'000; ++i) {
    if (held.size() < 50 && random() % 2) {
      const std::uint32_t n = 1 + random() % 100;
      const block_lists::chunk c = lists.allocate(n);
      ASSERT_NE(c, 0u);
      const auto next = held.lower_bound(c);
      if (next != held.end()) {
        ASSERT_LE(c + lists.capacity(c), next->first);
      }
      if (next != held.begin()) {
        const auto previous = std::prev(next);
        ASSERT_LE(previous->first + lists.capacity(previous->first), c);
      }
      lists.add_live(c, n);
      held[c] = n;
    } else if (!held.empty()) {
      auto it = held.begin();
      std::advance(it, static_cast<long>(random() % held.size()));
      lists.drop_live(it->first, it->second);
      lists.drop_reference(it->first);
      held.erase(it);
    }
    if (i == 10'000) peak = lists.bytes();
  }
  EXPECT_LE(lists.bytes(), 2 * peak) << "freed chunks are not used again";
}

TEST(block_lists, refuses_when_the_arena_is_full) {
  block_lists lists;
  ASSERT_TRUE(lists.create(1));
  int got = 0;
  while (lists.allocate(1000) != 0) ASSERT_LT(++got, 1 << 20);
  EXPECT_GT(got, 0);
}

TEST(block_lists, a_shared_chunk_lives_until_its_last_reference) {
  block_lists lists;
  ASSERT_TRUE(lists.create(64));
  const block_lists::chunk c = lists.allocate(16);
  lists.add_reference(c);
  lists.add_live(c, 16);
  EXPECT_FALSE(lists.sparse(c));
  lists.drop_live(c, 13);
  EXPECT_TRUE(lists.sparse(c));
  lists.drop_reference(c);
  EXPECT_EQ(lists.references(c), 1u);
  lists.drop_live(c, 3);
  lists.drop_reference(c);
  EXPECT_EQ(lists.allocate(16), c);
}

}  // namespace
}  // namespace radixkv::detail
