// Holds, discards, announcements and quotas around policies.
#include "csrc/core/eviction/retention.h"

#include <deque>

#include <gtest/gtest.h>

#include "tests/core/eviction/random_load.h"

namespace radixkv::detail {
namespace {

using study::hashes_of;
using study::path;
using study::random_paths;
using study::sim_tree;

// Marks as sequences make and leave them.
mark_id hold(retention& r, node_id n, std::uint32_t blocks, double rank,
             double expires = retention::never) {
  const mark_id m = r.make(mark_kind::priority, rank, expires);
  r.lay(m, n, blocks);
  return m;
}
mark_id discard(retention& r, node_id n, std::uint32_t blocks, std::uint32_t from,
                double when = retention::at_once) {
  const mark_id m = r.make(mark_kind::discarded, -1);
  r.leave_discard(m, n, blocks, from, when);
  return m;
}

std::unique_ptr<eviction_policy> named(const std::string& name) {
  return std::move(*make_policy(name));
}

class around : public ::testing::TestWithParam<const char*> {
 protected:
  around() : kept(named(GetParam())), tree(kept, 100, 16) {}

  node_id use(const std::vector<std::uint32_t>& ids) {
    const path p{ids.data(), 1, static_cast<std::uint32_t>(ids.size())};
    tree.close(tree.open(p), {});
    return tree.cached_prefix(p).first;
  }
  std::uint32_t cached(const std::vector<std::uint32_t>& ids) {
    const path p{ids.data(), 1, static_cast<std::uint32_t>(ids.size())};
    const auto [node, blocks] = tree.cached_prefix(p);
    return node == 0 ? 0 : tree.first_block(node) + blocks;
  }
  const std::vector<std::uint32_t> a{0, 1, 2, 3}, b{10, 11, 12, 13}, c{20, 21}, ab{0, 1, 30};
  retention kept;
  sim_tree tree;
};

TEST_P(around, what_stays_is_never_evicted) {
  hold(kept, use(a), 3, retention::stays);
  use(b);
  EXPECT_EQ(tree.evict(100), 5);
  EXPECT_EQ(cached(a), 3u);
  EXPECT_EQ(cached(b), 0u);
  EXPECT_EQ(kept.check(), "");
}

TEST_P(around, holds_give_way_when_nothing_else_is_left_lowest_first) {
  hold(kept, use(a), 4, 2);
  hold(kept, use(b), 4, 1);
  use(c);
  EXPECT_EQ(tree.evict(2), 2);
  EXPECT_EQ(cached(c), 0u);
  EXPECT_EQ(tree.evict(4), 4);
  EXPECT_EQ(cached(b), 0u);
  EXPECT_EQ(cached(a), 4u);
  EXPECT_EQ(tree.evict(100), 4);
  EXPECT_EQ(kept.check(), "");
}

TEST_P(around, a_hold_follows_its_blocks_through_a_split) {
  hold(kept, use(a), 4, retention::stays);
  const mark_id first_two = hold(kept, tree.cached_prefix({a.data(), 1, 4}).first, 2, 5);
  use(ab);  // splits a behind its second block
  EXPECT_EQ(kept.check(), "");
  EXPECT_EQ(tree.evict(100), 1);
  EXPECT_EQ(cached(a), 4u);
  kept.release(first_two);
  EXPECT_EQ(tree.evict(100), 0);
}

TEST_P(around, released_and_expired_holds_can_be_evicted) {
  const mark_id m = hold(kept, use(a), 4, retention::stays);
  hold(kept, use(b), 4, retention::stays, 10.0);
  EXPECT_EQ(tree.evict(100), 0);
  kept.release(m);
  kept.release(m);  // again: nothing happens
  EXPECT_EQ(tree.evict(100), 4);
  kept.advance(9.9);
  EXPECT_EQ(tree.evict(100), 0);
  kept.advance(10);
  EXPECT_EQ(tree.evict(100), 4);
}

TEST_P(around, a_discard_goes_first_as_far_as_it_reaches) {
  use(c);
  const node_id n = use(a);
  use(b);
  discard(kept, n, 4, 1);
  EXPECT_EQ(tree.evict(3), 3);
  EXPECT_EQ(cached(a), 1u);
  EXPECT_EQ(cached(b), 4u);
  EXPECT_EQ(cached(c), 2u);
}

TEST_P(around, a_discard_ends_when_its_path_is_used_again) {
  use(c);
  discard(kept, use(a), 4, 0);
  use(a);
  use(b);
  const victim v = kept.next_victim();
  EXPECT_NE(v.node, no_node);
  tree.evict(100);
  EXPECT_EQ(tree.cached(), 0);
  EXPECT_EQ(kept.check(), "");
}

TEST_P(around, a_time_to_live_begins_when_the_clock_says) {
  const node_id n = use(a);
  discard(kept, n, 4, 0, 5.0);
  kept.advance(4);
  for (std::uint32_t i = 0; i < 3; ++i) use(b);
  kept.advance(5);
  EXPECT_EQ(tree.evict(4), 4);
  EXPECT_EQ(cached(a), 0u);
  EXPECT_EQ(cached(b), 4u);
}

TEST_P(around, the_latest_priority_left_on_a_path_counts_and_few_stay) {
  for (int i = 0; i < 50; ++i) {
    use(a);
    const node_id n = use(a);
    kept.leave(kept.make(mark_kind::priority, 9), n, 4);
    kept.leave(kept.make(mark_kind::priority, i + 1), n, 4);
  }
  EXPECT_EQ(kept.marks(), 1u);
  // Marks of many paths whose ends go gather on what is left of them, as one.
  for (std::uint32_t i = 0; i < 20; ++i) {
    static std::vector<std::vector<std::uint32_t>> ends(20);
    ends[i] = {40, 41, 50 + i};
    kept.leave(kept.make(mark_kind::priority, i + 1), use(ends[i]), 1);
  }
  const std::uint32_t blocks = cached({40, 41});
  EXPECT_EQ(blocks, 2u);
  EXPECT_EQ(kept.check(), "");
  EXPECT_EQ(tree.evict(20), 20);
  EXPECT_LE(kept.marks(), 3u);
  EXPECT_EQ(kept.check(), "");
  EXPECT_EQ(cached({40, 41}), 2u) << "the highest of them: 20";
}

TEST_P(around, an_id_of_a_mark_that_ended_is_not_the_next_ones) {
  const node_id n = use(a);
  const mark_id old = hold(kept, n, 4, 1);
  kept.release(old);
  hold(kept, n, 4, retention::stays);
  kept.release(old);
  kept.lay(old, n, 1);
  EXPECT_EQ(tree.evict(100), 0);
  EXPECT_EQ(kept.place_of(old).first, no_node);
}

TEST_P(around, a_quota_takes_from_its_own_namespace) {
  kept.set_quota(0, 6);  // the bare tree has one root
  use(a);
  use(b);
  EXPECT_EQ(kept.excess(0, 0), 2);
  EXPECT_EQ(kept.excess(0, 3), 5);
  const victim v = kept.next_victim_of(0);
  EXPECT_EQ(tree.id(v.node, 0), 0u);
  hold(kept, use(a), 4, 2);
  hold(kept, use(b), 4, 1);
  const victim w = kept.next_victim_of(0);
  EXPECT_EQ(tree.id(w.node, 0), 10u) << "all is held: the lowest gives way";
  EXPECT_EQ(kept.check(), "");
  kept.set_quota(0, 0);
  EXPECT_EQ(kept.excess(0, 3), 0);
}

TEST_P(around, books_agree_under_random_marks) {
  retention marked(named(GetParam()));
  sim_tree t(marked, 120, 16);
  random_paths paths(5, 2, 40);
  const std::uint32_t chunk = marked.path_hash_tokens(16) / 16;
  std::deque<mark_id> marks;
  std::vector<std::pair<sim_tree::handle, path>> open;
  for (int step = 0; step < 8000; ++step) {
    const std::uint64_t what = paths.number() % 10;
    if (what < 3 && open.size() < 4) {
      const path p = paths.make();
      open.emplace_back(t.open(p), p);
    } else if (what < 6 && !open.empty()) {
      request_info info;
      const auto hashes = hashes_of(open[0].second, chunk);
      info.path_hashes = hashes;
      t.close(open[0].first, info);
      open.erase(open.begin());
    } else if (what == 6) {
      const path p = paths.make();
      const auto [node, blocks] = t.cached_prefix(p);
      if (paths.number() % 2) {
        const auto hashes = hashes_of(p, chunk);
        marks.push_back(marked.announce(hashes, node, blocks));
      } else if (node != 0) {
        marks.push_back(paths.number() % 2 ? hold(marked, node, blocks,
                                                  1.0 + static_cast<double>(step % 5), step + 500.0)
                                           : discard(marked, node, blocks, 1, step + 50.0));
      }
    } else if (what == 7) {
      t.evict(static_cast<std::int64_t>(paths.number() % 5));
    } else if (what == 8 && marks.size() > 6) {
      marked.release(marks.front());
      marks.pop_front();
    }
    marked.advance(step);
    ASSERT_EQ(t.failure(), "") << step;
    if (step % 16 == 0) {
      ASSERT_EQ(marked.check(), "") << step;
    }
  }
  for (const auto& [h, p] : open) t.abandon(h);
  while (!marks.empty()) {
    marked.release(marks.front());
    marks.pop_front();
  }
  marked.advance(1e9);
  const std::int64_t cached = t.cached();
  EXPECT_GT(cached, 0);
  EXPECT_EQ(t.evict(cached), cached);
}

// What sequences leave on paths, that covers nodes as a whole or in part and that others go on
// from, beside quotas that come and go.
TEST_P(around, books_agree_under_what_is_left_and_quotas) {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    retention marked(named(GetParam()));
    sim_tree t(marked, 60, 16);
    random_paths paths(seed, 2, 12);
    const std::uint32_t chunk = marked.path_hash_tokens(16) / 16;
    std::vector<mark_id> owned;
    std::vector<std::pair<sim_tree::handle, path>> open;
    const auto some = [&](std::uint64_t n) { return paths.number() % n; };
    for (int step = 0; step < 1500; ++step) {
      const double soon = step + 1.0 + static_cast<double>(some(200));
      const double rank = 1.0 + static_cast<double>(some(4));
      const std::uint64_t what = some(14);
      const path p = paths.make();
      const auto [node, blocks] = t.cached_prefix(p);
      if (what < 3 && open.size() < 5) {
        open.emplace_back(t.open(p), p);
      } else if (what < 6 && !open.empty()) {
        const std::size_t i = some(open.size());
        request_info info;
        const auto hashes = hashes_of(open[i].second, chunk);
        info.path_hashes = hashes;
        if (some(5) == 0) {
          t.abandon(open[i].first);
        } else {
          t.close(open[i].first, info);
        }
        open.erase(open.begin() + static_cast<std::ptrdiff_t>(i));
      } else if (what == 6) {
        owned.push_back(marked.announce(hashes_of(p, chunk), node, blocks));
      } else if (what == 7 && node != 0) {
        owned.push_back(hold(marked, node, blocks, retention::stays));
      } else if (what < 10 && node != 0) {
        const mark_kind kind = some(2) == 0 ? mark_kind::priority : mark_kind::expected;
        marked.leave(marked.make(kind, rank, some(2) == 0 ? soon : retention::never), node, blocks,
                     some(2) == 0 ? soon : retention::never);
      } else if (what == 10 && node != 0) {
        const mark_kind kind = some(2) == 0 ? mark_kind::priority : mark_kind::discarded;
        marked.leave_discard(marked.make(kind, -rank), node, blocks,
                             static_cast<std::uint32_t>(some(blocks + 1)),
                             some(2) == 0 ? soon : retention::at_once);
      } else if (what == 11) {
        t.evict(static_cast<std::int64_t>(some(12)));
      } else if (what == 12 && !owned.empty()) {
        const std::size_t i = some(owned.size());
        if (some(3) == 0 && node != 0) {
          marked.lay(owned[i], node, blocks);
        } else {
          marked.release(owned[i]);
          owned.erase(owned.begin() + static_cast<std::ptrdiff_t>(i));
        }
      } else if (what == 13 && some(8) == 0) {
        std::vector<node_id> below;
        for (std::uint32_t depth = 0, more = 1; more != 0; ++depth) {
          more = 0;
          for (node_id n = 1; n < t.node_limit(); ++n) {
            if (!t.alive(n)) continue;
            more += t.first_block(n) > depth;
            if (t.first_block(n) == depth) below.push_back(n);
          }
        }
        marked.set_quota(0, marked.quotas().has(0) ? 0 : 40, below);
      }
      marked.advance(step);
      if (marked.quotas().has(0) && some(4) == 0) {
        const victim v = marked.next_victim_of(0);
        if (v.node != no_node) {
          ASSERT_LE(v.blocks, t.evictable_blocks(v.node)) << step;
        }
      }
      ASSERT_EQ(t.failure(), "") << step;
      ASSERT_EQ(marked.check(), "") << "seed " << seed << ", step " << step;
    }
    for (const auto& [h, p] : open) t.abandon(h);
    for (const mark_id m : owned) marked.release(m);
    const std::int64_t cached = t.cached();
    EXPECT_EQ(t.evict(cached), cached) << seed;
    EXPECT_EQ(marked.check(), "");
  }
}

INSTANTIATE_TEST_SUITE_P(policies, around,
                         ::testing::Values("lru", "fifo", "lfu", "slru", "s3fifo", "reuse_index"));

}  // namespace
}  // namespace radixkv::detail
