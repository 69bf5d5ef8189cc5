// Which evicted paths are recognised.
#include "csrc/core/eviction/run_history.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace radixkv::detail {
namespace {

constexpr std::uint32_t block = 16, chunk = 256, per_chunk = chunk / block;

run_history history() {
  run_history h;
  h.reset(block, chunk);
  EXPECT_TRUE(h.reserve(16, 16));
  return h;
}

std::vector<std::uint64_t> hashes(std::uint32_t n) {
  std::vector<std::uint64_t> of_chunks;
  for (std::uint32_t i = 0; i < n; ++i) of_chunks.push_back((i + 1) * 0x9e3779b97f4a7c15u);
  return of_chunks;
}

TEST(run_history, recognises_what_follows_an_evicted_run_by_its_first_chunk) {
  run_history h = history();
  const auto path = hashes(4);
  const run_id a = h.add(root_run, per_chunk + 3, path);
  const run_id b = h.add(a, 2 * per_chunk, path);
  std::uint32_t depth = 0;
  EXPECT_EQ(h.follow(root_run, depth, h[b].end(), path), b);
  EXPECT_EQ(depth, h[b].end());
}

// Turns shorter than a chunk have no hash of their own. What follows them is found through them.
TEST(run_history, passes_runs_too_short_for_a_chunk_on_the_way) {
  run_history h = history();
  const auto path = hashes(4);
  const run_id a = h.add(root_run, per_chunk, path);
  const run_id short1 = h.add(a, 5, path);
  const run_id short2 = h.add(short1, 4, path);
  const run_id b = h.add(short2, 2 * per_chunk, path);
  ASSERT_EQ(h.check(), "");
  std::uint32_t depth = 0;
  EXPECT_EQ(h.follow(root_run, depth, h[b].end(), path), b);
  EXPECT_EQ(depth, h[b].end());
}

TEST(run_history, passes_short_runs_that_a_split_has_made) {
  run_history h = history();
  const auto path = hashes(4);
  const run_id a = h.add(root_run, per_chunk, path);
  const run_id b = h.add(a, 2 * per_chunk, path);
  const run_id upper = h.split(b, per_chunk + 6);
  ASSERT_EQ(h[b].parent, upper);
  ASSERT_EQ(h.check(), "");
  std::uint32_t depth = 0;
  EXPECT_EQ(h.follow(root_run, depth, h[b].end(), path), b);
  EXPECT_EQ(depth, h[b].end());
}

// What is cached the cache itself would have found: a prompt that goes on otherwise than it is no
// part of what follows it.
TEST(run_history, passes_no_short_run_that_is_cached) {
  run_history h = history();
  const auto path = hashes(4);
  const run_id a = h.add(root_run, per_chunk, path);
  h.set_cached(a, per_chunk);
  const run_id short1 = h.add(a, 5, path);
  h.set_cached(short1, 5);
  h.add(short1, 2 * per_chunk, path);
  std::uint32_t depth = per_chunk;
  EXPECT_EQ(h.follow(a, depth, 3 * per_chunk, path), a);
  EXPECT_EQ(depth, per_chunk);
}

// The table of first chunks against a list that is looked through: few runs, so that it is small
// and its rows of full slots go on at its begin, then as many as make it grow; of many parents, of
// equal hashes, of hashes that a split has shortened.
class followed_table {
 public:
  followed_table(unsigned seed, int parents, int hashes) : random_(seed) {
    EXPECT_TRUE(h_.reserve(20'000, 0));
    for (int i = 0; i < hashes; ++i) hashes_.push_back(random_());
    for (int i = 0; i < parents; ++i) {
      parents_.push_back(h_.add(root_run, per_chunk, std::vector{random_()}));
    }
  }
  // Adds and removes until so many of its runs are left.
  void go_on(int steps, std::size_t runs) {
    for (int i = 0; i < steps; ++i) {
      if (known_.size() < runs && random_() % 8 != 0) {
        add();
      } else if (!known_.empty() && known_.size() > runs / 2) {
        remove(random_() % known_.size());
      }
      if (i % 256 == 0) {
        ASSERT_EQ(h_.check(), "");
      }
      find(parents_[random_() % parents_.size()], some_hash());
      if (!known_.empty()) {
        const entry& e = known_[random_() % known_.size()];
        find(e.parent, e.hash);
      }
    }
  }
  [[nodiscard]] std::size_t runs() const { return known_.size(); }

 private:
  struct entry {
    run_id parent;
    std::uint64_t hash;
    bool is_short;  // only 16 bits of the hash are known
    run_id run;
  };
  [[nodiscard]] std::uint64_t some_hash() { return hashes_[random_() % hashes_.size()]; }

  // Of a path whose chunks before the end of a run do not matter, since it is followed from there.
  [[nodiscard]] std::vector<std::uint64_t> path(run_id parent, std::uint64_t h) const {
    std::vector<std::uint64_t> all(h_[parent].end() / per_chunk, 0);
    all.push_back(h);
    return all;
  }
  void find(run_id parent, std::uint64_t h) const {
    std::uint32_t depth = h_[parent].end();
    const run_id found = h_.follow(parent, depth, depth + per_chunk, path(parent, h));
    const bool right = std::ranges::any_of(known_, [&](const entry& e) {
      return e.parent == parent && e.run == found &&
             (e.is_short ? (e.hash & 0xffff) == (h & 0xffff)
                         : (e.hash & 0xffffffff) == (h & 0xffffffff));
    });
    const bool there = std::ranges::any_of(
        known_, [&](const entry& e) { return e.parent == parent && e.hash == h; });
    ASSERT_TRUE(right || (!there && found == parent)) << "below " << parent << ", hash " << h;
  }
  void add() {
    const run_id parent = parents_[random_() % parents_.size()];
    const std::uint64_t h = some_hash();
    const auto alike = std::ranges::count_if(
        known_, [&](const entry& e) { return e.parent == parent && e.hash == h; });
    if (alike == 8) return;  // one more would not be kept
    std::vector<std::uint64_t> p = path(parent, h);
    const bool cut = random_() % 4 == 0;
    const std::uint64_t second = some_hash();
    p.push_back(second);
    const run_id r = h_.add(parent, cut ? 2 * per_chunk : per_chunk, p);
    if (!cut) return known_.push_back({parent, h, false, r});
    const run_id upper = h_.split(r, h_[parent].end() + per_chunk);
    known_.push_back({parent, h, false, upper});
    known_.push_back({upper, second, true, r});
  }
  void remove(std::size_t i) {
    const run_id r = known_[i].run;
    if (h_[r].children != 0) return;
    h_.remove(r);
    known_[i] = known_.back();
    known_.pop_back();
  }

  std::mt19937_64 random_;
  run_history h_ = history();
  std::vector<run_id> parents_;
  std::vector<std::uint64_t> hashes_;
  std::vector<entry> known_;
};

TEST(run_history, the_table_finds_what_a_list_finds) {
  for (unsigned seed = 0; seed < 12; ++seed) {
    // Many hashes of a few parents, and of many parents a few.
    followed_table t(seed, seed % 2 == 0 ? 6 : 64, seed % 2 == 0 ? 3'000 : 40);
    t.go_on(5'000, 20);  // in the table that it begins with
    t.go_on(4'000, 1'500);
    EXPECT_GE(t.runs(), 1'000u);
    t.go_on(3'000, 50);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace radixkv::detail
