// The radix tree against an oracle that is a plain list of token vectors.
#include <algorithm>
#include <cstdlib>
#include <list>
#include <map>
#include <random>

#include <gtest/gtest.h>

#include "csrc/core/block_pool.h"
#include "csrc/core/radix_tree.h"
#include "tests/support/sanitized.h"

namespace radixkv::detail {
namespace {

// Operations between two checks of all invariants.
#ifdef RADIXKV_DEBUG_BUILD
constexpr int checked_every = 1;
#else
constexpr int checked_every = 16;
#endif

using tokens = std::vector<token_id>;

// What is cached, path by path. A path is kept up to its block-aligned or partial end.
struct oracle {
  std::map<int, std::vector<tokens>> paths;  // namespace → cached paths

  [[nodiscard]] std::size_t match(int space, const tokens& prompt) const {
    std::size_t best = 0;
    const auto it = paths.find(space);
    if (it == paths.end()) return 0;
    for (const tokens& p : it->second) {
      const std::size_t n = std::min(p.size(), prompt.size());
      best = std::max(
          best,
          static_cast<std::size_t>(
              std::mismatch(p.begin(), p.begin() + static_cast<long>(n), prompt.begin()).first -
              p.begin()));
    }
    return best;
  }
  void publish(int space, const tokens& prompt) { paths[space].push_back(prompt); }
};

struct pinned {
  int space;
  tree_pin pin;
  tokens path;  // whole blocks
};

class tree_test : public ::testing::TestWithParam<std::tuple<int, int, int>> {};

// Drives tree and oracle with the same random operations; evictions remove from the oracle exactly
// the blocks that the tree gave up.
TEST_P(tree_test, agrees_with_oracle) {
  const auto [block_tokens, alphabet, hash_bits] = GetParam();
  const char* more = std::getenv("RADIXKV_TREE_OPERATIONS");
  const int operations = more ? std::atoi(more) : sanitized ? 12'000 : 36'000;
  std::mt19937 random(static_cast<unsigned>(block_tokens * 1000 + alphabet * 10 + hash_bits));
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  constexpr std::int64_t pool_blocks = 600;

  radix_tree tree;
  ASSERT_TRUE(tree.create({pool_blocks, static_cast<std::uint32_t>(block_tokens), 8,
                           static_cast<std::uint32_t>(hash_bits)}));
  block_pool pool;
  ASSERT_TRUE(pool.create(pool_blocks));
  oracle expected;
  std::vector<node_id> roots;
  for (int i = 0; i < 3; ++i) roots.push_back(tree.add_root());
  std::list<pinned> pins;
  std::vector<tokens> history;
  std::vector<sibling_trie::trail> trails;  // without a fork: guesses
  std::int64_t evicted = 0;
  std::int64_t partials = 0;

  const auto prompt = [&] {
    tokens t;
    if (!history.empty() && below(4) != 0) {
      t = history[below(history.size())];
      t.resize(below(t.size() + 1));
    }
    const std::size_t longest = static_cast<std::size_t>(block_tokens) * (below(8) == 0 ? 40 : 3);
    for (std::size_t n = below(longest) + (t.empty() ? 1 : 0); n > 0; --n) {
      t.push_back(static_cast<token_id>(below(static_cast<std::size_t>(alphabet))));
    }
    return t;
  };
  std::vector<bool> in_tree(static_cast<std::size_t>(pool.blocks()));
  const auto path_of = [&](node_id n, std::uint32_t keep_tokens) {
    tokens t;
    std::vector<node_id> up;
    for (node_id x = n; !tree.is_root(x); x = tree.parent(x)) up.push_back(x);
    for (auto it = up.rbegin(); it != up.rend(); ++it) {
      const std::uint32_t take = *it == n ? keep_tokens : tree.tokens(*it);
      for (std::uint32_t i = 0; i < take; ++i) {
        t.push_back(tree.row(tree.block(*it, i / tree.block_tokens()))[i % tree.block_tokens()]);
      }
    }
    return t;
  };
  // Removes from the oracle the tokens beyond `left` of the path that `whole` names.
  const auto forget = [&](int space, const tokens& whole, std::size_t left) {
    // A block is gone when the path including its tokens is gone: cut every path that runs through
    // the trimmed blocks, i.e. shares more than `left` tokens' blocks with `whole` in full.
    for (tokens& p : expected.paths[space]) {
      const std::size_t n = std::min(p.size(), whole.size());
      const auto common = static_cast<std::size_t>(
          std::mismatch(p.begin(), p.begin() + static_cast<long>(n), whole.begin()).first -
          p.begin());
      if (common > left && common == p.size()) p.resize(left);
    }
    // Partial tails stay matchable through siblings only; keep what the tree still holds.
    expected.paths[space].push_back(tokens(whole.begin(), whole.begin() + static_cast<long>(left)));
  };

  for (int op = 0; op < operations; ++op) {
    const int space = static_cast<int>(below(3));
    const std::size_t what = below(10);
    if (what < 4) {
      const tokens t = prompt();
      tree_match m;
      std::vector<block_id> table(t.size() / static_cast<std::size_t>(block_tokens) + 1);
      ASSERT_TRUE(
          tree.match(tree.root_handle(roots[static_cast<std::size_t>(space)]), t, table, m));
      ASSERT_EQ(m.tokens, expected.match(space, t)) << "operation " << op;
      ASSERT_EQ(m.blocks, m.tokens / static_cast<std::size_t>(block_tokens));
      ASSERT_TRUE(tree.still(m));
      for (std::size_t b = 0; b < m.blocks; ++b) {
        ASSERT_TRUE(in_tree[static_cast<std::size_t>(table[b])]);
        ASSERT_TRUE(std::equal(tree.row(table[b]), tree.row(table[b]) + block_tokens,
                               t.begin() + static_cast<long>(b) * block_tokens));
      }
      if (const std::size_t rest = m.tokens % static_cast<std::size_t>(block_tokens); rest) {
        ++partials;
        ASSERT_NE(m.partial_block, no_block);
        ASSERT_TRUE(std::equal(tree.row(m.partial_block), tree.row(m.partial_block) + rest,
                               t.begin() + static_cast<long>(m.blocks) * block_tokens));
      }
      if (below(3) == 0 && pins.size() < 6) {
        const tree_place p = tree.locate(m.place.node, m.blocks);
        pins.push_back(
            {space, {}, tokens(t.begin(), t.begin() + static_cast<long>(m.blocks) * block_tokens)});
        tree.pin(pins.back().pin, p);
      }
    } else if (what < 8) {
      const tokens t = prompt();
      tree_match m;
      ASSERT_TRUE(tree.match(tree.root_handle(roots[static_cast<std::size_t>(space)]), t, {}, m));
      const std::size_t skip = m.blocks * static_cast<std::size_t>(block_tokens);
      std::vector<block_id> mine((t.size() - skip + static_cast<std::size_t>(block_tokens) - 1) /
                                 static_cast<std::size_t>(block_tokens));
      if (!pool.allocate(mine)) continue;
      for (std::size_t i = skip; i < t.size(); ++i) {
        tree.row(mine[(i - skip) / static_cast<std::size_t>(block_tokens)])
            [(i - skip) % static_cast<std::size_t>(block_tokens)] = t[i];
      }
      // As a sequence that has matched the beginning and goes on.
      tree_match begun;
      const std::size_t begins = skip + below(t.size() - skip + 1);
      ASSERT_TRUE(tree.match(tree.root_handle(roots[static_cast<std::size_t>(space)]),
                             std::span(t).first(begins), {}, begun));
      // From further up than necessary now and then, as a sequence does that matched earlier.
      sibling_trie::trail trail;
      switch (below(4)) {
        case 0:
          break;
        case 1:  // of another prompt, long ago
          if (!trails.empty()) trail = trails[below(trails.size())];
          break;
        case 2:  // a guess that may be any node, or none in use
          trail.node = static_cast<node_id>(below(64));
          trail.common = static_cast<std::uint32_t>(block_tokens);
          break;
        default:
          trail = begun.siblings;
      }
      if (begun.siblings.fork == no_node) {
        trails.push_back(begun.siblings);
        if (trails.size() > 60) trails.erase(trails.begin() + static_cast<long>(below(60)));
      }
      const tree_publication done = tree.publish(tree.locate(m.place.node, m.blocks), mine,
                                                 t.size() - skip, below(2) == 0, trail);
      ASSERT_TRUE(done.ok);
      ASSERT_EQ(done.processed, mine.size());
      const std::span<const block_id> taken = std::span(mine).subspan(done.first_taken);
      pool.release(std::span(mine).first(done.first_taken));
      pool.move_to_tree(taken);
      for (const block_id b : taken) in_tree[static_cast<std::size_t>(b)] = true;
      if (done.replaced != no_block) {
        in_tree[static_cast<std::size_t>(done.replaced)] = false;
        pool.release_tree(std::span(&done.replaced, 1));
      }
      if (below(4) == 0 && !tree.is_root(done.end)) {
        ASSERT_TRUE(tree.split_after(done.end, done.end_blocks));
      }
      expected.publish(space, t);
      history.push_back(t);
      if (history.size() > 60) history.erase(history.begin() + static_cast<long>(below(60)));
    } else if (what == 8 && !pins.empty()) {
      const auto p = std::next(pins.begin(), static_cast<long>(below(pins.size())));
      (void)tree.unpin(p->pin);
      pins.erase(p);
    } else {
      std::vector<node_id> leaves;
      for (const node_id n : tree.all_nodes()) {
        if (tree.evictable(n)) leaves.push_back(n);
      }
      if (leaves.empty()) continue;
      const node_id n = leaves[below(leaves.size())];
      const std::uint32_t most = tree.blocks(n) - tree.pinned_blocks(n);
      const auto count = static_cast<std::uint32_t>(1 + below(most));
      const std::uint32_t left_blocks = tree.blocks(n) - count;
      const tokens whole = path_of(n, tree.tokens(n));
      const std::size_t left = whole.size() - tree.tokens(n) +
                               std::size_t{left_blocks} * static_cast<std::size_t>(block_tokens);
      const node_id root = tree.root_of(n);
      const auto owner =
          static_cast<int>(std::find(roots.begin(), roots.end(), root) - roots.begin());
      const std::span<const block_id> gone = tree.tail(n, count);
      for (const block_id b : gone) in_tree[static_cast<std::size_t>(b)] = false;
      pool.release_tree(gone);
      tree.trim(n, count, true);
      evicted += count;
      forget(owner, whole, left);
    }
    for (const pinned& p : pins) {
      tree_match m;
      ASSERT_TRUE(
          tree.match(tree.root_handle(roots[static_cast<std::size_t>(p.space)]), p.path, {}, m));
      ASSERT_EQ(m.tokens, p.path.size()) << "a pinned prefix went";
    }
    // Nothing more than is pinned stays.
    if (op % 16 == 0 && !pins.empty()) {
      for (const node_id n : tree.all_nodes()) {
        if (tree.is_root(n) || tree.children(n) != 0) continue;
        const tokens whole = path_of(n, tree.tokens(n));
        std::size_t kept = 0;
        for (const pinned& p : pins) {
          if (roots[static_cast<std::size_t>(p.space)] == tree.root_of(n) &&
              p.path.size() <= whole.size() &&
              std::equal(p.path.begin(), p.path.end(), whole.begin())) {
            kept = std::max(kept, p.path.size() / static_cast<std::size_t>(block_tokens));
          }
        }
        const std::size_t above = tree.first_block(n);
        ASSERT_EQ(tree.pinned_blocks(n), kept > above ? kept - above : 0) << "operation " << op;
      }
    }
    if (op % checked_every == 0 || op < 500) {
      ASSERT_EQ(tree.check(), "") << "operation " << op;
      ASSERT_EQ(pool.check(), "");
      ASSERT_EQ(pool.used(), pool.tree_held());
    }
    auto& known = expected.paths[space];
    if (known.size() > 400) {  // drop paths that others cover
      std::sort(known.begin(), known.end());
      std::vector<tokens> kept;
      for (std::size_t i = 0; i < known.size(); ++i) {
        const bool covered = i + 1 < known.size() && known[i + 1].size() >= known[i].size() &&
                             std::equal(known[i].begin(), known[i].end(), known[i + 1].begin());
        if (!covered) kept.push_back(known[i]);
      }
      known = std::move(kept);
    }
  }
  EXPECT_GT(evicted, 0);
  if (block_tokens > 1) {
    EXPECT_GT(partials, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(shapes, tree_test,
                         ::testing::Combine(::testing::Values(1, 2, 4, 16, 64),
                                            ::testing::Values(2, 3, 100),
                                            ::testing::Values(64, 8)));

}  // namespace
}  // namespace radixkv::detail
