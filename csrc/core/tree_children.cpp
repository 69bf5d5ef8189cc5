// Children of a node: the only child, or groups of siblings found through the child table.
#include <algorithm>
#include <cassert>

#include "csrc/core/radix_tree.h"
#include "csrc/core/sibling_set.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

radix_tree::found_child radix_tree::find_child(node_id parent, const std::uint32_t* tokens,
                                               std::uint32_t n) const noexcept {
  const tree_node& x = nodes_[parent];
  if (x.children == 0) return {};
  found_child best;
  const auto visit = [&](node_id c) {  // returns how the tokens compare with c's first block
    count_nodes();
    count_blocks();
    const tree_node& y = nodes_[c];
    const std::uint32_t reach = std::min(n, first_block_tokens(y));
    const std::uint32_t* r = first_row(y);
    const auto common = static_cast<std::uint32_t>(common_prefix(tokens, r, reach));
    if (common > best.common) best = {c, common};
    if (common == reach) return 0;
    return tokens[common] < load_word(r + common) ? -1 : 1;
  };
  if (x.children == 1) {
    visit(x.child);
    return best;
  }
  id_table::probe p = child_table_.find(hasher_.child_hash(parent, tokens[0]));
  for (node_id c = p.next(); c != no_node; c = p.next()) {
    const tree_node& y = nodes_[c];
    if (y.parent != parent || load_word(first_row(y)) != tokens[0]) continue;
    while (c != no_node) {
      const int order = visit(c);
      if (order == 0) break;
      c = order < 0 ? nodes_[c].left : nodes_[c].right;
    }
    break;
  }
  return best;
}

// REQUIRES: the group's members have their runs set.
void radix_tree::add_to_group(node_id parent, node_id child) {
  const std::uint32_t first = load_word(first_row(nodes_[child]));
  const std::uint32_t hash = hasher_.child_hash(parent, first);
  nodes_[child].left = no_node;
  nodes_[child].right = no_node;
  id_table::probe p = child_table_.find(hash);
  for (node_id c = p.next(); c != no_node; c = p.next()) {
    if (nodes_[c].parent != parent || load_word(first_row(nodes_[c])) != first) continue;
    sibling_set group(*this, c);
    group.insert(child);
    if (group.root() != c) child_table_.replace(hash, c, group.root());
    return;
  }
  child_table_.insert(hash, child);
}

void radix_tree::remove_from_group(node_id parent, node_id child) {
  const std::uint32_t first = load_word(first_row(nodes_[child]));
  const std::uint32_t hash = hasher_.child_hash(parent, first);
  id_table::probe p = child_table_.find(hash);
  for (node_id c = p.next(); c != no_node; c = p.next()) {
    if (c != child && (nodes_[c].parent != parent || load_word(first_row(nodes_[c])) != first)) {
      continue;
    }
    if (c == child && nodes_[c].left == no_node && nodes_[c].right == no_node) {
      child_table_.erase(p);  // it was alone
      return;
    }
    sibling_set group(*this, c);
    group.erase(child);
    if (group.root() != c) child_table_.replace(hash, c, group.root());
    return;
  }
  assert(false && "child is not in the child table");
}

// Puts `to` in the place of `from`, both with the same first block, in the group of that hash.
void radix_tree::replace_in_group(std::uint32_t hash, node_id parent, node_id from, node_id to) {
  const std::uint32_t first = load_word(first_row(nodes_[from]));
  nodes_[to].left = no_node;
  nodes_[to].right = no_node;
  id_table::probe p = child_table_.find(hash);
  for (node_id c = p.next(); c != no_node; c = p.next()) {
    if (c != from && (nodes_[c].parent != parent || load_word(first_row(nodes_[c])) != first)) {
      continue;
    }
    sibling_set group(*this, c);
    group.erase(from);
    group.insert(to);
    if (group.root() != c) child_table_.replace(hash, c, group.root());
    return;
  }
  assert(false && "child is not in the child table");
}

// REQUIRES: room in both tables; child's parent, first_block and run are set.
void radix_tree::link_child(node_id parent, node_id child) {
  tree_node& x = nodes_[parent];
  write_guard writing(x.child_changes);
  const std::uint32_t before = x.children;
  if (before == 0) x.path_hash = end_path(parent);
  if (before == 1) add_to_group(parent, x.child);
  if (before >= 1) add_to_group(parent, child);
  x.child = x.child ^ child;
  x.children = before + 1;
}

// The hash of the path to the end of n's run, continued from the parent's where the run is short.
std::uint64_t radix_tree::end_path(node_id n) const noexcept {
  const tree_node& x = nodes_[n];
  const std::uint32_t count = blocks_of(x.tokens);
  if (x.parent == no_node || hashed_blocks(count) == 0) {
    return hasher_.seed(std::uint64_t{n} << 32 | x.changes.read_begin());
  }
  std::uint64_t path = nodes_[x.parent].path_hash;
  const std::uint32_t* list = ids(x);
  for (std::uint32_t i = 0; i < count; ++i) {
    path = path_with(path, load_word(list + i), x.first_block + i);
  }
  return path;
}

}  // namespace radixkv::detail
