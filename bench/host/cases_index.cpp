// The index alone: splitting nodes, and finding a child among many.
#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <numeric>

#include "bench/host/core_share.h"
#include "bench/host/stopwatch.h"
#include "bench/host/time_series.h"
#include "bench/host/workload.h"
#include "csrc/core/eviction/lru.h"
#include "csrc/core/radix_tree.h"

namespace radixkv::bench {

namespace {

using detail::radix_tree;

std::unique_ptr<radix_tree> make_tree(std::int64_t blocks, std::int64_t roots) {
  auto tree = std::make_unique<radix_tree>();
  radix_tree::options o;
  o.blocks = blocks;
  o.block_tokens = block_tokens;
  o.max_roots = roots;
  require(tree->create(o), "no memory for the index");
  return tree;
}

// Publishes a run of `blocks` blocks of random tokens, the next free ids, below `at`.
node_id add_run(radix_tree& tree, detail::tree_place at, std::int64_t blocks, block_id& next,
                random_source& random) {
  std::vector<block_id> ids(static_cast<std::size_t>(blocks));
  std::iota(ids.begin(), ids.end(), next);
  next += static_cast<block_id>(blocks);
  for (const block_id b : ids) fill_random({tree.row(b), block_tokens}, random);
  const detail::tree_publication done =
      tree.publish(at, ids, static_cast<std::uint64_t>(blocks * block_tokens), false);
  require(done.ok && done.end != no_node, "a run could not be published");
  return done.end;
}

// Nodes of a few lengths below parents that have a thousand children each; an LRU policy listens.
struct split_fixture {
  detail::lru_policy policy;
  std::unique_ptr<radix_tree> tree;
  std::array<std::vector<node_id>, 3> nodes;  // in random order, by length
  std::array<std::size_t, 3> used{};
  double miss = 0;  // after a flush, nanoseconds
};
constexpr std::array<std::int64_t, 3> split_lengths = {4, 64, 2048};
constexpr std::int64_t at_once = 20;  // splits, before the core is looked at again

runner prepare_split(const settings& how) {
  const std::array<std::int64_t, 3> counts =
      how.small() ? std::array<std::int64_t, 3>{500, 100, 100}
                  : std::array<std::int64_t, 3>{980'000, 10'000, 10'000};
  const std::int64_t children = how.small() ? 50 : 1000;
  // Per edge length; the first after a flush find page tables cold, too, unlike a running program.
  const std::array<std::int64_t, 3> splits = how.small()
                                                 ? std::array<std::int64_t, 3>{10, 10, 10}
                                                 : std::array<std::int64_t, 3>{10'000, 1000, 1000};
  std::int64_t blocks = 0;
  std::int64_t nodes = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    blocks += counts[i] * split_lengths[i];
    nodes += counts[i];
  }
  auto f = std::make_shared<split_fixture>();
  random_source random(21);
  f->tree = make_tree(blocks + nodes / children + 1, 1);
  f->policy.attach(*f->tree, blocks);
  f->tree->observe(&f->policy);
  const node_id root = f->tree->add_root();
  block_id next = 0;
  node_id parent = no_node;
  std::int64_t below = children;
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::int64_t k = 0; k < counts[i]; ++k, ++below) {
      if (below == children) {
        parent = add_run(*f->tree, {root, 0}, 1, next, random);
        below = 0;
      }
      f->nodes[i].push_back(add_run(*f->tree, {parent, 1}, split_lengths[i], next, random));
    }
    for (std::size_t k = f->nodes[i].size(); k > 1; --k) {
      std::swap(f->nodes[i][k - 1], f->nodes[i][random.below(k)]);
    }
  }
  f->miss = dependent_miss(how.small() ? 1 << 12 : 1 << 22, static_cast<int>(splits[0]));
  return [f, splits] {
    sample s;
    for (std::size_t i = 0; i < 3; ++i) {
      flush_caches();
      const auto split = [&](std::int64_t count) {
        time_series times;
        times.groups_of(at_once, count, [&] {
          const node_id n = f->nodes[i].at(f->used[i]++);
          const auto at = static_cast<std::uint32_t>(split_lengths[i] / 2);
          bool ok = false;
          times.add([&] { ok = f->tree->split_after(n, at); });
          require(ok && f->tree->blocks(n) == split_lengths[i] - at, "a node was not split");
        });
        return times;
      };
      time_series first = split(splits[2] / 10);
      time_series all = split(splits[i] - splits[2] / 10);
      all.add_all(first);
      const std::string name = "edge of " + std::to_string(split_lengths[i]) + " blocks";
      s.parts.emplace_back(name + ", the first after a flush, ns", first.median());
      const double ns = all.median();
      s.parts.emplace_back(name + ", ns", ns);
      s.value = std::max(s.value, ns);
    }
    s.parts.emplace_back("one dependent miss of as many, ns", f->miss);
    return s;
  };
}

// A million children of one root, and a million roots of one child each: what is looked up is cold
// either way.
struct fan_out_fixture {
  std::unique_ptr<radix_tree> wide;
  std::unique_ptr<radix_tree> narrow;
  detail::tree_root root;
  std::vector<detail::tree_root> roots;
  random_source random{31};
};

runner prepare_fan_out(const settings& how) {
  const std::int64_t n = how.small() ? 1000 : 1'000'000;
  auto f = std::make_shared<fan_out_fixture>();
  f->wide = make_tree(n, 1);
  f->narrow = make_tree(n, n);
  f->root = f->wide->root_handle(f->wide->add_root());
  block_id next = 0;
  for (std::int64_t i = 0; i < n; ++i) add_run(*f->wide, {f->root.node, 0}, 1, next, f->random);
  next = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const node_id root = f->narrow->add_root();
    add_run(*f->narrow, {root, 0}, 1, next, f->random);
    f->roots.push_back(f->narrow->root_handle(root));
  }
  return [f, n] {
    const auto lookups = std::min<std::int64_t>(n, 50'000);
    const std::vector<std::int64_t> order = shuffled(n, f->random);
    const auto time = [&](const radix_tree& tree, const auto& root_of) {
      // The prompts are at hand, as if just hashed or tokenised; the tree is cold.
      std::vector<token_id> prompts(static_cast<std::size_t>(lookups) * block_tokens);
      for (std::int64_t i = 0; i < lookups; ++i) {
        std::memcpy(prompts.data() + i * block_tokens,
                    tree.row(static_cast<block_id>(order[static_cast<std::size_t>(i)])),
                    block_tokens * sizeof(token_id));
      }
      flush_caches();
      std::int64_t found = 0;
      const on_whole_core alone;
      const double all = time_of([&] {
        for (std::int64_t i = 0; i < lookups; ++i) {
          detail::tree_match m;
          block_id table[1];
          (void)tree.match(root_of(order[static_cast<std::size_t>(i)]),
                           {prompts.data() + i * block_tokens, block_tokens}, table, m);
          found += m.tokens == block_tokens && table[0] == order[static_cast<std::size_t>(i)];
        }
      });
      require(found == lookups, "a child was not found");
      return all / static_cast<double>(lookups);
    };
    const double wide = time(*f->wide, [&](std::int64_t) { return f->root; });
    const double narrow =
        time(*f->narrow, [&](std::int64_t i) { return f->roots[static_cast<std::size_t>(i)]; });
    return sample{wide / narrow, {{"among 1,000,000, ns", wide}, {"among 1, ns", narrow}}};
  };
}

}  // namespace

void add_index_cases(std::vector<host_case>& cases) {
  cases.push_back({"split_ns", "ns", 500, "nothing: worst edge length in a tree of 1,000,000 nodes",
                   "radix_tree", 7, prepare_split});
  cases.push_back({"fanout_1m_vs_1", "ratio", 3,
                   "the same look-up below 1,000,000 parents of one child each, all of it cold",
                   "radix_tree", 7, prepare_fan_out});
}

}  // namespace radixkv::bench
