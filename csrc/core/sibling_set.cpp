#include "csrc/core/sibling_set.h"

#include <algorithm>
#include <cassert>

#include "csrc/core/step_count.h"

namespace radixkv::detail {

int sibling_set::compare(const radix_tree& tree, node_id a, node_id b) noexcept {
  count_nodes();
  count_blocks();
  const tree_node& x = tree.nodes_[a];
  const tree_node& y = tree.nodes_[b];
  const std::uint32_t n = std::min(tree.first_block_tokens(x), tree.first_block_tokens(y));
  const std::uint32_t* p = tree.first_row(x);
  const std::uint32_t* q = tree.first_row(y);
  const std::size_t common = common_prefix(p, q, n);
  if (common == n) return 0;
  return load_word(p + common) < load_word(q + common) ? -1 : 1;
}

std::uint64_t sibling_set::priority(node_id n) const noexcept { return tree_.hasher_.priority(n); }

void sibling_set::split(node_id at, node_id pivot, node_id& less, node_id& greater) noexcept {
  if (at == no_node) {
    less = greater = no_node;
    return;
  }
  tree_node& x = tree_.nodes_[at];
  node_id part = no_node;
  if (compare(tree_, at, pivot) < 0) {
    split(x.right, pivot, part, greater);
    x.right = part;
    less = at;
  } else {
    split(x.left, pivot, less, part);
    x.left = part;
    greater = at;
  }
}

node_id sibling_set::merge(node_id less, node_id greater) noexcept {
  if (less == no_node) return greater;
  if (greater == no_node) return less;
  count_nodes();
  if (priority(less) > priority(greater)) {
    tree_.nodes_[less].right = merge(tree_.nodes_[less].right, greater);
    return less;
  }
  tree_.nodes_[greater].left = merge(less, tree_.nodes_[greater].left);
  return greater;
}

node_id sibling_set::insert_below(node_id at, node_id n) noexcept {
  tree_node& x = tree_.nodes_[n];
  if (at == no_node || priority(n) > priority(at)) {
    node_id less = no_node;
    node_id greater = no_node;
    split(at, n, less, greater);
    x.left = less;
    x.right = greater;
    return n;
  }
  tree_node& y = tree_.nodes_[at];
  assert(compare(tree_, n, at) != 0);
  if (compare(tree_, n, at) < 0) {
    y.left = insert_below(y.left, n);
  } else {
    y.right = insert_below(y.right, n);
  }
  return at;
}

node_id sibling_set::erase_below(node_id at, node_id n) noexcept {
  tree_node& y = tree_.nodes_[at];
  if (at == n) return merge(y.left, y.right);
  if (compare(tree_, n, at) < 0) {
    y.left = erase_below(y.left, n);
  } else {
    y.right = erase_below(y.right, n);
  }
  return at;
}

std::string sibling_set::check(const radix_tree& tree, node_id n, std::size_t& count) {
  if (n == no_node) return {};
  ++count;
  const tree_node& x = tree.nodes_[n];
  for (const node_id child : {x.left.load(), x.right.load()}) {
    if (child == no_node) continue;
    const int order = compare(tree, child, n);
    if (order == 0 || (order < 0) != (child == x.left)) {
      return "siblings " + std::to_string(n) + " and " + std::to_string(child) + " out of order";
    }
    if (tree.hasher_.priority(child) > tree.hasher_.priority(n)) {
      return "sibling set out of heap order at node " + std::to_string(n);
    }
    if (std::string wrong = check(tree, child, count); !wrong.empty()) return wrong;
  }
  return {};
}

}  // namespace radixkv::detail
