// Looking ahead of eviction: fetching what removing the next victims will touch.
//
// Victims lie anywhere in memory, and removing one takes a chain of cache misses: the node; its
// parent, its chunk of ids and the slots of the tables, whose hashes the node remembers. Where it
// does not (it was an inner node once), its first rows come in between. Leaves are named well
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

// The last: the slots are at hand.
inline void radix_tree::fetch_last_link(const leaving_nodes::entry& e) const noexcept {
  detail::prefetch(&nodes_[e.node]);
  if (e.known) [[likely]] {
    if (e.hashes.child != 0) child_table_.prefetch_behind(e.hashes.child);
    if (e.hashes.jump != 0) jump_table_.prefetch_behind(e.hashes.jump);
    return;
  }
  const tree_node& x = nodes_[e.node];
  if (!may_leave(x)) return;
  const table_hashes now = hashes_of(e.node);
  know_hashes(x, now);
  if (is_alone(x)) child_table_.prefetch_slot(now.child);
  if (now.jump != 0) jump_table_.prefetch_slot(now.jump);
}

// The middle one: the node is at hand. Gives its first block.
inline block_id radix_tree::fetch_middle_link(leaving_nodes::entry& e) const noexcept {
  const tree_node& x = nodes_[e.node];
  if (!may_leave(x)) {
    e.node = no_node;
    return no_block;
  }
  detail::prefetch(&nodes_[x.parent]);
  e.hashes = known_hashes(x);
  const bool alone = is_alone(x);
  e.known = (e.hashes.jump != 0 || !has_jump(x)) && (e.hashes.child != 0 || !alone);
  if (!alone) {
    siblings_.prefetch_erase(e.node, e.hashes.child);
    e.hashes.child = 0;
  } else if (e.hashes.child != 0) {
    child_table_.prefetch_slot(e.hashes.child);
  }
  if (e.hashes.jump != 0) jump_table_.prefetch_slot(e.hashes.jump);
  if (x.tokens > tree_node::inline_blocks << block_shift_) {
    lists_.prefetch_header(x.list[1]);
    detail::prefetch(lists_.at(x.list[0] + blocks_of(x.tokens) - 1));
  }
  const auto b = static_cast<block_id>(first_id(x));
  if (!e.known) {
    // Blocks of a run mostly have ids in a row.
    for (std::uint32_t i = 0; i <= before_jump(x.first_block); ++i) {
      detail::prefetch(row(b) + (std::size_t{i} << block_shift_));
    }
  }
  return b;
}

block_id radix_tree::look_ahead(node_id leaf) noexcept {
  constexpr std::uint32_t ring = leaving_nodes::ring;
  static_assert(2 * links_apart < ring);
  const std::uint32_t at = ++leaving_.last;
  leaving_.entries[at % ring].node = leaf;
  if (leaf != no_node) detail::prefetch(&nodes_[leaf]);
  const leaving_nodes::entry& last = leaving_.entries[(at - 2 * links_apart) % ring];
  if (last.node != no_node) fetch_last_link(last);
  leaving_nodes::entry& middle = leaving_.entries[(at - links_apart) % ring];
  return middle.node != no_node ? fetch_middle_link(middle) : no_block;
}

}  // namespace radixkv::detail
