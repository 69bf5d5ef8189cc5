// A map in parts holds what a plain one holds, and grows a part at a time.
#include <cstdint>
#include <random>
#include <unordered_map>

#include <gtest/gtest.h>

#include "csrc/core/mix.h"
#include "csrc/core/parted_map.h"
#include "tests/support/alloc_failure.h"

namespace radixkv::detail {
namespace {

struct keyed {
  std::size_t operator()(std::uint64_t k) const noexcept { return mix(k, 0x5bd1e995u); }
};
constexpr int log2_parts = 6;
using map = parted_map<std::uint64_t, std::uint64_t, keyed, log2_parts>;

TEST(parted_map, holds_what_a_plain_map_holds) {
  map m;
  std::unordered_map<std::uint64_t, std::uint64_t> plain;
  std::mt19937 random(1);
  for (int step = 0; step < 100'000; ++step) {
    const std::uint64_t key = random() % 3000;
    if (random() % 3 == 0) {
      if (const auto* const v = m.find(key)) m.erase(*v);
      plain.erase(key);
    } else {
      const std::uint64_t value = random();
      EXPECT_EQ(m.try_emplace(key, value).second, plain.try_emplace(key, value).first->second);
    }
    ASSERT_EQ(m.size(), plain.size());
  }
  std::size_t seen = 0;
  m.for_each([&](const map::value_type& v) {
    ++seen;
    EXPECT_EQ(plain.at(v.first), v.second);
  });
  EXPECT_EQ(seen, plain.size());
}

// No insertion makes a table for more than a part of the entries: a plain map's last one is for all
// of them.
TEST(parted_map, an_insertion_grows_one_part) {
  constexpr std::uint64_t entries = 200'000;
  const auto largest_of = [](auto& m) {
    return testing::largest_allocation_of([&] {
      for (std::uint64_t k = 0; k < entries; ++k) m.try_emplace(k, k);
    });
  };
  map parted;
  std::unordered_map<std::uint64_t, std::uint64_t, keyed> plain;
  const std::size_t one = largest_of(parted);
  EXPECT_GE(largest_of(plain), entries * sizeof(void*));
  EXPECT_LE(one, 4 * sizeof(void*) * (entries >> log2_parts));
}

}  // namespace
}  // namespace radixkv::detail
