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
  return x.parent != no_node && x.children == 0;
}

}  // namespace

block_id radix_tree::look_ahead(node_id leaf) noexcept {
  constexpr std::uint32_t ring = leaving_nodes::ring;
  static_assert(2 * links_apart < ring);
  const std::uint32_t at = ++leaving_.last;
  leaving_.node[at % ring] = leaf;
  const node_id last = leaving_.node[(at - 2 * links_apart) % ring];
  const node_id middle = leaving_.node[(at - links_apart) % ring];
  if (leaf != no_node) detail::prefetch(&nodes_[leaf]);
  if (last != no_node) fetch_last_link(last);
  return middle != no_node ? fetch_middle_link(middle) : no_block;
}

void radix_tree::fetch_last_link(node_id n) const noexcept {
  const tree_node& x = nodes_[n];
  if (!may_leave(x)) return;
  const bool alone = is_alone(x);
  const table_hashes h = known_hashes(x);
  if (h.jump != 0 && (h.child != 0 || !alone)) {
    if (alone) child_table_.prefetch_behind(h.child);
    jump_table_.prefetch_behind(h.jump);
    return;
  }
  const table_hashes now = hashes_of(n);
  know_hashes(x, now);
  if (alone) child_table_.prefetch_slot(now.child);
  jump_table_.prefetch_slot(now.jump);
}

block_id radix_tree::fetch_middle_link(node_id n) const noexcept {
  const tree_node& x = nodes_[n];
  if (!may_leave(x)) return no_block;
  const table_hashes h = known_hashes(x);
  detail::prefetch(&nodes_[x.parent]);
  if (!is_alone(x)) {
    siblings_.prefetch_erase(n, h.child);
  } else if (h.child != 0) {
    child_table_.prefetch_slot(h.child);
  }
  if (h.jump != 0) jump_table_.prefetch_slot(h.jump);
  const std::uint32_t count = blocks_of(x.tokens);
  if (count > tree_node::inline_blocks) {
    lists_.prefetch_header(x.list[1]);
    detail::prefetch(lists_.at(x.list[0] + count - 1));
  }
  const auto b = static_cast<block_id>(first_id(x));
  if (h.child == 0 || h.jump == 0) detail::prefetch(row(b));
  return b;
}

}  // namespace radixkv::detail
