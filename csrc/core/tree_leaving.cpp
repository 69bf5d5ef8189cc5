// Looking ahead of eviction: fetching what removing the next victims will touch.
//
// Victims lie anywhere in memory, and removing one takes a chain of cache misses: the node; its
// parent, its chunk of ids and the slots of both tables, whose hashes the node remembers. Where it
// does not (it was an inner node once), or has siblings that begin with the same token, its first
// row comes in between. The policy names leaves well before their turn, so each time it names one,
// one link of the chain is taken for a leaf that it named some leaves ago, and the next link for
// one that it named still earlier: no link waits for memory. All of it is a guess: a leaf may live
// on, or be gone.
#include "csrc/core/radix_tree.h"

namespace radixkv::detail {

namespace {

// Leaves between two links: memory answers meanwhile, and two gaps and the removal itself fit into
// the distance from which policies name leaves.
constexpr std::uint32_t links_apart = tree_view::prefetch_distance / 3;

[[nodiscard]] bool may_go(const tree_node& x) noexcept {
  return x.tokens != 0 && x.parent != no_node && x.children == 0;
}

}  // namespace

void radix_tree::prefetch(node_id n) const noexcept {
  constexpr std::uint32_t ring = leaving_nodes::ring;
  static_assert(2 * links_apart < ring);
  leaving_nodes& l = leaving_;
  if (l.node[l.last % ring] == n) return;  // policies repeat themselves
  l.node[++l.last % ring] = n;
  detail::prefetch(&nodes_[n]);
  l.block = no_block;
  if (const node_id m = l.node[(l.last - links_apart) % ring]; m != no_node && may_go(nodes_[m])) {
    const tree_node& x = nodes_[m];
    const std::uint32_t count = blocks_of(x.tokens);
    const table_hashes h = known_hashes(x);
    detail::prefetch(&nodes_[x.parent]);
    if (is_alone(x)) {
      if (h.child != 0) child_table_.prefetch_slots(h.child);
    } else {
      siblings_.prefetch_erase(m, h.child);
    }
    if (h.jump != 0) jump_table_.prefetch_slots(h.jump);
    if (h.child == 0 || h.jump == 0) detail::prefetch(first_row(x));
    l.block = static_cast<block_id>(first_id(x));
    if (count > tree_node::inline_blocks) {
      lists_.prefetch_header(x.list[1]);
      detail::prefetch(lists_.at(x.list[0] + count - 1));
    }
  }
  if (const node_id m = l.node[(l.last - 2 * links_apart) % ring];
      m != no_node && may_go(nodes_[m])) {
    const tree_node& x = nodes_[m];
    const table_hashes h = known_hashes(x);
    if (h.jump == 0 || (h.child == 0 && is_alone(x))) {
      const table_hashes now = hashes_of(m);
      know_hashes(x, now);
      if (is_alone(x)) child_table_.prefetch_slots(now.child);
      jump_table_.prefetch_slots(now.jump);
    }
  }
}

}  // namespace radixkv::detail
