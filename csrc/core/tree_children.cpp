// Children of a node: the only child, or groups of siblings found through the child table.
#include <cassert>

#include "csrc/core/radix_tree.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

radix_tree::found_child radix_tree::find_child(node_id parent, const std::uint32_t* tokens,
                                               std::uint32_t n,
                                               const sibling_trie::trail& trail) const noexcept {
  const tree_node& x = nodes_[parent];
  if (x.children == 0) return {};
  if (x.children == 1) return siblings_.find_for_insert(parent, x.child, tokens, n);
  if (trail.fork != no_node || trail.node != no_node) {
    const found_child best = siblings_.resume(parent, trail, tokens, n);
    if (best.node != no_node) return best;
  }
  id_table::probe p = child_table_.find(hasher_.child_hash(parent, tokens[0]));
  for (sibling_trie::ref g = p.next(); g != no_node; g = p.next()) {
    const found_child best = siblings_.find_for_insert(parent, g, tokens, n);
    if (best.node != no_node) return best;
  }
  return {};
}

node_id radix_tree::sibling_on_path(node_id parent, leading_hashes& first,
                                    std::uint64_t whole) const noexcept {
  const tree_node& x = nodes_[parent];
  const std::uint32_t n = block_tokens();
  const std::uint32_t depth = x.first_block + blocks_of(x.tokens);
  const std::uint32_t more = before_jump(depth);
  if (whole <= more) return no_node;
  std::uint64_t path = x.path_hash + hasher_.block_part(first.digest(n), depth);
  count_hashed(std::uint64_t{more} << block_shift_);
  for (std::uint32_t i = 1; i <= more; ++i) {
    path += hasher_.block_part(hasher_.digest(first.tokens() + std::size_t{i} * n, n), depth + i);
  }
  node_id c = jump_table_.read().first(hasher_.jump_hash(path));
  for (std::uint32_t i = 0; c < max_nodes_ && i < more && nodes_[c].parent != parent; ++i) {
    count_nodes();
    c = nodes_[c].parent;
  }
  if (c >= max_nodes_ || nodes_[c].parent != parent) return no_node;
  return siblings_.common_with(c, first.tokens(), n) == n ? c : no_node;
}

// Whether a candidate of the child table is the group of that parent and first token.
bool radix_tree::is_group(sibling_trie::ref group, node_id parent,
                          std::uint32_t first) const noexcept {
  const tree_node& some = nodes_[siblings_.member(group)];
  return some.parent == parent && load_word(first_row(some)) == first;
}

// The children of the parent that begin with this token; no_node if there are none.
sibling_trie::ref radix_tree::group_of(node_id parent, std::uint32_t first) const noexcept {
  id_table::probe p = child_table_.find(hasher_.child_hash(parent, first));
  sibling_trie::ref g = p.next();
  while (g != no_node && !is_group(g, parent, first)) g = p.next();
  return g;
}

// REQUIRES: the group's members have their runs set.
void radix_tree::add_to_group(node_id parent, node_id child) {
  const std::uint32_t first = load_word(first_row(nodes_[child]));
  const std::uint32_t hash = hasher_.child_hash(parent, first);
  const sibling_trie::ref g = group_of(parent, first);
  if (g == no_node) {
    child_table_.insert(hash, child);
    return;
  }
  const sibling_trie::ref now = siblings_.insert(parent, g, child);
  if (now != g) child_table_.replace(hash, g, now);
}

// Puts `to` in the place of `from`, both with the same first block, which has siblings.
void radix_tree::replace_sibling(node_id parent, node_id from, node_id to) noexcept {
  if (is_alone(nodes_[from])) {
    child_table_.replace(child_hash_of(nodes_[from]), from, to);
  } else {
    siblings_.replace(parent, from, to);
  }
}

// REQUIRES: room in both tables; child's parent, first_block and run are set.
void radix_tree::link_child(node_id parent, node_id child) {
  tree_node& x = nodes_[parent];
  write_guard writing(x.child_changes);
  const std::uint32_t before = x.children;
  if (before == 0) x.path_hash = end_path(parent);
  if (before == 1) add_to_group(parent, x.child);
  if (before >= 1 && !siblings_.insert_where_found(parent, child)) add_to_group(parent, child);
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
