// Under what hashes forks and children of forks are in the table of siblings.
#include <algorithm>
#include <cassert>

#include "csrc/core/radix_tree.h"
#include "csrc/core/sibling_trie.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

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

bool sibling_trie::is_filed(std::uint32_t hash, ref r) const noexcept {
  id_table::probe p = table_.find(hash);
  ref c = p.next();
  while (c != r && c != none) c = p.next();
  return c == r;
}

// Under what n is in the table. REQUIRES: a fork with children in the table is above it.
std::uint32_t sibling_trie::find_edge(node_id parent, node_id n) const noexcept {
  const std::uint32_t* tokens = row(n);
  const std::uint32_t length = tree_.first_block_tokens(tree_.nodes_[n]);
  const ref group = tree_.group_of(parent, load_word(tokens));
  // The deepest fork on its path is above it, unless equal hashes of other tokens lead astray.
  const ref deepest =
      jump(parent, forks_[index(group)].end, tokens, std::min(length, tree_.block_tokens() - 1));
  const std::uint32_t end = forks_[index(deepest == none ? group : deepest)].end;
  if (end < length) {
    const std::uint32_t edge = edge_hash(parent, tokens, end + 1);
    if (is_filed(edge, n)) return edge;
  }
  const place p = search_from(parent, group, tokens, length);
  assert(p.at == n);
  return edge_hash(parent, tokens, forks_[p.up].end + 1u);
}

// A leaf remembers under what it is in the table; 0: in none, or not known.
void sibling_trie::tell_edge(ref r, std::uint32_t hash) noexcept {
  if (is_fork(r) || tree_.nodes_[r].children != 0) return;
  const tree_node& x = tree_.nodes_[r];
  radix_tree::know_hashes(x, {radix_tree::known_hashes(x).jump, hash});
}

// An edge was divided by the fork `upper`, below which `lower` is now: each comes under its handle.
// Of a divided edge one part keeps the handle: the number divided by the highest power of two lies
// in one of them.
void sibling_trie::file_divided(node_id parent, std::uint32_t upper, ref lower) noexcept {
  const fork& f = forks_[upper];
  const std::uint32_t* tokens = row(is_fork(lower) ? forks_[index(lower)].witness.load() : lower);
  const auto hash = [&](std::uint32_t handle) { return handle_hash(parent, tokens, handle); };
  std::uint32_t before = 0, after = 0;
  if (is_fork(lower)) {
    fork& l = forks_[index(lower)];
    before = handle_of(l);
    l.top = static_cast<std::uint16_t>(f.end + 1);
    after = handle_of(l);
  }
  if (f.up == none) {  // the top fork is under none, as `lower` was not
    if (is_fork(lower)) table_.insert(hash(after), lower);
  } else if (before == after) {
    table_.insert(hash(handle_of(f)), upper | fork_bit);
  } else {
    table_.replace(hash(before), lower, upper | fork_bit);
    table_.insert(hash(after), lower);
  }
}

// The reverse, before `lower` takes the place of `upper`.
void sibling_trie::file_joined(node_id parent, std::uint32_t upper, ref lower) noexcept {
  const fork& f = forks_[upper];
  const std::uint32_t* tokens = row(f.witness);
  const auto hash = [&](std::uint32_t handle) { return handle_hash(parent, tokens, handle); };
  std::uint32_t before = 0, after = 0;
  if (is_fork(lower)) {
    fork& l = forks_[index(lower)];
    before = handle_of(l);
    l.top = f.top;
    after = handle_of(l);
  }
  if (f.up == none) {
    if (is_fork(lower)) table_.erase(hash(before), lower);
  } else if (before == after) {
    table_.erase(hash(handle_of(f)), upper | fork_bit);
  } else {
    table_.erase(hash(before), lower);
    table_.replace(hash(after), upper | fork_bit, lower);
  }
}

}  // namespace radixkv::detail
