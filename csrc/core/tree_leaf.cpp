// Leaves come and go: the tables' entries for them, and the jump table, which finds nodes from the
// hash of the path to them.
#include <cassert>

#include "csrc/core/radix_tree.h"

namespace radixkv::detail {

// What the tables know n by.
radix_tree::table_hashes radix_tree::hashes_of(node_id n, bool jump) const noexcept {
  const tree_node& x = nodes_[n];
  table_hashes h;
  if (x.children == 0) h = known_hashes(x);
  if (jump && h.jump == 0 && has_jump(x)) h.jump = jump_hash_of(x);
  if (h.child == 0 && is_alone(x)) h.child = child_hash_of(x);
  return h;
}

// Makes leaf n known to the jump table if that is to know it, and n remember by what.
void radix_tree::register_leaf(node_id n) noexcept {
  tree_node& x = nodes_[n];
  const table_hashes h = hashes_of(n);
  know_hashes(x, h);
  if (has_jump(x)) register_jump(h.jump, n);
}

// REQUIRES: the jump table knows leaf n.
inline void radix_tree::unregister_jump(node_id n) noexcept {
  const tree_node& x = nodes_[n];
  const std::uint32_t known = known_hashes(x).jump;
  jump_table_.erase(known != 0 ? known : jump_hash_of(x), n);
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

// Takes a child that has siblings out of the child table.
inline void radix_tree::remove_sibling(node_id parent, node_id child) noexcept {
  const tree_node& x = nodes_[child];
  if (is_alone(x)) [[likely]] {
    child_table_.erase(child_hash_of(x), child);
    return;
  }
  const std::uint32_t first = load_word(first_row(x));
  const sibling_trie::change group = siblings_.erase(parent, child);
  if (group.from != group.to) {
    child_table_.replace(hasher_.child_hash(parent, first), group.from, group.to);
  }
}

// Takes leaf n out of the tables and from its parent. Gives the children that are left there.
inline std::uint32_t radix_tree::unregister_leaf(node_id n, node_id parent) noexcept {
  settle();
  const tree_node& x = nodes_[n];
  if (has_jump(x)) unregister_jump(n);
  tree_node& up = nodes_[parent];
  write_guard writing(up.child_changes);
  const std::uint32_t left = up.children - 1;
  if (left > 0) remove_sibling(parent, n);
  const node_id others = up.child ^ n;
  up.child = others;
  up.children = left;
  if (left == 1) remove_sibling(parent, others);
  if (left == 0) know_hashes(up, {});
  return left;
}

void radix_tree::give_node(node_id n) noexcept {
  tree_node& x = nodes_[n];
  write_guard writing(x.changes);
  x.parent = no_node;
  x.first_block = free_mark;
  x.tokens = 0;
  x.next = free_node_;
  free_node_ = n;
  --node_count_;
}

node_id radix_tree::trim(node_id n, std::uint32_t count, bool evicted) {
  const tree_node& x = nodes_[n];
  const std::uint32_t tokens = x.tokens;
  const std::uint32_t total = blocks_of(tokens);
  assert(!is_root(n) && x.children == 0 && count >= 1 && count <= total - pinned_blocks(n));
  evictable_in_leaves_ -= count;
  if (count < total) {
    if (has_jump(x) && total - count <= before_jump(x.first_block)) {
      settle();
      unregister_jump(n);
      know_hashes(x, {0, known_hashes(x).child});
    }
    shorten_run(n, count);
    token_count_ -= tokens - x.tokens;
    if (policy_) policy_->on_trim(n, count);
    return no_node;
  }
  assert(x.pins.empty());
  if (policy_) policy_->on_remove(n, evicted);
  const node_id up = x.parent;
  const bool chunked = total > tree_node::inline_blocks;
  const block_lists::chunk c = chunked ? x.list[1].load() : block_lists::chunk{0};
  const std::uint32_t siblings = unregister_leaf(n, up);
  token_count_ -= tokens;
  if (chunked) drop_run(n);
  give_node(n);
  const bool below_root = is_root(up);
  if (siblings > 0 || below_root) --leaf_count_;
  if (siblings == 0) evictable_in_leaves_ += evictable_blocks(up);
  if (chunked) compact(up, c);
  return siblings == 0 && below_root ? up : no_node;
}

}  // namespace radixkv::detail
