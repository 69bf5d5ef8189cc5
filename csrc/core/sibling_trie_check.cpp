// The invariants of the trie of siblings, recomputed from scratch.
#include "csrc/core/radix_tree.h"
#include "csrc/core/sibling_trie.h"

namespace radixkv::detail {

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
  if (x.up != none) {
    ++seen.entries;
    if (!is_filed(hashes_of(parent, group).of(handle_of(x)), group)) {
      return name + "not under its handle";
    }
  }
  std::uint32_t children = 0;
  bool inner = false;
  ref before = group;
  for (ref r = x.head; r != none; before = r, r = next(r)) {
    ++children;
    inner = inner || is_fork(r);
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
    const std::uint32_t edge = hashed(x) ? hashes_of(parent, w).of(x.end + 1u) : 0;
    if (hashed(x)) {
      seen.entries += !is_fork(r) || handle_of(forks_[index(r)]) != x.end + 1u;
      if (!is_filed(edge, r)) return name + "a child is not in the table";
    }
    if (!is_fork(r) && tree_.nodes_[r].children == 0) {
      const std::uint32_t known = radix_tree::known_hashes(tree_.nodes_[r]).child;
      if (known != 0 && known != edge) return name + "a child remembers another edge";
    }
    if (std::string wrong = check(parent, r, seen); !wrong.empty()) return wrong;
  }
  if (children < 2) return name + "fewer than two children";
  if (inner && (x.state & inner_bit) == 0) return name + "does not say that there is a fork below";
  if (!hashed(x) && children > scanned_children) return name + "too many children";
  if (x.witness != member(x.head)) return name + "does not know whom its first child knows";
  return {};
}

std::string sibling_trie::check(const counts& seen) const {
  if (seen.forks != in_use_) return "forks of siblings that no node has";
  if (seen.entries != table_.size()) return "entries of no fork of siblings";
  if (std::string wrong = table_.check(); !wrong.empty()) return "siblings' table: " + wrong;
  return {};
}

}  // namespace radixkv::detail
