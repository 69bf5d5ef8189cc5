// Siblings come and go.
#include <algorithm>
#include <cassert>

#include "csrc/core/radix_tree.h"
#include "csrc/core/sibling_trie.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

// Files anew what is in the table otherwise than it should be; hash_of gives hashes of prefixes.
template <typename Hash>
void sibling_trie::refile(entries& before, const entries& after, Hash&& hash_of) noexcept {
  for (const entry& e : after) {
    if (e.length == 0) continue;
    entry* const was = std::find_if(before.begin(), before.end(),
                                    [&](const entry& b) { return b.length == e.length; });
    if (was == before.end()) {
      table_.insert(hash_of(e.length), e.named);
      continue;
    }
    if (was->named != e.named) table_.replace(hash_of(e.length), was->named, e.named);
    was->length = 0;
  }
  for (const entry& e : before) {
    if (e.length != 0) table_.erase(hash_of(e.length), e.named);
  }
}

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
  return {f, hashes_of(parent, n).of(forks_[f].end + 1u), true};
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
  x.state = (times(x) + 1) & ~(hashed_bit | inner_bit);
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
    forks_[f].state = forks_[f].state | inner_bit;
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
  push_child(f, n);
  if (hashed(x)) {
    tell_edge(n, table_.insert(where.gap, n));
    return;
  }
  std::uint32_t children = 0;
  for (ref r = x.head; r != none && children <= scanned_children; r = next(r)) ++children;
  if (children <= scanned_children) return;
  forks_[f].state = x.state | hashed_bit;
  for (ref r = x.head; r != none; r = next(r)) file_edge(parent, f, r);
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

// `to` takes the place of `from` below `up`.
void sibling_trie::put_in_place(std::uint32_t up, ref from, ref to) noexcept {
  link_in_place(from, to);
  if (!is_fork(to)) return;
  forks_[index(to)].up = up;
  if (up != none) forks_[up].state = forks_[up].state | inner_bit;
}

sibling_trie::ref sibling_trie::insert(node_id parent, ref group, node_id n) noexcept {
  leading_hashes tokens = hashes_of(parent, n);
  const bool known = last_.parent == parent && last_.group == group &&
                     last_.tokens.tokens() == tokens.tokens() &&
                     last_.tokens.count() == tokens.count();
  if (known) return insert_at(parent, group, last_.to, n, last_.tokens);
  return insert_at(parent, group, search_from(parent, group, tokens), n, tokens);
}

bool sibling_trie::insert_where_found(node_id parent, node_id n) noexcept {
  const place& p = last_.to;
  if (last_.parent != parent || last_.tokens.tokens() != row(n) ||
      last_.tokens.count() != tree_.first_block_tokens(tree_.nodes_[n])) {
    return false;
  }
  // Nothing above the place: what stands for the group changes.
  if (!leads_to_end(p) && p.up == none) return false;
  (void)insert_at(parent, none, p, n, last_.tokens);
  return true;
}

sibling_trie::ref sibling_trie::insert_at(node_id parent, ref group, const place& where, node_id n,
                                          leading_hashes& tokens) noexcept {
  last_.parent = none;
  const place p = where;
  if (leads_to_end(p)) {
    add_child(parent, p, n);
    return group;
  }
  // The edge to `at` is divided where the tokens leave it. Whom the fork above goes on to know the
  // new one must know; else it knows the younger one, which mostly stays longer.
  const bool known_above =
      p.up != none && forks_[p.up].head == p.at && !know_younger(p.up, p.witness, n);
  entries before{}, after{};
  add_entries(p.at, p.up, before);
  const std::uint32_t f = take_fork(parent, p.up, p.common, known_above ? p.witness : n);
  put_in_place(p.up, p.at, f | fork_bit);
  push_child(f, known_above ? p.at : n);
  push_child(f, known_above ? n : p.at);
  if (is_fork(p.at)) forks_[index(p.at)].top = static_cast<std::uint16_t>(p.common + 1);
  add_entries(f | fork_bit, p.up, after);
  add_entries(p.at, f, after);
  leading_hashes below = hashes_of(parent, p.at);
  refile(before, after, [&](std::uint32_t length) {
    return length <= p.common ? tokens.of(length) : below.of(length);
  });
  tell_edge(p.at, 0);
  return p.up == none ? f | fork_bit : group;
}

sibling_trie::change sibling_trie::erase(node_id parent, node_id n) noexcept {
  last_.parent = none;
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

// The forks that know `old`, from f upwards, know `young` instead if they are few, which it
// returns: the oldest mostly go first, and all forks that know one are visited then. They are few
// up to two: evicting a large trie visits half as many then, and hardly fewer if up to four are
// few.
bool sibling_trie::know_younger(std::uint32_t f, node_id old, node_id young) noexcept {
  constexpr int few = 2;
  int seen = 0;
  std::uint32_t above = f;
  for (; above != none && forks_[above].witness == old; above = forks_[above].up) {
    if (++seen > few) return false;
    count_nodes();
  }
  for (std::uint32_t a = f; a != above; a = forks_[a].up) forks_[a].witness = young;
  return true;
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
  entries before{}, after{};
  add_entries(f | fork_bit, up, before);
  add_entries(left, f, before);
  if (is_fork(left)) forks_[index(left)].top = forks_[f].top.load();
  put_in_place(up, f | fork_bit, left);
  add_entries(left, up, after);
  leading_hashes tokens = hashes_of(parent, left);
  refile(before, after, [&](std::uint32_t length) { return tokens.of(length); });
  tell_edge(left, up != none && hashed(forks_[up]) ? tokens.of(forks_[up].end + 1u) : 0);
  forks_[f].parent = none;
  forks_[f].next = free_;
  free_ = f;
  --in_use_;
  return up == none ? change{f | fork_bit, left} : change{};
}

void sibling_trie::replace(node_id parent, node_id from, node_id to) noexcept {
  last_.parent = none;
  const standing s = standing_of(parent, from);
  if (s.hashed) table_.replace(s.edge, from, to);
  link_in_place(from, to);
  previous(from) = none;
  next(from) = none;
  know_instead(s.fork, from, to);
}

}  // namespace radixkv::detail
