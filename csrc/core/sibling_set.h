// Siblings whose first blocks begin with the same token, ordered by the tokens of their first
// blocks.
//
// A treap (Seidel and Aragon, 1996) linked through the nodes, its heap order a keyed hash of the
// node id, so that no choice of tokens makes it deep. The sibling with the longest common prefix
// lies on the search path. No first block is a prefix of another one (radix_tree.h, invariant 3).
//
// Thread-safety: one writer; a reader may descend at any time within max_depth steps and validate
// with the parent's child_changes.
#pragma once

#include <cstdint>
#include <string>

#include "csrc/core/radix_tree.h"

namespace radixkv::detail {

class sibling_set {
 public:
  // More steps than any treap of 2^32 nodes takes, within any reasonable doubt.
  static constexpr int max_depth = 400;

  sibling_set(radix_tree& tree, node_id root) noexcept : tree_(tree), root_(root) {}
  [[nodiscard]] node_id root() const noexcept { return root_; }

  // REQUIRES: n is in no set, and no member's first block is a prefix of n's or the reverse.
  void insert(node_id n) noexcept { root_ = insert_below(root_, n); }
  // REQUIRES: n is a member.
  void erase(node_id n) noexcept { root_ = erase_below(root_, n); }

  // <0, 0, >0 as the tokens of a's first block compare with those of b's; `common`: equal ones.
  static int compare(const radix_tree& tree, node_id a, node_id b) noexcept;
  // Checks order and heap order below n; adds the members to `count`. Empty if sound.
  static std::string check(const radix_tree& tree, node_id n, std::size_t& count);

 private:
  [[nodiscard]] std::uint64_t priority(node_id n) const noexcept;
  node_id insert_below(node_id at, node_id n) noexcept;
  node_id erase_below(node_id at, node_id n) noexcept;
  void split(node_id at, node_id pivot, node_id& less, node_id& greater) noexcept;
  node_id merge(node_id less, node_id greater) noexcept;

  radix_tree& tree_;
  node_id root_;
};

}  // namespace radixkv::detail
