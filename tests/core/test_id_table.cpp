// The table against a multimap, with hashes that collide.
#include <algorithm>
#include <atomic>
#include <map>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "csrc/core/id_table.h"

namespace radixkv::detail {
namespace {

std::vector<std::uint32_t> candidates(const id_table& t, std::uint32_t hash) {
  std::vector<std::uint32_t> found;
  id_table::probe p = t.find(hash);
  for (std::uint32_t id = p.next(); id != id_table::none; id = p.next()) found.push_back(id);
  std::sort(found.begin(), found.end());
  return found;
}

TEST(id_table, finds_what_a_multimap_finds) {
  for (const std::uint32_t mask : {0xffffffffu, 0xff000000u, 0xf0000000u}) {
    id_table table;
    ASSERT_TRUE(table.create());
    std::multimap<std::uint32_t, std::uint32_t> expected;
    std::mt19937 random(mask);
    std::uint32_t next = 0;
    for (int i = 0; i < 6000; ++i) {
      if (random() % 5 < 3) {
        const std::uint32_t hash = random() & mask;
        ASSERT_TRUE(table.reserve(1));
        if (random() % 2) {
          table.insert(hash, next);
        } else {
          id_table::probe p = table.find(hash);
          while (p.next() != id_table::none) {
          }
          ASSERT_EQ(table.insert(p, next), hash);
        }
        expected.emplace(hash, next++);
      } else if (!expected.empty()) {
        auto it = expected.lower_bound(random());
        if (it == expected.end()) it = expected.begin();
        if (random() % 4 == 0) {
          table.replace(it->first, it->second, next);
          it->second = next++;
        } else {
          table.erase(it->first, it->second);
          expected.erase(it);
        }
      }
      const std::uint32_t hash =
          random() % 2 && !expected.empty() ? expected.begin()->first : random() & mask;
      std::vector<std::uint32_t> want;
      for (auto [a, b] = expected.equal_range(hash); a != b; ++a) want.push_back(a->second);
      std::sort(want.begin(), want.end());
      ASSERT_EQ(candidates(table, hash), want);
      if (i % 500 == 0) {
        ASSERT_EQ(table.check(), "");
      }
    }
    EXPECT_EQ(table.size(), expected.size());
    EXPECT_EQ(table.check(), "");
  }
}

// A reader either finds an id that is there all the time, or learns that its miss does not count.
TEST(id_table, readers_do_not_miss_beside_a_writer) {
  id_table table;
  ASSERT_TRUE(table.create());
  ASSERT_TRUE(table.reserve(1));
  constexpr std::uint32_t hash = 0x80000000u;
  table.insert(hash, 7);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    std::mt19937 random(1);
    for (int round = 0; round < 200; ++round) {
      std::vector<std::pair<std::uint32_t, std::uint32_t>> mine;
      for (std::uint32_t i = 0; i < 100; ++i) {
        mine.emplace_back(hash + (random() % 64 << 20) - (32u << 20), 100 + i);
        ASSERT_TRUE(table.reserve(1));
        table.insert(mine.back().first, mine.back().second);
      }
      for (const auto& [h, id] : mine) table.erase(h, id);
    }
    stop = true;
  });
  while (!stop) {
    const std::uint32_t version = table.read_begin();
    const std::vector<std::uint32_t> found = candidates(table, hash);
    if (std::find(found.begin(), found.end(), 7u) == found.end()) {
      ASSERT_FALSE(table.read_valid(version));
    }
  }
  writer.join();
}

}  // namespace
}  // namespace radixkv::detail
