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
  last_.parent = none;
  // Room beyond what the table itself keeps free: with 5 / 8 of the slots taken instead of 3 / 4 a
  // look-up seldom goes on to another line, and a search among siblings makes up to eight of them.
  // Without memory for that the rest has to do.
  const std::size_t needed = changes * entries_of_a_change;
  return table_.reserve(needed + table_.size() / 5) || table_.reserve(needed);
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
  const tree_node& x = tree_.nodes_[n];
  const std::uint32_t seen = x.changes.read_begin();
  const std::uint32_t reach = std::min(count, tree_.first_block_tokens(x));
  const std::uint32_t id = tree_.first_id(x);
  if (id >= tree_.block_limit_) return conflict;
  const auto common = static_cast<std::uint32_t>(
      common_prefix(tokens, tree_.row(static_cast<block_id>(id)), reach));
  count_compared(common, reach);
  return x.changes.read_valid(seen) ? common : conflict;
}

leading_hashes sibling_trie::hashes_of(node_id parent, ref r) const noexcept {
  const tree_node& x = tree_.nodes_[is_fork(r) ? forks_[index(r)].witness.load() : r];
  return {tree_.hasher_, parent, tree_.first_row(x), tree_.first_block_tokens(x)};
}

// The end of a fork that the table names for a prefix of this length; 0 if it is another's, or
// does not begin or have its handle there.
std::uint32_t sibling_trie::end_of_named(node_id parent, ref r,
                                         std::uint32_t length) const noexcept {
  count_nodes();
  const fork& f = forks_[index(r)];
  const std::uint32_t top = f.top;
  const std::uint32_t end = f.end;
  if (f.parent != parent || top > length || length > end) return 0;
  return top == length || fattest(top - 1, end) == length ? end : 0;
}

// The deepest fork below `start` of which a handle or edge is a prefix of the tokens; none, or
// `start`, if there is none. The tokens themselves are for the caller to compare.
//
// A fork is looked at only when the next longer prefix that is tried leads to none: if that lies
// within the fork it says nothing of those below, and the search goes on from the fork's end. So of
// forks that follow one another only the last costs a line. As one that is not looked at may be
// another's under an equal hash, all are if the last one turns out to be: `looking`.
//
// `for_answer`, of tokens that are no whole block: a leaf that begins with all of them ends the
// search, and `start` is not looked at either as long as something deeper is found.
sibling_trie::jumped sibling_trie::jump(node_id parent, ref start, leading_hashes& tokens,
                                        bool for_answer, bool looking) const noexcept {
  const fork& first = forks_[index(start)];
  const bool ends_early = for_answer && tokens.count() < tree_.block_tokens();
  jumped by;
  std::uint32_t low = 1;
  const std::uint32_t all = std::min(tokens.count(), tree_.block_tokens() - 1);
  // Whether they go on to all tokens is asked last: where their number is a power of two it would
  // come first, and one look-up more than those of the logarithm.
  std::uint32_t high = all - 1;
  std::uint32_t unseen = 0;  // the length by which the deepest was found, if it was not looked at
  if (ends_early && !looking) {
    by.deepest = start;
    unseen = 1;
  } else {
    count_nodes();
    if ((first.state & inner_bit) == 0) return by;
    low = first.end;
  }
  for (;;) {
    if (low >= high) {
      if (low + 1 != all || by.missed == all) break;
      high = all;
    }
    const std::uint32_t length = fattest(low, high);
    id_table::probe p = table_.find(tokens.of(length));
    const id_table::probe begin = p;
    ref r = p.next();
    std::uint32_t end = 0;
    for (; r != none; r = p.next()) {
      if (!valid(r)) continue;
      if (!is_fork(r)) {
        if (ends_early && begins_leaf(parent, r, length, tokens, by)) return by;
        continue;
      }
      if (!looking || (end = end_of_named(parent, r, length)) != 0) break;
    }
    if (r != none) {
      by.deepest = r;
      low = looking ? end : length;
      unseen = looking ? 0 : length;
      continue;
    }
    if (unseen != 0) {
      low = end_of_named(parent, by.deepest, unseen);
      if (low == 0) return jump(parent, start, tokens, for_answer, true);
      unseen = 0;
      if (by.deepest == start && (first.state & inner_bit) == 0) break;
      if (low >= length) continue;
    }
    by.missed = length;
    by.at_missed = begin;
    high = length - 1;
  }
  if (unseen != 0 && end_of_named(parent, by.deepest, unseen) == 0) {
    return jump(parent, start, tokens, for_answer, true);
  }
  return by;
}

// A leaf that the table names for a prefix of this length: whether it begins with all tokens. Else
// what they have in common is remembered, for whoever is led to it.
bool sibling_trie::begins_leaf(node_id parent, ref r, std::uint32_t length,
                               const leading_hashes& tokens, jumped& by) const noexcept {
  const std::uint32_t common = common_with(r, tokens.tokens(), tokens.count());
  if (common == conflict || common < length || tree_.nodes_[r].parent != parent) return false;
  by.leaf = r;
  by.leaf_common = common;
  return common == tokens.count();
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
sibling_trie::ref sibling_trie::child(node_id parent, const place& above, leading_hashes& tokens,
                                      const jumped& by, place& to) const noexcept {
  const fork& f = forks_[index(above.at)];
  const std::uint32_t end = f.end;
  const std::uint32_t n = tokens.count();
  to = {none, index(above.at), none, 0, {}};
  if (end >= n) return conflicting(to);  // a writer has made another fork of it
  if (hashed(f)) {
    id_table::probe p = by.missed == end + 1 ? by.at_missed : table_.find(tokens.of(end + 1));
    for (ref r = p.next(); r != none; r = p.next()) {
      if (!valid(r)) continue;
      if (is_fork(r) && (forks_[index(r)].up != to.up || forks_[index(r)].top != end + 1)) continue;
      const node_id w = member(r);
      if (w >= limit_ || tree_.nodes_[w].parent != parent) continue;
      const std::uint32_t common = w == above.witness ? above.common
                                   : w == by.leaf     ? by.leaf_common
                                                      : common_with(w, tokens.tokens(), n);
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
    const bool alike = load_word(theirs + end) == tokens.tokens()[end];
    const std::uint32_t reach = std::min(n, tree_.first_block_tokens(x));
    const std::size_t common = alike ? common_prefix(tokens.tokens(), theirs, reach) : 0;
    count_compared_further(common, reach);
    if (!x.changes.read_valid(seen)) return conflicting(to);
    if (!alike) continue;
    to = {r, to.up, w, static_cast<std::uint32_t>(common), {}};
    return r;
  }
  return none;
}

// The tokens at the fork or node itself.
sibling_trie::place sibling_trie::place_at(ref r, const leading_hashes& tokens) const noexcept {
  const std::uint32_t up = is_fork(r) ? forks_[index(r)].up.load() : none;
  const node_id w = is_fork(r) ? forks_[index(r)].witness.load() : r;
  return {r, up, w, common_with(w, tokens.tokens(), tokens.count()), {}};
}

// Goes on from child to child.
sibling_trie::place sibling_trie::descend(node_id parent, place p, leading_hashes& tokens,
                                          const jumped& by) const noexcept {
  while (is_fork(p.at)) {
    const std::uint32_t end = forks_[index(p.at)].end;
    if (p.common == conflict || p.common < end || end >= tokens.count()) break;
    place below;
    const ref r = child(parent, p, tokens, by, below);
    if (below.common == conflict) return below;
    if (r == none) p.gap = below.gap;
    if (r == none || below.common <= end) break;
    if (is_fork(below.at) && forks_[index(below.at)].end <= end) break;  // a writer came in the way
    p = below;
  }
  return p;
}

// Where the tokens lead from a fork that hashes name, if its children are in the table: whoever has
// been found below it and compared need not be compared with whom it knows.
sibling_trie::place sibling_trie::beyond(node_id parent, ref at, leading_hashes& tokens,
                                         const jumped& by, bool for_answer) const noexcept {
  const fork& f = forks_[index(at)];
  const node_id known = f.witness;
  const std::uint32_t end = f.end;
  place below;
  const ref r = child(parent, {at, none, none, end, {}}, tokens, by, below);
  if (r == none && below.common == conflict) return below;
  // All are matched: by whom does not matter for an answer.
  const bool sound =
      is_fork(r) || below.witness == known || (for_answer && below.common == tokens.count());
  if (r != none && sound) return below;
  place p = place_at(at, tokens);
  if (p.common == conflict || p.common < end) return p;
  if (r != none) return below;
  p.gap = below.gap;
  return p;
}

// By hashes alone to the last fork that is on the way; tokens are compared there, or below it.
sibling_trie::place sibling_trie::search_from(node_id parent, ref start, leading_hashes& tokens,
                                              bool for_answer) const noexcept {
  if (!is_fork(start)) return place_at(start, tokens);
  const jumped by = jump(parent, start, tokens, for_answer);
  if (by.leaf != none && by.leaf_common == tokens.count()) {
    return {by.leaf, none, by.leaf, by.leaf_common, {}};
  }
  const ref at = by.deepest != none ? by.deepest : start;
  const fork& last = forks_[index(at)];
  const bool goes_beyond = hashed(last) && last.end < tokens.count();
  place p = goes_beyond ? beyond(parent, at, tokens, by, for_answer) : place_at(at, tokens);
  if (goes_beyond && (p.common == conflict || p.common >= last.end)) {
    return p.at == at ? p : descend(parent, p, tokens, by);
  }
  // Equal hashes of other tokens lead astray: then step by step.
  if (at != start && p.common != conflict && p.common < forks_[index(at)].top) {
    p = place_at(start, tokens);
  }
  return descend(parent, p, tokens, by);
}

bool sibling_trie::leads_to_end(const place& p) const noexcept {
  return is_fork(p.at) && p.common >= forks_[index(p.at)].end;
}

sibling_trie::found sibling_trie::to_found(const place& p) const noexcept {
  if (p.common == conflict) return {no_node, 0, true, none, 0};
  if (p.common == 0) return {};
  const std::uint32_t f = leads_to_end(p) ? index(p.at) : p.up;
  return {p.witness, p.common, false, f, f != none ? times(forks_[f]) : 0};
}

sibling_trie::found sibling_trie::find(node_id parent, ref group,
                                       leading_hashes& tokens) const noexcept {
  if (!valid(group)) return {};
  const node_id named = is_fork(group) ? forks_[index(group)].parent : tree_.nodes_[group].parent;
  if (named != parent) return {};
  return to_found(search_from(parent, group, tokens, true));
}

sibling_trie::found sibling_trie::find_for_insert(node_id parent, ref group,
                                                  const std::uint32_t* tokens,
                                                  std::uint32_t n) const noexcept {
  const node_id some = member(group);
  if (tree_.nodes_[some].parent != parent) return {};
  leading_hashes all(tree_.hasher_, parent, tokens, n);
  const place p = search_from(parent, group, all);
  if (p.common == 0) return {};
  last_ = {parent, group, all, p};
  return to_found(p);
}

sibling_trie::found sibling_trie::resume(node_id parent, const trail& t,
                                         const std::uint32_t* tokens,
                                         std::uint32_t n) const noexcept {
  if (t.fork == none && t.node != no_node && t.common >= n) {
    const bool begins =
        common_with(t.node, tokens, n) == n && tree_.nodes_[t.node].parent == parent;
    return begins ? found{t.node, n, false, none, 0} : found{};
  }
  if (t.fork >= fresh_) return {};
  count_nodes();
  const fork& f = forks_[t.fork];
  if (f.parent != parent || times(f) != t.times || f.end >= n) return {};
  leading_hashes all(tree_.hasher_, parent, tokens, n);
  place p{t.fork | fork_bit, f.up, none, f.end, {}};
  if (t.node == no_node) {
    // Where all tokens were matched the fork was named by hashes alone.
    p = place_at(p.at, all);
    if (p.common == conflict || p.common < f.end) return {};
  }
  if (t.node != no_node && t.common < n) {
    count_nodes();
    if (tree_.nodes_[t.node].changes.read_valid(t.version)) {
      assert(common_prefix(tokens, row(t.node), std::min(n, t.common + 1)) == t.common ||
             tree_.first_block_tokens(tree_.nodes_[t.node]) == t.common);
      p.witness = t.node;
      p.common = t.common;
    }
  }
  place below;
  if (child(parent, p, all, {}, below) == none) {
    p.gap = below.gap;
    if (p.witness == none) p.witness = f.witness;
  } else {
    // What came since may go on as the tokens do.
    p = leads_to_end(below) ? search_from(parent, below.at, all) : below;
  }
  last_ = {parent, none, all, p};
  return to_found(p);
}

}  // namespace radixkv::detail
