// The tree's invariants, recomputed from scratch.
#include <algorithm>
#include <unordered_map>

#include "csrc/core/radix_tree.h"

namespace radixkv::detail {

namespace {

std::string at_node(const char* what, node_id n) {
  return std::string(what) + " at node " + std::to_string(n);
}

}  // namespace

std::string radix_tree::check() const {
  const std::vector<node_id> all = all_nodes();
  if (static_cast<std::int64_t>(all.size()) != node_count_) return "node count is off";
  std::unordered_map<node_id, std::vector<node_id>> children_of;
  std::vector<bool> seen(block_limit_);
  std::int64_t leaves = 0;
  std::int64_t tokens = 0;
  std::int64_t pinned = 0;
  std::int64_t evictable = 0;
  std::size_t in_groups = 0;
  sibling_trie::counts groups;
  std::size_t jumps = 0;
  for (const node_id n : all) {
    const tree_node& x = nodes_[n];
    if (const std::string wrong = x.pins.check(n); !wrong.empty()) return at_node(wrong.c_str(), n);
    std::string elsewhere;
    x.pins.for_each([&](const tree_pin& p) {
      if (p.depth > x.first_block + blocks(n) || (!is_root(n) && p.depth <= x.first_block)) {
        elsewhere = "a pin that ends elsewhere";
      }
    });
    if (!elsewhere.empty()) return at_node(elsewhere.c_str(), n);
    if (is_root(n)) {
      if (x.tokens != 0 || x.first_block != 0) return at_node("a root with a run", n);
      continue;
    }
    const node_id up = x.parent;
    children_of[up].push_back(n);
    if (x.tokens == 0) return at_node("an empty run", n);
    const std::uint32_t depth = is_root(up) ? 0 : nodes_[up].first_block + blocks(up);
    if (x.first_block != depth) return at_node("first_block is not the parent's end", n);
    if (x.children > 0 && x.tokens % block_tokens() != 0) {
      return at_node("an inner run ends inside a block", n);
    }
    leaves += x.children == 0;
    tokens += x.tokens;
    pinned += pinned_depth(n);
    evictable += evictable_blocks(n);
    jumps += has_jump(x);
    for (const block_id b : tail(n, blocks(n))) {
      if (b < 0 || static_cast<std::uint32_t>(b) >= block_limit_) {
        return at_node("a block out of range", n);
      }
      if (seen[static_cast<std::size_t>(b)]) return at_node("a block held twice", n);
      seen[static_cast<std::size_t>(b)] = true;
    }
    if (has_jump(x)) {
      id_table::probe p = jump_table_.find(jump_hash_of(x));
      node_id c = p.next();
      while (c != n && c != no_node) c = p.next();
      for (std::uint32_t i = 0; i < coming_; ++i) {
        if (coming_jumps_[i].node == n && coming_jumps_[i].hash == hashes_of(n).jump) c = n;
      }
      if (c != n) return at_node("no jump entry", n);
    }
    if (x.children == 0) {
      const table_hashes known = known_hashes(x);
      const std::uint32_t jump = has_jump(x) ? jump_hash_of(x) : 0;
      const std::uint32_t child = hasher_.child_hash(up, load_word(first_row(x)));
      if ((known.jump != 0 && known.jump != jump) ||
          (known.child != 0 && is_alone(x) && known.child != child)) {
        return at_node("remembers wrong hashes", n);
      }
    }
  }
  for (const node_id n : all) {
    const tree_node& x = nodes_[n];
    const std::vector<node_id>& mine = children_of[n];
    if (x.children != mine.size()) return at_node("children miscounted", n);
    std::uint32_t folded = 0;
    for (const node_id c : mine) folded ^= c;
    if (folded != x.child) return at_node("children's ids do not fold to child", n);
    const std::size_t before = groups.nodes;
    for (const node_id c : mine) {
      const std::uint32_t* first = first_row(nodes_[c]);
      if (const found_child f = find_child(n, first, first_block_tokens(nodes_[c])); f.node != c) {
        return at_node("not found among its siblings", c);
      }
      if (mine.size() < 2) continue;
      id_table::probe p = child_table_.find(hasher_.child_hash(n, *first));
      for (node_id g = p.next(); g != no_node; g = p.next()) {
        if (siblings_.member(g) != c || nodes_[c].parent != n) continue;
        ++in_groups;  // c is the one that stands for its group
        if (std::string wrong = siblings_.check(n, g, groups); !wrong.empty()) return wrong;
      }
    }
    if (mine.size() >= 2 && groups.nodes - before != mine.size())
      return at_node("siblings missing", n);
  }
  if (std::string wrong = siblings_.check(groups); !wrong.empty()) return wrong;
  if (in_groups != child_table_.size()) return "child table holds entries of no group";
  if (jumps != jump_table_.size() + coming_) return "jump table holds entries of no node";
  if (leaves != leaf_count_) return "leaf count is off";
  if (tokens != token_count_) return "token count is off";
  if (pinned != pinned_depths_.now()) return "pinned depths are " + std::to_string(pinned);
  if (evictable != evictable_in_leaves_) return "evictable in leaves: " + std::to_string(evictable);
  if (std::string wrong = child_table_.check(); !wrong.empty()) return "child table: " + wrong;
  if (std::string wrong = jump_table_.check(); !wrong.empty()) return "jump table: " + wrong;
  return {};
}

}  // namespace radixkv::detail
