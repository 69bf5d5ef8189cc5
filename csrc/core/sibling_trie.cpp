#include "csrc/core/sibling_trie.h"

#include <algorithm>
#include <cassert>

#include "csrc/core/radix_tree.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

bool sibling_trie::create(std::uint32_t max_nodes) {
  assert(max_nodes < fork_bit);
  limit_ = max_nodes;
  return forks_.reserve(max_nodes) && table_.create();
}

bool sibling_trie::reserve(std::size_t changes) {
  last_ = {};
  return table_.reserve(changes * entries_of_a_change);
}

relaxed<sibling_trie::ref>& sibling_trie::previous(ref r) noexcept {
  return is_fork(r) ? forks_[index(r)].previous : tree_.nodes_[r].previous;
}
relaxed<sibling_trie::ref>& sibling_trie::next(ref r) noexcept {
  return is_fork(r) ? forks_[index(r)].next : tree_.nodes_[r].next;
}
sibling_trie::ref sibling_trie::previous(ref r) const noexcept {
  return is_fork(r) ? forks_[index(r)].previous : tree_.nodes_[r].previous;
}
sibling_trie::ref sibling_trie::next(ref r) const noexcept {
  return is_fork(r) ? forks_[index(r)].next : tree_.nodes_[r].next;
}

const std::uint32_t* sibling_trie::row(node_id n) const noexcept {
  return tree_.first_row(tree_.nodes_[n]);
}

std::uint32_t sibling_trie::handle_hash(node_id parent, const std::uint32_t* tokens,
                                        std::uint32_t length) const noexcept {
  count_hashed();
  return tree_.hasher_.prefix_hash(parent, tree_.hasher_.digest(tokens, length), 0);
}

std::uint32_t sibling_trie::edge_hash(node_id parent, const std::uint32_t* tokens,
                                      std::uint32_t length) const noexcept {
  count_hashed();
  return tree_.hasher_.prefix_hash(parent, tree_.hasher_.digest(tokens, length), 1);
}

node_id sibling_trie::member(ref group) const noexcept {
  if (!is_fork(group)) return group;
  count_nodes();
  return forks_[index(group)].witness;
}

std::uint32_t sibling_trie::common_with(node_id n, const std::uint32_t* tokens,
                                        std::uint32_t count) const noexcept {
  if (n >= limit_) return conflict;
  count_nodes();
  count_blocks();
  const tree_node& x = tree_.nodes_[n];
  const std::uint32_t seen = x.changes.read_begin();
  const std::uint32_t reach = std::min(count, tree_.first_block_tokens(x));
  const std::uint32_t id = tree_.first_id(x);
  if (id >= tree_.block_limit_) return conflict;
  const auto common = static_cast<std::uint32_t>(
      common_prefix(tokens, tree_.row(static_cast<block_id>(id)), reach));
  return x.changes.read_valid(seen) ? common : conflict;
}

// The deepest fork whose handle is a prefix of the tokens and longer than `from`, at most `to`
// long; none if there is none. The tokens themselves are for the caller to compare.
sibling_trie::ref sibling_trie::jump(node_id parent, std::uint32_t from,
                                     const std::uint32_t* tokens, std::uint32_t to) const noexcept {
  ref deepest = none;
  std::uint32_t low = from;
  std::uint32_t high = to;
  while (low < high) {
    const std::uint32_t length = fattest(low, high);
    id_table::probe p = table_.find(handle_hash(parent, tokens, length));
    ref r = p.next();
    for (; r != none; r = p.next()) {
      if (!is_fork(r) || !valid(r)) continue;
      count_nodes();
      const fork& f = forks_[index(r)];
      const std::uint32_t top = f.top;
      const std::uint32_t end = f.end;
      if (f.parent == parent && top <= length && length <= end && fattest(top - 1, end) == length) {
        deepest = r;
        low = end;
        break;
      }
    }
    if (r == none) high = length - 1;
  }
  return deepest;
}

namespace {

// A child that could not be read.
template <typename Place>
std::uint32_t conflicting(Place& to) noexcept {
  to.common = ~0u;
  return no_node;
}

}  // namespace

// The child of the fork `above` that goes on with the tokens, and what is below it; none if there
// is none. REQUIRES: they reach beyond the fork's end.
sibling_trie::ref sibling_trie::child(node_id parent, const place& above,
                                      const std::uint32_t* tokens, std::uint32_t n,
                                      place& to) const noexcept {
  const fork& f = forks_[index(above.at)];
  const std::uint32_t end = f.end;
  to = {none, index(above.at), none, 0};
  if (hashed(f)) {
    id_table::probe p = table_.find(edge_hash(parent, tokens, end + 1));
    for (ref r = p.next(); r != none; r = p.next()) {
      if (!valid(r)) continue;
      if (is_fork(r) && (forks_[index(r)].up != to.up || forks_[index(r)].top != end + 1)) continue;
      const node_id w = member(r);
      if (w >= limit_ || tree_.nodes_[w].parent != parent) continue;
      const std::uint32_t common = common_with(w, tokens, n);
      if (common <= end) continue;
      if (common == conflict) return conflicting(to);
      // A node that is under this hash by a longer prefix lies below a fork that is under it too.
      if (to.at == none || is_fork(r)) to = {r, to.up, w, common};
      if (is_fork(r)) break;
    }
    return to.at;
  }
  std::uint32_t looked = 0;
  for (ref r = f.head; valid(r) && looked <= scanned_children; r = next(r), ++looked) {
    const node_id w = member(r);
    if (w == above.witness) {
      if (above.common <= end) continue;
      to = {r, to.up, w, above.common};
      return r;
    }
    if (w >= limit_) return conflicting(to);
    count_nodes(2);  // it and its row
    const tree_node& x = tree_.nodes_[w];
    const std::uint32_t seen = x.changes.read_begin();
    const std::uint32_t id = tree_.first_id(x);
    if (id >= tree_.block_limit_) return conflicting(to);
    const std::uint32_t* theirs = tree_.row(static_cast<block_id>(id));
    const bool alike = load_word(theirs + end) == tokens[end];
    const std::uint32_t reach = std::min(n, tree_.first_block_tokens(x));
    const std::size_t common = alike ? common_prefix(tokens, theirs, reach) : 0;
    if (!x.changes.read_valid(seen)) return conflicting(to);
    if (!alike) continue;
    to = {r, to.up, w, static_cast<std::uint32_t>(common)};
    return r;
  }
  return none;
}

sibling_trie::place sibling_trie::descend(node_id parent, ref group, const std::uint32_t* tokens,
                                          std::uint32_t n) const noexcept {
  place p{group, none, member(group), 0};
  p.common = common_with(p.witness, tokens, n);
  // First along the path of the node known above, then along any other, and then step by step.
  for (int jumps = 0; is_fork(p.at);) {
    const fork& f = forks_[index(p.at)];
    const std::uint32_t end = f.end;
    if (p.common == conflict || p.common < end || end >= n) break;
    if (jumps < 2 && (f.inner & ~hashed_bit) != 0) {
      const std::uint32_t most = std::min(n, tree_.block_tokens() - 1);
      const ref r = jump(parent, end, tokens, jumps++ == 0 ? std::min(p.common, most) : most);
      if (r != none) {
        const fork& deeper = forks_[index(r)];
        const node_id w = deeper.witness;
        const std::uint32_t common = w == p.witness ? p.common : common_with(w, tokens, n);
        if (common == conflict) return {r, none, none, conflict};
        // Equal hashes of other tokens lead astray: then step by step.
        if (common >= deeper.top) {
          p = {r, deeper.up, w, common};
          continue;
        }
      }
    }
    place below;
    const ref r = child(parent, p, tokens, n, below);
    if (below.common == conflict) return below;
    if (r == none || below.common <= end) break;
    if (is_fork(below.at) && forks_[index(below.at)].end <= end) break;  // a writer came in the way
    p = below;
  }
  return p;
}

sibling_trie::found sibling_trie::find(node_id parent, ref group, const std::uint32_t* tokens,
                                       std::uint32_t n) const noexcept {
  if (!valid(group)) return {};
  const node_id named = is_fork(group) ? forks_[index(group)].parent : tree_.nodes_[group].parent;
  if (named != parent) return {};
  const place p = descend(parent, group, tokens, n);
  if (p.common == conflict) return {no_node, 0, true};
  if (p.common == 0) return {};
  return {p.witness, p.common, false};
}

sibling_trie::found sibling_trie::find_for_insert(node_id parent, ref group,
                                                  const std::uint32_t* tokens,
                                                  std::uint32_t n) const noexcept {
  const node_id some = member(group);
  if (tree_.nodes_[some].parent != parent) return {};
  const place p = descend(parent, group, tokens, n);
  if (p.common == 0) return {};
  last_ = {parent, group, tokens, n, p};
  return {p.witness, p.common, false};
}

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
  const ref deepest = jump(parent, 0, tokens, std::min(length, tree_.block_tokens() - 1));
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

std::string sibling_trie::check(node_id parent, ref group, counts& seen) const {
  if (!is_fork(group)) {
    ++seen.nodes;
    return {};
  }
  const std::uint32_t f = index(group);
  const fork& x = forks_[f];
  const std::string name = "fork " + std::to_string(f) + " of siblings: ";
  ++seen.forks;
  if (x.parent != parent) return name + "another parent";
  if (x.top > x.end) return name + "begins behind its end";
  if (x.top != (x.up == none ? 1u : forks_[x.up].end + 1u)) return name + "begins elsewhere";
  const auto is_filed = [&](std::uint32_t hash, ref r) {
    ++seen.entries;
    id_table::probe p = table_.find(hash);
    for (ref c = p.next(); c != none; c = p.next()) {
      if (c == r) return true;
    }
    return false;
  };
  if (x.up != none && !is_filed(handle_hash(parent, row(x.witness), handle_of(x)), group)) {
    return name + "not under its handle";
  }
  std::uint32_t children = 0;
  std::uint32_t inner = 0;
  bool knows_one_below = false;
  ref before = group;
  for (ref r = x.head; r != none; before = r, r = next(r)) {
    ++children;
    inner += is_fork(r);
    const ref previous =
        is_fork(r) ? forks_[index(r)].previous.load() : tree_.nodes_[r].previous.load();
    if (previous != before) return name + "its children are not linked";
    if (is_fork(r) && forks_[index(r)].up != f) return name + "a child of another fork";
    const node_id w = member(r);
    if (tree_.nodes_[w].parent != parent || tree_.first_block_tokens(tree_.nodes_[w]) <= x.end ||
        common_prefix(row(w), row(x.witness), x.end) != x.end) {
      return name + "a child that begins otherwise";
    }
    for (ref other = x.head; other != r; other = next(other)) {
      if (!hashed(x) && load_word(row(member(other)) + x.end) == load_word(row(w) + x.end)) {
        return name + "two children go on alike";
      }
    }
    if (hashed(x) && !is_filed(edge_hash(parent, row(w), x.end + 1u), r)) {
      return name + "a child is not in the table";
    }
    knows_one_below |= common_prefix(row(w), row(x.witness), x.end + 1u) > x.end;
    if (std::string wrong = check(parent, r, seen); !wrong.empty()) return wrong;
  }
  if (children < 2) return name + "fewer than two children";
  if (inner != (x.inner & ~hashed_bit)) return name + "forks miscounted";
  if (!hashed(x) && children > scanned_children) return name + "too many children";
  if (const std::uint32_t up = x.up; up != none) {
    // Who is known above a fork, and lies below it, is known to it.
    const node_id above = forks_[up].witness;
    if (above != x.witness && common_prefix(row(above), row(x.witness), x.top) == x.top) {
      return name + "does not know whom the one above knows";
    }
  }
  if (!knows_one_below) return name + "knows no node below it";
  return {};
}

std::string sibling_trie::check(const counts& seen) const {
  if (seen.forks != in_use_) return "forks of siblings that no node has";
  if (seen.entries != table_.size()) return "entries of no fork of siblings";
  if (std::string wrong = table_.check(); !wrong.empty()) return "siblings' table: " + wrong;
  return {};
}

}  // namespace radixkv::detail
