// Leaves come and go: the tables' entries for them, and the jump table, which finds nodes from the
// hash of the path to them.
#include "csrc/core/radix_tree.h"

namespace radixkv::detail {

// What the tables know n by. A node whose first block is partial cannot be jumped to.
radix_tree::table_hashes radix_tree::hashes_of(node_id n) const noexcept {
  const tree_node& x = nodes_[n];
  table_hashes h;
  if (x.children == 0) h = known_hashes(x);
  if (h.jump == 0 && x.tokens >> block_shift_ != 0) h.jump = hasher_.jump_hash(jump_path(n));
  if (h.child == 0 && is_alone(x)) h.child = child_hash_of(x);
  return h;
}

// Makes leaf n known to the jump table once its first block is whole, and n remember by what.
void radix_tree::register_leaf(node_id n) noexcept {
  tree_node& x = nodes_[n];
  const table_hashes h = hashes_of(n);
  know_hashes(x, h);
  if (x.tokens >> block_shift_ != 0) register_jump(h.jump, n);
}

// To wait for the slot now would be to wait for memory.
void radix_tree::register_jump(std::uint32_t hash, node_id n) noexcept {
  if (coming_ == coming_jumps_.size()) settle_jumps();
  jump_table_.prefetch_slot(hash);
  coming_jumps_[coming_++] = {hash, n};
}

void radix_tree::settle_jumps() noexcept {
  for (; coming_ > 0; --coming_) {
    const coming_jump& c = coming_jumps_[coming_ - 1];
    jump_table_.insert(c.hash, c.node);
  }
}

// Takes leaf n out of the tables and from its parent.
void radix_tree::unregister_leaf(node_id n) noexcept {
  settle_jumps();
  const tree_node& x = nodes_[n];
  const table_hashes h = known_hashes(x);
  if (x.tokens >> block_shift_ != 0) {
    jump_table_.erase(h.jump != 0 ? h.jump : hasher_.jump_hash(jump_path(n)), n);
  }
  tree_node& up = nodes_[x.parent];
  write_guard writing(up.child_changes);
  const std::uint32_t before = up.children;
  if (before >= 2) remove_sibling(x.parent, n);
  up.child = up.child ^ n;
  up.children = before - 1;
  if (before == 2) remove_sibling(x.parent, up.child);
  if (before == 1) know_hashes(up, {});
}

}  // namespace radixkv::detail
