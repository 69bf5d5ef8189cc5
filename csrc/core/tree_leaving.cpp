// Looking ahead of eviction: fetching what removing the next victims will touch.
//
// Victims lie anywhere in memory, and removing one takes a chain of cache misses: the node; its
// parent, its chunk of ids and the slots of the tables, whose hashes the node remembers. Where it
// does not (it was an inner node once), its first row comes in between. Leaves are named some
// groups before their turn, and each time a group is named, one link of the chain is taken for it,
// the next link for the group named before, and the last for the one before that: no link waits for
// memory. All of it is a guess: a leaf may live on, or be gone.
#include <algorithm>

#include "csrc/core/radix_tree.h"

namespace radixkv::detail {

bool radix_tree::may_leave(node_id n) const noexcept {
  if (n == no_node) return false;
  const tree_node& x = nodes_[n];
  return x.tokens != 0 && x.parent != no_node && x.children == 0;
}

std::span<const block_id> radix_tree::look_ahead(std::span<const node_id> leaves) noexcept {
  leaving_nodes& l = leaving_;
  for (const node_id n : leaves) detail::prefetch(&nodes_[n]);
  for (const node_id n : l.fetched) {
    if (!may_leave(n)) continue;
    const tree_node& x = nodes_[n];
    const table_hashes h = known_hashes(x);
    if (h.jump != 0 && (h.child != 0 || !is_alone(x))) continue;
    const table_hashes now = hashes_of(n);
    know_hashes(x, now);
    if (is_alone(x)) child_table_.prefetch_slot(now.child);
    jump_table_.prefetch_slot(now.jump);
  }
  std::size_t blocks = 0;
  for (const node_id n : l.named) {
    if (!may_leave(n)) continue;
    const tree_node& x = nodes_[n];
    const std::uint32_t count = blocks_of(x.tokens);
    const table_hashes h = known_hashes(x);
    detail::prefetch(&nodes_[x.parent]);
    if (!is_alone(x)) {
      siblings_.prefetch_erase(n, h.child);
    } else if (h.child != 0) {
      child_table_.prefetch_slot(h.child);
    }
    if (h.jump != 0) jump_table_.prefetch_slot(h.jump);
    if (h.child == 0 || h.jump == 0) detail::prefetch(first_row(x));
    l.blocks[blocks++] = static_cast<block_id>(first_id(x));
    if (count > tree_node::inline_blocks) {
      lists_.prefetch_header(x.list[1]);
      detail::prefetch(lists_.at(x.list[0] + count - 1));
    }
  }
  l.fetched = l.named;
  l.named.fill(no_node);
  std::copy_n(leaves.begin(), std::min(leaves.size(), l.named.size()), l.named.begin());
  return std::span(l.blocks).first(blocks);
}

}  // namespace radixkv::detail
