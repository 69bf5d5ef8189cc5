// The table against a multimap, with hashes that collide.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <map>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "csrc/core/id_table.h"
#include "csrc/core/moved_lines.h"

namespace radixkv::detail {
namespace {

std::vector<std::uint32_t> candidates(const id_table& t, std::uint32_t hash) {
  std::vector<std::uint32_t> found;
  id_table::probe p = t.find(hash);
  for (std::uint32_t id = p.next(); id != id_table::none; id = p.next()) found.push_back(id);
  std::sort(found.begin(), found.end());
  return found;
}

// Every hash has just the candidates that are expected.
void expect_all(const id_table& table,
                const std::multimap<std::uint32_t, std::uint32_t>& expected) {
  for (auto same = expected.begin(); same != expected.end();) {
    const auto end = expected.upper_bound(same->first);
    std::vector<std::uint32_t> want;
    for (auto e = same; e != end; ++e) want.push_back(e->second);
    std::sort(want.begin(), want.end());
    ASSERT_EQ(candidates(table, same->first), want);
    same = end;
  }
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

// A reader either finds an id that is there all the time, or learns that its miss does not count:
// while what lies before it goes and it moves up.
TEST(id_table, readers_do_not_miss_what_moves) {
  constexpr std::uint32_t fillers = 24;
  constexpr int rounds = 300'000;
  id_table table;
  ASSERT_TRUE(table.create());
  ASSERT_TRUE(table.reserve(fillers + 1));
  constexpr std::uint32_t hash = 0x80000000u;
  constexpr std::uint32_t watched = 1'000'000;
  std::atomic<std::uint32_t> phase{0};  // odd: watched + phase is there
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    std::mt19937 random(1);
    std::vector<std::uint32_t> hashes(fillers);
    for (int round = 0; round < rounds; ++round) {
      // All of its home line, which holds a third of them.
      for (std::uint32_t i = 0; i < fillers; ++i) {
        hashes[i] = hash + (random() % 2 << 25) + i;
        table.insert(hashes[i], i);
      }
      const std::uint32_t now = phase + 1;
      table.insert(hash + fillers, watched + now);
      phase.store(now, std::memory_order_release);
      for (std::uint32_t i = 0; i < fillers; ++i) table.erase(hashes[i], i);
      phase.store(now + 1, std::memory_order_release);
      table.erase(hash + fillers, watched + now);
    }
    stop = true;
  });
  std::size_t read = 0;
  std::size_t missed = 0;
  while (!stop) {
    const std::uint32_t now = phase.load(std::memory_order_acquire);
    if (now % 2 == 0) continue;
    const std::uint32_t version = table.read_begin();
    id_table::probe p = table.find(hash + fillers);
    std::uint32_t id = p.next();
    while (id != id_table::none && id != watched + now) id = p.next();
    const bool valid = table.read_valid(version);
    std::atomic_thread_fence(std::memory_order_acquire);
    if (phase.load(std::memory_order_relaxed) != now) continue;
    ++read;
    if (id == id_table::none) {
      ++missed;
      ASSERT_FALSE(valid);
    }
  }
  writer.join();
  EXPECT_EQ(table.check(), "");
  std::printf("%zu reads, %zu missed\n", read, missed);
}

// The same while the table grows, whose lines move a few at a time.
TEST(id_table, readers_do_not_miss_beside_growth) {
  constexpr std::uint32_t watched = 100;
  constexpr std::uint32_t first_watched = 1'000'000;
  std::size_t read = 0;
  std::size_t missed = 0;
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    const std::uint32_t mask = seed % 2 == 0 ? 0xffffffffu : 0xfff00000u;
    id_table table;
    ASSERT_TRUE(table.create());
    std::mt19937 random(seed);
    std::vector<std::uint32_t> hashes;
    for (std::uint32_t i = 0; i < watched; ++i) {
      hashes.push_back(static_cast<std::uint32_t>(random()) & mask);
      ASSERT_TRUE(table.reserve(1));
      table.insert(hashes.back(), first_watched + i);
    }
    std::atomic<bool> stop{false};
    std::thread writer([&] {
      std::multimap<std::uint32_t, std::uint32_t> others;
      std::uint32_t next = 0;
      for (int i = 0; i < 2'000; ++i) {
        const std::uint32_t together = 1 + random() % 4;
        EXPECT_TRUE(table.reserve(together));
        for (std::uint32_t k = 0; k < together; ++k) {
          const std::uint32_t hash =
              random() % 4 == 0 ? hashes[random() % watched] : random() & mask;
          table.insert(hash, next);
          others.emplace(hash, next++);
        }
        for (std::uint32_t k = random() % 4; k > 0 && !others.empty(); --k) {
          auto gone = others.lower_bound(static_cast<std::uint32_t>(random()));
          if (gone == others.end()) gone = others.begin();
          table.erase(gone->first, gone->second);
          others.erase(gone);
        }
      }
      stop = true;
    });
    std::size_t wrong = 0;
    for (std::uint32_t i = 0; !stop; i = (i + 1) % watched) {
      const std::uint32_t version = table.read_begin();
      id_table::probe p = table.find(hashes[i]);
      std::uint32_t id = p.next();
      while (id != id_table::none && id != first_watched + i) id = p.next();
      const bool valid = table.read_valid(version);
      ++read;
      missed += id == id_table::none;
      wrong += id == id_table::none && valid;
    }
    writer.join();
    EXPECT_EQ(wrong, 0u);
    EXPECT_EQ(table.check(), "");
  }
  std::printf("%zu reads, %zu missed\n", read, missed);
}

// Entries that part while lines move: some have moved, and homes of the last lines go on around the
// end, into lines that had moved before.
TEST(id_table, moves_what_went_on_around_the_end) {
  for (const std::uint32_t mask : {0xffffffffu, 0xf0000000u}) {
    id_table table;
    ASSERT_TRUE(table.create());
    std::multimap<std::uint32_t, std::uint32_t> expected;
    std::mt19937 random(7);
    for (std::uint32_t id = 0; id < 5000; ++id) {
      // Half of them have the last home.
      const std::uint32_t hash = (id % 2 == 0 ? 0xf0000000u | random() : random()) & mask;
      ASSERT_TRUE(table.reserve(1));
      table.insert(hash, id);
      expected.emplace(hash, id);
      if (id % 3 == 0) {
        const auto gone = random() % 2 == 0 ? expected.begin() : std::prev(expected.end());
        table.erase(gone->first, gone->second);
        expected.erase(gone);
      }
      if (id % 97 == 0) {
        ASSERT_EQ(table.check(), "") << id;
      }
    }
    ASSERT_NO_FATAL_FAILURE(expect_all(table, expected));
  }
}

// Several insertions for one reservation, often with one home: they come between the time that a
// larger table is there and that lines move, or go on into the line that was to move first.
TEST(id_table, grows_beside_several_insertions_at_a_time) {
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    id_table table;
    ASSERT_TRUE(table.create());
    std::multimap<std::uint32_t, std::uint32_t> expected;
    std::mt19937 random(seed);
    const std::uint32_t mask = seed % 2 == 0 ? 0xffffffffu : 0xfc0003ffu;
    std::uint32_t next = 0;
    for (int i = 0; i < 300; ++i) {
      const std::uint32_t together = 1 + random() % 12;
      ASSERT_TRUE(table.reserve(together + (i % 3 == 0 ? table.size() / 5 : 0)));
      const auto home = static_cast<std::uint32_t>(random());
      for (std::uint32_t k = 0; k < together; ++k) {
        const std::uint32_t hash = (random() % 3 == 0 ? random() : home) & mask;
        table.insert(hash, next);
        expected.emplace(hash, next++);
      }
      for (std::uint32_t k = random() % 4; k > 0 && !expected.empty(); --k) {
        auto gone = expected.lower_bound(static_cast<std::uint32_t>(random()));
        if (gone == expected.end()) gone = expected.begin();
        table.erase(gone->first, gone->second);
        expected.erase(gone);
      }
      ASSERT_EQ(table.check(), "") << "seed " << seed << ", change " << i;
    }
    ASSERT_NO_FATAL_FAILURE(expect_all(table, expected));
  }
}

// So many of the last home at once that they go on around the end, past all lines that had moved.
TEST(id_table, moves_what_went_on_past_all_that_had_moved) {
  constexpr std::uint32_t at_once = 300;
  for (std::uint32_t before = 3072; before < 3100; ++before) {
    id_table table;
    ASSERT_TRUE(table.create());
    std::mt19937 random(before);
    std::uint32_t next = 0;
    while (next < before) {
      ASSERT_TRUE(table.reserve(1));
      table.insert(static_cast<std::uint32_t>(random()), next++);
    }
    ASSERT_TRUE(table.reserve(at_once));
    for (std::uint32_t k = 0; k < at_once; ++k) table.insert(0xffffffffu - k, next++);
    for (int k = 0; k < 40; ++k) {
      ASSERT_TRUE(table.reserve(1));
      ASSERT_EQ(table.check(), "") << before;
      table.insert(static_cast<std::uint32_t>(random()), next++);
    }
    for (std::uint32_t k = 0; k < at_once; ++k) {
      ASSERT_EQ(candidates(table, 0xffffffffu - k), std::vector{before + k});
    }
  }
}

#if defined(RADIXKV_DEBUG_CHECKS)

// Nobody's insertion pays for all that came before: what one looks at is bounded, and while lines
// move the two tables are never more than the larger one will be.
TEST(id_table, grows_a_few_lines_at_a_time) {
  id_table table;
  ASSERT_TRUE(table.create());
  std::mt19937 random(3);
  std::uint64_t dearest = 0;
  std::size_t growths = 0;
  std::size_t bytes = table.bytes();
  for (std::uint32_t id = 0; id < 400'000; ++id) {
    const std::uint64_t before = moved_lines_of_thread();
    ASSERT_TRUE(table.reserve(1));
    table.insert(static_cast<std::uint32_t>(random()), id);
    dearest = std::max(dearest, moved_lines_of_thread() - before);
    growths += table.bytes() > bytes;
    ASSERT_GE(table.bytes(), bytes);
    ASSERT_LE(table.bytes(), std::max<std::size_t>(4096, std::size_t{id} * 8 * 8 / 3));
    bytes = table.bytes();
  }
  EXPECT_EQ(table.check(), "");
  // And those that the last one went on to.
  EXPECT_LE(dearest, 60u);
  EXPECT_GT(growths, 2'000u);
}

#endif

}  // namespace
}  // namespace radixkv::detail
