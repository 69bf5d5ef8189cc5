// Under what hashes forks and children of forks are in the table of siblings.
#include <algorithm>
#include <cassert>

#include "csrc/core/radix_tree.h"
#include "csrc/core/sibling_trie.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

bool sibling_trie::is_filed(std::uint32_t hash, ref r) const noexcept {
  id_table::probe p = table_.find(hash);
  ref c = p.next();
  while (c != r && c != none) c = p.next();
  return c == r;
}

// Under what n is in the table. REQUIRES: a fork with children in the table is above it.
std::uint32_t sibling_trie::find_edge(node_id parent, node_id n) const noexcept {
  leading_hashes tokens = hashes_of(parent, n);
  const ref group = tree_.group_of(parent, load_word(tokens.tokens()));
  // The deepest fork on its path is above it, unless equal hashes of other tokens lead astray.
  const ref deepest = jump(parent, group, tokens, false).deepest;
  const std::uint32_t end = forks_[index(deepest == none ? group : deepest)].end;
  if (end < tokens.count()) {
    const std::uint32_t edge = tokens.of(end + 1);
    if (is_filed(edge, n)) return edge;
  }
  const place p = search_from(parent, group, tokens);
  assert(p.at == n);
  return tokens.of(forks_[p.up].end + 1u);
}

// A leaf remembers under what it is in the table; 0: in none, or not known.
void sibling_trie::tell_edge(ref r, std::uint32_t hash) noexcept {
  if (is_fork(r) || tree_.nodes_[r].children != 0) return;
  const tree_node& x = tree_.nodes_[r];
  radix_tree::know_hashes(x, {radix_tree::known_hashes(x).jump, hash});
}

// A child of a fork that is hashed comes into the table.
void sibling_trie::file_edge(node_id parent, std::uint32_t f, ref r) noexcept {
  const std::uint32_t edge = forks_[f].end + 1u;
  if (is_fork(r) && handle_of(forks_[index(r)]) == edge) return;
  const std::uint32_t hash = hashes_of(parent, r).of(edge);
  table_.insert(hash, r);
  tell_edge(r, hash);
}

// What the table has for r below the fork `up`, if any.
void sibling_trie::add_entries(ref r, std::uint32_t up, entries& to) const noexcept {
  if (up == none) return;
  const auto add = [&](std::uint32_t length) {
    *std::find_if(to.begin(), to.end(), [](const entry& e) { return e.length == 0; }) = {length, r};
  };
  const std::uint32_t edge = forks_[up].end + 1u;
  const std::uint32_t handle = is_fork(r) ? handle_of(forks_[index(r)]) : 0;
  if (handle != 0) add(handle);
  if (hashed(forks_[up]) && handle != edge) add(edge);
}

}  // namespace radixkv::detail
