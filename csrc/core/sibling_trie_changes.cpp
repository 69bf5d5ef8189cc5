// Siblings come and go.
#include <algorithm>
#include <cassert>

#include "csrc/core/radix_tree.h"
#include "csrc/core/sibling_trie.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

// The fork above r, if r is among its first `steps` children.
std::uint32_t sibling_trie::near_fork(ref r, std::uint32_t steps) const noexcept {
  for (; steps > 0; --steps) {
    count_nodes();
    const ref before = previous(r);
    if (is_above(before, r)) return index(before);
    r = before;
  }
  return none;
}

// What has to be known of n to take it out of the lists and the table.
sibling_trie::standing sibling_trie::standing_of(node_id parent, node_id n) const noexcept {
  const tree_node& x = tree_.nodes_[n];
  const std::uint32_t known = x.children == 0 ? radix_tree::known_hashes(x).child : 0;
  // Who knows its edge needs the fork only if it is the first child, or the second and last.
  const std::uint32_t near = x.next == none ? 2 : 1;
  const std::uint32_t f = near_fork(n, known != 0 ? near : scanned_children);
  if (known != 0) return {f, known, true};
  if (f == none) return {f, find_edge(parent, n), true};
  if (!hashed(forks_[f])) return {f, 0, false};
  return {f, edge_hash(parent, row(n), forks_[f].end + 1u), true};
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

// Behind the first child, which the forks above know by.
void sibling_trie::push_child(std::uint32_t f, ref r) noexcept {
  const ref first = forks_[f].head;
  if (first == none) {
    previous(r) = f | fork_bit;
    next(r) = none;
    forks_[f].head = r;
  } else {
    const ref after = next(first);
    previous(r) = first;
    next(r) = after;
    next(first) = r;
    if (after != none) previous(after) = r;
  }
  if (is_fork(r)) {
    forks_[f].inner = forks_[f].inner + 1;
    forks_[index(r)].up = f;
  }
}

void sibling_trie::put_second_first(std::uint32_t f) noexcept {
  const ref first = forks_[f].head;
  const ref second = next(first);
  const ref third = next(second);
  forks_[f].head = second;
  previous(second) = f | fork_bit;
  next(second) = first;
  previous(first) = second;
  next(first) = third;
  if (third != none) previous(third) = first;
}

// REQUIRES: n's tokens lead to the end of the fork `where.at` and no further.
void sibling_trie::add_child(node_id parent, const place& where, node_id n) noexcept {
  const std::uint32_t f = index(where.at);
  const fork& x = forks_[f];
  const std::uint32_t edge = x.end + 1u;
  const auto file = [&](ref r) {
    const std::uint32_t hash = edge_hash(parent, row(member(r)), edge);
    table_.insert(hash, r);
    tell_edge(r, hash);
  };
  push_child(f, n);
  if (hashed(x)) {
    tell_edge(n, table_.insert(where.gap, n));
    return;
  }
  std::uint32_t children = 0;
  for (ref r = x.head; r != none && children <= scanned_children; r = next(r)) ++children;
  if (children <= scanned_children) return;
  for (ref r = x.head; r != none; r = next(r)) file(r);
  forks_[f].inner = x.inner | hashed_bit;
}

void sibling_trie::link_in_place(ref from, ref to) noexcept {
  const ref before = previous(from);
  const ref after = next(from);
  previous(to) = before;
  next(to) = after;
  if (is_above(before, from)) {
    forks_[index(before)].head = to;
  } else if (before != none) {
    next(before) = to;
  }
  if (after != none) previous(after) = to;
}

// `to` takes the place of `from` below `up`; both begin with the tokens.
void sibling_trie::put_in_place(node_id parent, std::uint32_t up, ref from, ref to,
                                const std::uint32_t* tokens) noexcept {
  link_in_place(from, to);
  if (is_fork(to)) forks_[index(to)].up = up;
  std::uint32_t hash = 0;
  if (up != none) {
    fork& x = forks_[up];
    x.inner = x.inner + static_cast<std::uint32_t>(is_fork(to)) -
              static_cast<std::uint32_t>(is_fork(from));
    if (hashed(x)) {
      hash = edge_hash(parent, tokens, x.end + 1u);
      table_.replace(hash, from, to);
    }
  }
  tell_edge(to, hash);
}

sibling_trie::ref sibling_trie::insert(node_id parent, ref group, node_id n) noexcept {
  const std::uint32_t* tokens = row(n);
  const std::uint32_t length = tree_.first_block_tokens(tree_.nodes_[n]);
  const bool known =
      last_.parent == parent && last_.group == group && last_.tokens == tokens && last_.n == length;
  return insert_at(parent, group, known ? last_.to : search_from(parent, group, tokens, length), n);
}

bool sibling_trie::insert_where_found(node_id parent, node_id n) noexcept {
  if (last_.parent != parent || last_.tokens != row(n) ||
      last_.n != tree_.first_block_tokens(tree_.nodes_[n])) {
    return false;
  }
  if (last_.to.up == none && !leads_to_end(last_.to)) return false;
  (void)insert_at(parent, none, last_.to, n);
  return true;
}

sibling_trie::ref sibling_trie::insert_at(node_id parent, ref group, const place& where,
                                          node_id n) noexcept {
  const place p = where;
  last_ = {};
  if (leads_to_end(p)) {
    add_child(parent, p, n);
    return group;
  }
  // The edge to `at` is divided where the tokens leave it. Whom the fork above knows the new one
  // must know; else it knows the younger one, which mostly stays longer.
  const bool known_above = p.up != none && forks_[p.up].head == p.at;
  const std::uint32_t f = take_fork(parent, p.up, p.common, known_above ? p.witness : n);
  put_in_place(parent, p.up, p.at, f | fork_bit, row(n));
  push_child(f, known_above ? p.at : n);
  push_child(f, known_above ? n : p.at);
  tell_edge(p.at, 0);
  file_divided(parent, f, p.at);
  return p.up == none ? f | fork_bit : group;
}

sibling_trie::change sibling_trie::erase(node_id parent, node_id n) noexcept {
  last_ = {};
  const standing s = standing_of(parent, n);
  if (s.hashed) table_.erase(s.edge, n);
  const ref before = previous(n);
  const ref after = next(n);
  if (is_above(before, n)) {
    forks_[s.fork].head = after;
  } else {
    next(before) = after;
  }
  if (after != none) previous(after) = before;
  previous(n) = none;
  next(n) = none;
  if (s.fork == none) return {};
  if (forks_[s.fork].witness == n) know_instead(s.fork, n, member(forks_[s.fork].head));
  return next(forks_[s.fork].head) == none ? dissolve(parent, s.fork) : change{};
}

// The forks that knew a node, from f upwards: the lowest ones know w instead, which lies below them
// all; each further one takes one from another of its children, so that the next one to go is not
// again known to all of a long chain.
void sibling_trie::know_instead(std::uint32_t f, node_id gone, node_id w) noexcept {
  constexpr int lowest = 4;
  int seen = 0;
  for (std::uint32_t a = f; a != none && forks_[a].witness == gone; a = forks_[a].up) {
    count_nodes();
    if (seen++ < lowest) {
      forks_[a].witness = w;
    } else {
      put_second_first(a);
      forks_[a].witness = member(forks_[a].head);
    }
  }
}

// A fork with one child gives it its place.
sibling_trie::change sibling_trie::dissolve(node_id parent, std::uint32_t f) noexcept {
  const std::uint32_t up = forks_[f].up;
  const ref left = forks_[f].head;
  const std::uint32_t* tokens = row(forks_[f].witness);
  if (hashed(forks_[f])) {
    table_.erase(edge_hash(parent, tokens, forks_[f].end + 1u), left);
  }
  file_joined(parent, f, left);
  put_in_place(parent, up, f | fork_bit, left, tokens);
  forks_[f].parent = none;
  forks_[f].next = free_;
  free_ = f;
  --in_use_;
  return up == none ? change{f | fork_bit, left} : change{};
}

void sibling_trie::replace(node_id parent, node_id from, node_id to) noexcept {
  last_ = {};
  const standing s = standing_of(parent, from);
  if (s.hashed) table_.replace(s.edge, from, to);
  link_in_place(from, to);
  previous(from) = none;
  next(from) = none;
  know_instead(s.fork, from, to);
}

}  // namespace radixkv::detail
