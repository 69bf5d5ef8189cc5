// Looking ahead of eviction: fetching what removing the next victims will touch.
//
// Victims lie anywhere in memory, and removing one takes a chain of cache misses: the node; its
// parent, its chunk of ids and the slots of the tables, whose hashes the node remembers. Where it
// does not (it was an inner node once), its first row comes in between. Leaves are named well
// before their turn, and each time one is named, one link of the chain is taken for it, the next
// link for one that was named some leaves ago, and the last for one that was named still earlier:
// no link waits for memory. All of it is a guess: a leaf may live on, or be gone.

#include "csrc/core/radix_tree.h"

namespace radixkv::detail {

namespace {

// Leaves between two links: memory answers meanwhile.
constexpr std::uint32_t links_apart = radix_tree::leaving_distance / 3;

[[nodiscard]] bool may_leave(const tree_node& x) noexcept {
  return x.tokens != 0 && x.parent != no_node && x.children == 0;
}

}  // namespace

block_id radix_tree::look_ahead(node_id leaf) noexcept {
  constexpr std::uint32_t ring = leaving_nodes::ring;
  static_assert(2 * links_apart < ring);
  leaving_nodes& l = leaving_;
  l.node[++l.last % ring] = leaf;
  if (leaf != no_node) detail::prefetch(&nodes_[leaf]);
  if (const node_id n = l.node[(l.last - 2 * links_apart) % ring];
      n != no_node && may_leave(nodes_[n])) {
    const tree_node& x = nodes_[n];
    const table_hashes h = known_hashes(x);
    if (h.jump == 0 || (h.child == 0 && is_alone(x))) {
      const table_hashes now = hashes_of(n);
      know_hashes(x, now);
      if (is_alone(x)) child_table_.prefetch_slot(now.child);
      jump_table_.prefetch_slot(now.jump);
    } else {
      if (is_alone(x)) child_table_.prefetch_behind(h.child);
      jump_table_.prefetch_behind(h.jump);
    }
  }
  const node_id n = l.node[(l.last - links_apart) % ring];
  if (n == no_node || !may_leave(nodes_[n])) return no_block;
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
  if (count > tree_node::inline_blocks) {
    lists_.prefetch_header(x.list[1]);
    detail::prefetch(lists_.at(x.list[0] + count - 1));
  }
  return static_cast<block_id>(first_id(x));
}

}  // namespace radixkv::detail
