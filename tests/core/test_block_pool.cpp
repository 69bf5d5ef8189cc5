// The pool against plain sets of holders.
#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/block_pool.h"
#include "csrc/core/block_runs.h"
#include "csrc/core/row_lines.h"

namespace radixkv::detail {
namespace {

TEST(block_pool, allocates_all_or_nothing) {
  block_pool pool;
  ASSERT_TRUE(pool.create(8));
  std::vector<block_id> five(5);
  std::vector<block_id> four(4);
  ASSERT_TRUE(pool.allocate(five));
  EXPECT_FALSE(pool.allocate(four));
  EXPECT_EQ(pool.free(), 3);
  EXPECT_EQ(pool.release(five), 5);
  ASSERT_TRUE(pool.allocate(four));
  EXPECT_EQ(pool.check(), "");
}

TEST(block_pool, runs_of_ids_stay_runs) {
  block_pool pool;
  ASSERT_TRUE(pool.create(100));
  std::vector<block_id> a(40);
  ASSERT_TRUE(pool.allocate(a));
  pool.move_to_tree(a);
  pool.release_tree(a);
  std::vector<block_id> b(40);
  ASSERT_TRUE(pool.allocate(b));
  EXPECT_EQ(a, b);
}

TEST(block_pool, counts_holders_like_a_map) {
  constexpr std::int64_t blocks = 40;
  block_pool pool;
  ASSERT_TRUE(pool.create(blocks));
  std::map<block_id, int> sequences;
  std::set<block_id> tree;
  std::mt19937 random(1);
  for (int i = 0; i < 100'000; ++i) {
    if (random() % 3 == 0) {
      std::vector<block_id> got(1 + random() % 4);
      const bool fits = sequences.size() + got.size() <= static_cast<std::size_t>(blocks);
      ASSERT_EQ(pool.allocate(got), fits);
      if (!fits) continue;
      for (const block_id b : got) {
        ASSERT_EQ(sequences.count(b), 0u);
        ASSERT_EQ(tree.count(b), 0u);
        sequences[b] = 1;
      }
    } else if (!sequences.empty()) {
      auto it = sequences.begin();
      std::advance(it, static_cast<long>(random() % sequences.size()));
      const block_id b = it->first;
      const std::span<const block_id> one(&b, 1);
      switch (random() % 5) {
        case 0:
          if (it->second == 0) {
            pool.hold_cached(b);
          } else {
            pool.hold(b);
          }
          ++it->second;
          break;
        case 1:
          if (it->second == 0) break;
          ASSERT_EQ(pool.release(one), it->second == 1 && !tree.count(b));
          --it->second;
          break;
        case 2:
          if (it->second == 0 || tree.count(b)) break;
          pool.move_to_tree(one);
          tree.insert(b);
          --it->second;
          break;
        case 3:
          if (it->second == 0 || tree.count(b)) break;
          pool.share_with_tree(b);
          tree.insert(b);
          break;
        default:
          if (!tree.count(b)) break;
          ASSERT_EQ(pool.release_tree(one), it->second == 0);
          tree.erase(b);
      }
      if (it->second == 0 && !tree.count(b)) sequences.erase(it);
    }
    ASSERT_EQ(pool.used(), static_cast<std::int64_t>(sequences.size()));
    ASSERT_EQ(pool.tree_held(), static_cast<std::int64_t>(tree.size()));
    std::int64_t shared = 0;
    for (const auto& [b, n] : sequences) {
      const bool in_tree = tree.contains(b);
      shared += n + (in_tree ? 1 : 0) >= 2;
      ASSERT_EQ(pool.holders(b), static_cast<std::uint32_t>(n) + (in_tree ? 1 : 0));
      ASSERT_EQ(pool.tree_shares(b), in_tree && n > 0);
    }
    ASSERT_EQ(pool.shared(), shared);
    if (i % 1000 == 0) {
      ASSERT_EQ(pool.check(), "");
    }
  }
}

// The same for whole lists of ids at once, with runs in them, some of their blocks held by others
// and some named outside.
TEST(block_pool, lists_of_ids_are_let_go_of_like_single_ones) {
  constexpr std::int64_t blocks = 300;
  std::mt19937 random(7);
  block_pool pool;
  ASSERT_TRUE(pool.create(blocks, true));
  std::uint64_t ticket = 0;
  std::map<block_id, std::uint64_t> waits;
  for (int i = 0; i < 3000; ++i) {
    std::vector<block_id> ids(1 + random() % 120);
    if (!pool.allocate(ids)) {
      pool.retire(ticket);
      waits.clear();
      ASSERT_TRUE(pool.allocate(ids));
    }
    for (const block_id b : ids) ASSERT_FALSE(waits.contains(b)) << b;
    if (random() % 2) {
      for (std::size_t j = 1; j < ids.size(); ++j) {
        if (random() % 8 == 0) std::swap(ids[j], ids[j - 1]);
      }
    }
    std::set<block_id> kept;
    for (const block_id b : ids) {
      if (random() % 16 == 0) {
        pool.hold(b);
        kept.insert(b);
      }
    }
    const bool in_tree = random() % 2;
    std::set<block_id> named;
    if (in_tree) {
      pool.move_to_tree(ids);
      for (const block_id b : ids) ASSERT_EQ(pool.tree_shares(b), kept.contains(b));
      for (const block_id b : ids) {
        if (random() % 16 == 0 || i % 5 == 0) {
          pool.list(b);
          named.insert(b);
        }
      }
      for (const block_id b : named) {
        ASSERT_TRUE(pool.listed(b));
        pool.unlist(b);
      }
    }
    pool.set_ticket(ticket += random() % 2);
    const auto expected = static_cast<std::int64_t>(ids.size() - kept.size());
    const std::int64_t free = pool.free();
    ASSERT_EQ(in_tree ? pool.release_tree(ids) : pool.release(ids), expected);
    const auto waiting = static_cast<std::int64_t>(
        std::count_if(named.begin(), named.end(), [&](block_id b) { return !kept.contains(b); }));
    ASSERT_EQ(pool.free() - free, expected - waiting);
    for (const block_id b : named) waits[b] = ticket;
    ASSERT_EQ(pool.check(), "");
    for (const block_id b : kept) {
      ASSERT_EQ(pool.holders(b), 1u);
      ASSERT_EQ(pool.release(std::span(&b, 1)), 1);
    }
    ASSERT_EQ(pool.shared(), 0);
    ASSERT_EQ(pool.used(), 0);
    ASSERT_EQ(pool.check(), "");
    if (random() % 4 == 0) {
      const std::uint64_t reached = ticket - std::min<std::uint64_t>(ticket, random() % 3);
      pool.retire(reached);
      std::erase_if(waits, [&](const auto& w) { return w.second <= reached; });
      ASSERT_EQ(pool.retiring(), static_cast<std::int64_t>(waits.size()));
    }
  }
}

// A free block has no state of its own: who still holds one is for the check to be told.
TEST(block_pool, the_check_compares_with_who_holds_what) {
  block_pool pool;
  ASSERT_TRUE(pool.create(3));
  std::vector<block_id> two(2);
  ASSERT_TRUE(pool.allocate(two));
  EXPECT_EQ(pool.check({true, true, false}), "");
  pool.release(std::span(two).last(1));
  EXPECT_EQ(pool.check({true, false, false}), "");
  EXPECT_NE(pool.check({false, true, false}), "");  // the wrong one was let go of
  EXPECT_NE(pool.check({true, true, false}), "");
  EXPECT_NE(pool.check({false, false, false}), "");
}

TEST(block_pool, marks_go_with_the_block) {
  block_pool pool;
  ASSERT_TRUE(pool.create(2));
  std::vector<block_id> one(1);
  ASSERT_TRUE(pool.allocate(one));
  pool.move_to_tree(one);
  pool.set_mark(one[0]);
  EXPECT_TRUE(pool.marked(one[0]));
  pool.release_tree(one);
  ASSERT_TRUE(pool.allocate(one));
  EXPECT_FALSE(pool.marked(one[0]));
}

// What is noted of a block is found wherever it lies in a long run of others.
TEST(block_pool, marks_go_with_a_block_in_the_middle_of_a_long_run) {
  constexpr block_id step = 16 * 64;  // blocks noted in a word
  std::vector<block_id> all(5 * step);
  for (block_id marked = 0; marked < static_cast<block_id>(all.size()); marked += step / 2 - 1) {
    block_pool pool;
    ASSERT_TRUE(pool.create(static_cast<std::int64_t>(all.size())));
    ASSERT_TRUE(pool.allocate(all));
    pool.move_to_tree(all);
    pool.set_mark(marked);
    pool.release_tree(all);
    EXPECT_EQ(pool.check(), "") << marked;
    ASSERT_TRUE(pool.allocate(all));
    EXPECT_FALSE(pool.marked(marked)) << marked;
  }
}

TEST(block_runs, are_found_in_any_list) {
  std::mt19937 random(3);
  const auto plain = [](const std::vector<block_id>& ids) {
    std::size_t i = 1;
    while (i < ids.size() && ids[i] == ids[i - 1] + 1) ++i;
    return i;
  };
  const auto plain_to_end = [](const std::vector<block_id>& ids) {
    std::size_t i = 1;
    while (i < ids.size() && ids[ids.size() - i - 1] == ids[ids.size() - i] - 1) ++i;
    return i;
  };
  for (int round = 0; round < 20'000; ++round) {
    std::vector<block_id> ids;
    const std::size_t n = 1 + random() % 70;
    while (ids.size() < n) {
      auto b = static_cast<block_id>(random() % max_blocks);
      for (std::size_t k = 1 + random() % 60; k > 0 && ids.size() < n; --k) ids.push_back(b++);
    }
    EXPECT_EQ(ascending(ids), plain(ids));
    EXPECT_EQ(ascending_to_end(ids), plain_to_end(ids));
  }
}

TEST(block_runs, are_written_up_to_their_end) {
  for (std::size_t n = 0; n < 50; ++n) {
    for (std::size_t behind = 0; behind < 40; ++behind) {
      constexpr block_id untouched = -7;
      std::vector<block_id> ids(n + behind + 20, untouched);
      write_ascending(ids.data(), n, ids.data() + n + behind, 1000);
      for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(ids[i], 1000 + static_cast<block_id>(i)) << n;
      for (std::size_t i = n + behind; i < ids.size(); ++i) ASSERT_EQ(ids[i], untouched) << n;
    }
  }
}

TEST(row_lines, are_those_of_the_tokens_and_no_others) {
  std::mt19937 random(4);
  constexpr std::uint32_t blocks = 64;
  struct alignas(64) line {
    std::array<std::uint32_t, line_tokens> words;
  };
  for (int round = 0; round < 200; ++round) {
    std::vector<line> rows(blocks, line{});
    std::vector<line> expected(blocks, line{});
    std::vector<block_id> ids(blocks);
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), random);
    ids.resize(random() % blocks);
    std::vector<token_id> tokens(1 + ids.size() * line_tokens);  // read from an odd address on
    for (token_id& t : tokens) t = static_cast<token_id>(random());
    const std::size_t written =
        write_lines(rows.data()->words.data(), ids, tokens.data() + 1, round % 2 == 0);
    EXPECT_TRUE(written == ids.size() || written == 0);
    for (std::size_t i = 0; i < written; ++i) {
      std::copy_n(tokens.data() + 1 + i * line_tokens, line_tokens,
                  expected[static_cast<std::size_t>(ids[i])].words.data());
    }
    for (std::size_t b = 0; b < blocks; ++b) EXPECT_EQ(rows[b].words, expected[b].words) << b;
  }
}

}  // namespace
}  // namespace radixkv::detail
