// What keeps a path of the index from eviction, and all pins of one node, by depth.
//
// A node's pins are a treap (Seidel and Aragon, "Randomized search trees", Algorithmica 1996) by
// depth, linked through the pins themselves: nothing is allocated. It is entered at its deepest
// pin: to add one that reaches no less deep, or to take any out, is O(1) expected, to add another,
// to find the node of one or to part them where their node is split O(log n) expected.
//
// Thread-safety: none; the cache's lock guards them.
#pragma once

#include <cstdint>
#include <string>

#include "csrc/core/step_count.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::detail {

// Does not move while it is laid.
struct tree_pin {
  std::uint32_t depth = 0;     // the path's first blocks, which are kept; 0 only at a root
  std::uint32_t priority = 0;  // at random; none below has more
  node_id node = no_node;      // of the topmost of a node's pins, for all of them
  tree_pin* up = nullptr;
  tree_pin* left = nullptr;   // those below it reach no deeper
  tree_pin* right = nullptr;  // those below it reach no less deep

  [[nodiscard]] bool is_laid() const noexcept { return up != nullptr || node != no_node; }
  // The node that the path ends in. REQUIRES: it is laid.
  [[nodiscard]] node_id end() const noexcept {
    const tree_pin* p = this;
    for (; p->up; p = p->up) count_marks();
    return p->node;
  }
  // The same, but no_node if others follow it in its node's order. For all pins of a node O(1)
  // each.
  [[nodiscard]] node_id end_if_last() const noexcept {
    if (right) return no_node;
    const tree_pin* p = this;
    for (; p->up; p = p->up) {
      if (p->up->left == p) return no_node;
    }
    return p->node;
  }
};

// The pins of a node. Trivially destructible: they are whose they are.
class node_pins {
 public:
  [[nodiscard]] bool empty() const noexcept { return last_ == nullptr; }
  [[nodiscard]] bool several() const noexcept { return last_ && (last_->up || last_->left); }
  // How deep they reach; 0 if there are none.
  [[nodiscard]] std::uint32_t depth() const noexcept { return last_ ? last_->depth : 0; }

  // Of node n. REQUIRES: p is not laid.
  void add(tree_pin& p, node_id n) noexcept {
    if (last_) {
      add_to_others(p);
      return;
    }
    p.node = n;
    last_ = &p;
  }
  // REQUIRES: p is one of them.
  void remove(tree_pin& p) noexcept;
  // Takes out those that reach at most so deep: they are node n's from now on.
  [[nodiscard]] node_pins split_off(std::uint32_t depth, node_id n) noexcept;

  // For checks and dumps: O(n).
  [[nodiscard]] std::uint32_t count() const noexcept {
    std::uint32_t n = 0;
    for_each([&n](const tree_pin&) { ++n; });
    return n;
  }
  // Empty if they are in order and n's.
  [[nodiscard]] std::string check(node_id n) const;
  // Calls visit(pin) for each, the deepest first.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (const tree_pin* p = last_; p != nullptr;) {
      visit(*p);
      if (p->left) {
        for (p = p->left; p->right;) p = p->right;
        continue;
      }
      while (p->up && p->up->left == p) p = p->up;
      p = p->up;
    }
  }

 private:
  void add_to_others(tree_pin& p) noexcept;
  void add_last(tree_pin& p) noexcept;

  tree_pin* last_ = nullptr;  // in their order: it has no right
};

}  // namespace radixkv::detail
