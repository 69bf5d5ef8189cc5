// Searching among siblings.
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

void sibling_trie::prefetch_erase(node_id n, std::uint32_t known) const noexcept {
  if (known != 0) table_.prefetch_slot(known);
  for (const ref r : {tree_.nodes_[n].previous.load(), tree_.nodes_[n].next.load()}) {
    if (r == none) continue;
    if (is_fork(r)) {
      detail::prefetch(&forks_[index(r)]);
    } else {
      detail::prefetch(&tree_.nodes_[r]);
    }
  }
}

const std::uint32_t* sibling_trie::row(node_id n) const noexcept {
  return tree_.first_row(tree_.nodes_[n]);
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
  to = {none, index(above.at), none, 0, {}};
  if (end >= n) return conflicting(to);  // a writer has made another fork of it
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
      if (to.at == none || is_fork(r)) to = {r, to.up, w, common, {}};
      if (is_fork(r)) break;
    }
    if (to.at == none) to.gap = p;
    return to.at;
  }
  std::uint32_t looked = 0;
  for (ref r = f.head; valid(r) && looked <= scanned_children; r = next(r), ++looked) {
    const node_id w = member(r);
    if (w == above.witness) {
      if (above.common <= end) continue;
      to = {r, to.up, w, above.common, {}};
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
    to = {r, to.up, w, static_cast<std::uint32_t>(common), {}};
    return r;
  }
  return none;
}

// The tokens at the fork or node itself.
sibling_trie::place sibling_trie::place_at(ref r, const std::uint32_t* tokens,
                                           std::uint32_t n) const noexcept {
  const std::uint32_t up = is_fork(r) ? forks_[index(r)].up.load() : none;
  const node_id w = is_fork(r) ? forks_[index(r)].witness.load() : r;
  return {r, up, w, common_with(w, tokens, n), {}};
}

// From a fork that is on the way to the last one, by hashes alone: tokens are compared once, there.
// Whoever goes on from a fork with many children goes by its own; most that come there do not.
sibling_trie::place sibling_trie::leap(node_id parent, ref start, const std::uint32_t* tokens,
                                       std::uint32_t n) const noexcept {
  count_nodes();
  const fork& f = forks_[index(start)];
  ref at = start;
  std::uint32_t from = f.end;
  if (from < n && (f.inner & ~hashed_bit) != 0) {
    if (hashed(f)) {
      id_table::probe p = table_.find(edge_hash(parent, tokens, from + 1));
      for (ref r = p.next(); r != none; r = p.next()) {
        if (!is_fork(r) || !valid(r)) continue;
        count_nodes();
        const fork& below = forks_[index(r)];
        if (below.up != index(start) || below.top != from + 1) continue;
        at = r;
        from = below.end;
        break;
      }
    }
    if (at != start || !hashed(f)) {
      const ref last = jump(parent, from, tokens, std::min(n, tree_.block_tokens() - 1));
      if (last != none) at = last;
    }
  }
  return place_at(at, tokens, n);
}

// Goes on from child to child.
sibling_trie::place sibling_trie::descend(node_id parent, place p, const std::uint32_t* tokens,
                                          std::uint32_t n) const noexcept {
  while (is_fork(p.at)) {
    const std::uint32_t end = forks_[index(p.at)].end;
    if (p.common == conflict || p.common < end || end >= n) break;
    place below;
    const ref r = child(parent, p, tokens, n, below);
    if (below.common == conflict) return below;
    if (r == none) p.gap = below.gap;
    if (r == none || below.common <= end) break;
    if (is_fork(below.at) && forks_[index(below.at)].end <= end) break;  // a writer came in the way
    p = below;
  }
  return p;
}

sibling_trie::place sibling_trie::search_from(node_id parent, ref start,
                                              const std::uint32_t* tokens,
                                              std::uint32_t n) const noexcept {
  if (!is_fork(start)) return place_at(start, tokens, n);
  place p = leap(parent, start, tokens, n);
  // Equal hashes of other tokens lead astray: then step by step.
  if (p.at != start && p.common != conflict && p.common < forks_[index(p.at)].top) {
    p = place_at(start, tokens, n);
  }
  return descend(parent, p, tokens, n);
}

bool sibling_trie::leads_to_end(const place& p) const noexcept {
  return is_fork(p.at) && p.common >= forks_[index(p.at)].end;
}

sibling_trie::found sibling_trie::to_found(const place& p) const noexcept {
  if (p.common == conflict) return {no_node, 0, true, none};
  if (p.common == 0) return {};
  return {p.witness, p.common, false, leads_to_end(p) ? index(p.at) : p.up};
}

sibling_trie::found sibling_trie::find(node_id parent, ref group, const std::uint32_t* tokens,
                                       std::uint32_t n) const noexcept {
  if (!valid(group)) return {};
  const node_id named = is_fork(group) ? forks_[index(group)].parent : tree_.nodes_[group].parent;
  if (named != parent) return {};
  return to_found(search_from(parent, group, tokens, n));
}

sibling_trie::found sibling_trie::find_for_insert(node_id parent, ref group,
                                                  const std::uint32_t* tokens,
                                                  std::uint32_t n) const noexcept {
  const node_id some = member(group);
  if (tree_.nodes_[some].parent != parent) return {};
  const place p = search_from(parent, group, tokens, n);
  if (p.common == 0) return {};
  last_ = {parent, group, tokens, n, p};
  return to_found(p);
}

sibling_trie::found sibling_trie::resume(node_id parent, const trail& t,
                                         const std::uint32_t* tokens,
                                         std::uint32_t n) const noexcept {
  if (t.fork >= fresh_) return {};
  count_nodes();
  const fork& f = forks_[t.fork];
  if (f.parent != parent || f.end >= n) return {};
  place p{t.fork | fork_bit, f.up, f.witness, t.common, {}};
  count_nodes();
  if (p.witness == t.node && tree_.nodes_[t.node].changes.read_valid(t.version) && t.common < n) {
    assert(common_prefix(tokens, row(t.node), std::min(n, t.common + 1)) == t.common ||
           tree_.first_block_tokens(tree_.nodes_[t.node]) == t.common);
  } else {
    p = place_at(p.at, tokens, n);
  }
  if (!leads_to_end(p)) return {};
  place below;
  if (child(parent, p, tokens, n, below) == none) {
    p.gap = below.gap;
  } else {
    // What came since may go on as the tokens do.
    p = leads_to_end(below) ? search_from(parent, below.at, tokens, n) : below;
  }
  last_ = {parent, none, tokens, n, p};
  return to_found(p);
}

}  // namespace radixkv::detail
