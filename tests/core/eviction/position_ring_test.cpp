// A ring holds what a deque would, however it grows.
#include "csrc/core/eviction/position_ring.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <random>

#include <gtest/gtest.h>

namespace radixkv::detail {
namespace {

TEST(position_ring, holds_what_a_deque_would) {
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    position_ring<std::uint64_t> ring;
    std::deque<std::uint64_t> oracle;
    std::uint64_t first = 0;
    for (int step = 0; step < 60; ++step) {
      const std::size_t n = random() % 200;
      // With little allowed it grows by less than what has wrapped around.
      if (!ring.reserve(n, random() % 2 == 0 ? 1'000'000 : n * 8)) FAIL() << "no room";
      for (std::size_t i = random() % (n + 1); i > 0; --i) {
        ASSERT_EQ(ring.push(random()), first + oracle.size());
        oracle.push_back(ring[ring.end() - 1]);
      }
      for (std::size_t i = oracle.empty() ? 0 : random() % (oracle.size() + 1); i > 0; --i) {
        oracle.pop_front();
        ++first;
      }
      ring.drop_before(first);
      ASSERT_EQ(ring.size(), oracle.size());
      for (std::size_t i = 0; i < oracle.size(); ++i) ASSERT_EQ(ring[first + i], oracle[i]);
      std::size_t seen = 0;
      while (seen < oracle.size()) {
        const auto some = ring.stretch(first + seen);
        ASSERT_FALSE(some.empty());
        for (const std::uint64_t e : some) ASSERT_EQ(e, oracle[seen++]);
      }
    }
  }
}

TEST(position_ring, keeps_within_its_allowance) {
  position_ring<std::uint64_t> ring;
  EXPECT_FALSE(ring.reserve(10, 9 * sizeof(std::uint64_t)));
  EXPECT_EQ(ring.bytes(), 0U);
  ASSERT_TRUE(ring.reserve(10, 10 * sizeof(std::uint64_t)));
  EXPECT_EQ(ring.bytes(), 10 * sizeof(std::uint64_t));
  EXPECT_FALSE(ring.has_room(11));
}

}  // namespace
}  // namespace radixkv::detail
