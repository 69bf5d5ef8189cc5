// Siblings come and go.
#include <algorithm>
#include <cassert>

#include "csrc/core/radix_tree.h"
#include "csrc/core/sibling_trie.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

// The fork whose child n is. REQUIRES: n is in the group and not alone.
std::uint32_t sibling_trie::fork_of(node_id parent, ref group, node_id n) const noexcept {
  count_nodes();
  if ((forks_[index(group)].inner & ~hashed_bit) == 0) return index(group);
  // The first child names it; of a fork with few children that is near.
  ref r = n;
  for (std::uint32_t steps = 0; steps < scanned_children; ++steps) {
    count_nodes();
    const ref before = previous(r);
    if (is_above(before, r)) return index(before);
    if (before == none) break;
    r = before;
  }
  // The deepest on its path. Equal hashes of other tokens may lead astray.
  const std::uint32_t* tokens = row(n);
  const std::uint32_t length = tree_.first_block_tokens(tree_.nodes_[n]);
  const ref deepest =
      jump(parent, forks_[index(group)].end, tokens, std::min(length, tree_.block_tokens() - 1));
  const std::uint32_t f = index(deepest == none ? group : deepest);
  const node_id w = forks_[f].witness;
  if (w == n || common_with(w, tokens, length) >= forks_[f].end) return f;
  const place p = descend(parent, group, tokens, length);
  assert(p.at == n);
  return p.up;
}

std::uint32_t sibling_trie::take_fork(node_id parent, std::uint32_t up, std::uint32_t end,
                                      node_id witness) noexcept {
  std::uint32_t f = free_;
  if (f != none) {
    free_ = forks_[f].next;
  } else {
    f = fresh_++;
  }
  ++in_use_;
  fork& x = forks_[f];
  x.parent = parent;
  x.up = up;
  x.previous = none;
  x.next = none;
  x.head = none;
  x.witness = witness;
  x.top = static_cast<std::uint16_t>(up == none ? 1u : forks_[up].end + 1u);
  x.end = static_cast<std::uint16_t>(end);
  x.inner = 0;
  return f;
}

void sibling_trie::push_child(std::uint32_t f, ref r) noexcept {
  const ref first = forks_[f].head;
  previous(r) = f | fork_bit;
  next(r) = first;
  if (first != none) previous(first) = r;
  forks_[f].head = r;
  if (is_fork(r)) {
    forks_[f].inner = forks_[f].inner + 1;
    forks_[index(r)].up = f;
  }
}

void sibling_trie::add_child(node_id parent, std::uint32_t f, node_id n) noexcept {
  const fork& x = forks_[f];
  const std::uint32_t edge = x.end + 1u;
  push_child(f, n);
  if (hashed(x)) {
    table_.insert(edge_hash(parent, row(n), edge), n);
    return;
  }
  std::uint32_t children = 0;
  for (ref r = x.head; r != none && children <= scanned_children; r = next(r)) ++children;
  if (children <= scanned_children) return;
  for (ref r = x.head; r != none; r = next(r)) {
    table_.insert(edge_hash(parent, row(member(r)), edge), r);
  }
  forks_[f].inner = x.inner | hashed_bit;
}

// `to` takes the place of `from` below `up`; both begin with the tokens.
void sibling_trie::put_in_place(node_id parent, std::uint32_t up, ref from, ref to,
                                const std::uint32_t* tokens) noexcept {
  const ref before = previous(from);
  const ref after = next(from);
  previous(to) = before;
  next(to) = after;
  if (is_fork(to)) forks_[index(to)].up = up;
  if (up == none) return;
  fork& x = forks_[up];
  if (x.head == from) {
    x.head = to;
  } else {
    next(before) = to;
  }
  if (after != none) previous(after) = to;
  x.inner =
      x.inner + static_cast<std::uint32_t>(is_fork(to)) - static_cast<std::uint32_t>(is_fork(from));
  if (hashed(x)) table_.replace(edge_hash(parent, tokens, x.end + 1u), from, to);
}

// Puts a fork that is not the top one under its handle, or takes it away from there.
void sibling_trie::file(node_id parent, std::uint32_t f) noexcept {
  const fork& x = forks_[f];
  if (x.up == none) return;
  table_.insert(handle_hash(parent, row(x.witness), handle_of(x)), f | fork_bit);
}
void sibling_trie::unfile(node_id parent, std::uint32_t f) noexcept {
  const fork& x = forks_[f];
  if (x.up == none) return;
  table_.erase(handle_hash(parent, row(x.witness), handle_of(x)), f | fork_bit);
}

sibling_trie::ref sibling_trie::insert(node_id parent, ref group, node_id n) noexcept {
  const std::uint32_t* tokens = row(n);
  const std::uint32_t length = tree_.first_block_tokens(tree_.nodes_[n]);
  const bool known =
      last_.parent == parent && last_.group == group && last_.tokens == tokens && last_.n == length;
  const place p = known ? last_.to : descend(parent, group, tokens, length);
  last_ = {};
  if (is_fork(p.at) && p.common >= forks_[index(p.at)].end) {
    add_child(parent, index(p.at), n);
    return group;
  }
  // The edge to `at` is divided where the tokens leave it.
  const ref at = p.at;
  if (is_fork(at)) unfile(parent, index(at));
  const std::uint32_t f = take_fork(parent, p.up, p.common, p.witness);
  put_in_place(parent, p.up, at, f | fork_bit, tokens);
  push_child(f, at);
  push_child(f, n);
  file(parent, f);
  if (is_fork(at)) {
    forks_[index(at)].top = static_cast<std::uint16_t>(p.common + 1);
    file(parent, index(at));
  }
  return p.up == none ? f | fork_bit : group;
}

sibling_trie::ref sibling_trie::erase(node_id parent, ref group, node_id n) noexcept {
  last_ = {};
  const std::uint32_t f = fork_of(parent, group, n);
  const std::uint32_t* tokens = row(n);
  fork& x = forks_[f];
  if (hashed(x)) table_.erase(edge_hash(parent, tokens, x.end + 1u), n);
  const ref before = previous(n);
  const ref after = next(n);
  if (x.head == n) {
    x.head = after;
  } else {
    next(before) = after;
  }
  if (after != none) previous(after) = before;
  previous(n) = none;
  next(n) = none;
  // Each fork that knew this node takes one from another of its children, so that the next one to
  // go is not again known to them all.
  ref from = none;
  for (std::uint32_t a = f; a != none && forks_[a].witness == n; a = forks_[a].up) {
    count_nodes();
    const ref first = forks_[a].head;
    const ref other = first == from ? next(first).load() : first;
    forks_[a].witness = member(other);
    from = a | fork_bit;
  }
  return next(x.head) == none ? dissolve(parent, group, f) : group;
}

// A fork with one child gives it its place.
sibling_trie::ref sibling_trie::dissolve(node_id parent, ref group, std::uint32_t f) noexcept {
  const std::uint32_t up = forks_[f].up;
  const ref left = forks_[f].head;
  const std::uint32_t* tokens = row(member(left));
  if (hashed(forks_[f])) {
    table_.erase(edge_hash(parent, tokens, forks_[f].end + 1u), left);
  }
  unfile(parent, f);
  if (is_fork(left)) unfile(parent, index(left));
  put_in_place(parent, up, f | fork_bit, left, tokens);
  if (is_fork(left)) {
    forks_[index(left)].top = forks_[f].top.load();
    file(parent, index(left));
  }
  forks_[f].parent = none;
  forks_[f].next = free_;
  free_ = f;
  --in_use_;
  return up == none ? left : group;
}

sibling_trie::ref sibling_trie::replace(node_id parent, ref group, node_id from,
                                        node_id to) noexcept {
  last_ = {};
  if (!is_fork(group)) return to;
  const std::uint32_t f = fork_of(parent, group, from);
  put_in_place(parent, f, from, to, row(from));
  previous(from) = none;
  next(from) = none;
  for (std::uint32_t a = f; a != none && forks_[a].witness == from; a = forks_[a].up) {
    count_nodes();
    forks_[a].witness = to;
  }
  return group;
}

}  // namespace radixkv::detail
