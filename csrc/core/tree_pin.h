// What keeps a path of the index from eviction, and, of the pins of one node, the one that reaches
// deepest.
//
// A node's pins are a pairing heap by depth (Fredman, Sedgewick, Sleator and Tarjan, "The pairing
// heap: a new form of self-adjusting heap", Algorithmica 1986), linked through the pins themselves:
// nothing is allocated. To add one is O(1), to take any one out O(log n) amortised.
//
// Thread-safety: none; the cache's lock guards them.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "radixkv/eviction_policy.h"

namespace radixkv::detail {

// Does not move while it is laid.
struct tree_pin {
  node_id node = no_node;   // at or below the end of what is kept; no_node: it is not laid
  std::uint32_t depth = 0;  // the path's first blocks, which are kept; 0 only at a root
  // Its children's list, which begins with `child`; `previous` of the first one is their parent.
  tree_pin* child = nullptr;
  tree_pin* next = nullptr;
  tree_pin* previous = nullptr;
};

// The pins of a node. Trivially destructible: they are whose they are.
class node_pins {
 public:
  [[nodiscard]] bool empty() const noexcept { return top_ == nullptr; }
  [[nodiscard]] bool several() const noexcept { return top_ != nullptr && top_->child != nullptr; }
  // How deep they reach; 0 if there are none.
  [[nodiscard]] std::uint32_t depth() const noexcept { return top_ ? top_->depth : 0; }
  [[nodiscard]] tree_pin* deepest() const noexcept { return top_; }

  // REQUIRES: p has no links.
  void add(tree_pin& p) noexcept { top_ = top_ ? join(p, *top_) : &p; }

  // REQUIRES: p is one of them.
  void remove(tree_pin& p) noexcept {
    tree_pin* const below = join_children(p);
    if (&p == top_) {
      top_ = below;
    } else {
      (p.previous->child == &p ? p.previous->child : p.previous->next) = p.next;
      if (p.next) p.next->previous = p.previous;
      if (below) top_ = join(*below, *top_);
    }
    p.next = p.previous = nullptr;
  }

  // For checks and dumps: O(n).
  [[nodiscard]] std::uint32_t count() const {
    std::uint32_t n = 0;
    for_each([&n](const tree_pin&) { ++n; });
    return n;
  }
  // Empty if all are laid on n and none reaches deeper than the one it is linked below.
  [[nodiscard]] std::string check(node_id n) const;
  // Calls visit(pin) for each, in no order.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    const tree_pin* p = top_;
    while (p != nullptr) {
      visit(*p);
      if (p->child) {
        p = p->child;
        continue;
      }
      while (p != top_ && !p->next) {
        while (p->previous->child != p) p = p->previous;
        p = p->previous;
      }
      p = p == top_ ? nullptr : p->next;
    }
  }

 private:
  // Of two that stand alone, or are first among equals, the second goes below the first.
  static tree_pin* join(tree_pin& a, tree_pin& b) noexcept {
    if (a.depth < b.depth) return join(b, a);
    b.previous = &a;
    b.next = a.child;
    if (a.child) a.child->previous = &b;
    a.child = &b;
    return &a;
  }

  // Joins p's children in pairs, and the pairs from the last to the first; p has none then.
  static tree_pin* join_children(tree_pin& p) noexcept {
    tree_pin* pairs = nullptr;  // linked by `next`, the last one first
    for (tree_pin* a = std::exchange(p.child, nullptr); a != nullptr;) {
      tree_pin* const b = a->next;
      tree_pin* const rest = b ? b->next : nullptr;
      a->next = a->previous = nullptr;
      if (b) b->next = b->previous = nullptr;
      tree_pin* const pair = b ? join(*a, *b) : a;
      pair->next = pairs;
      pairs = pair;
      a = rest;
    }
    tree_pin* all = nullptr;
    while (pairs != nullptr) {
      tree_pin* const pair = pairs;
      pairs = pair->next;
      pair->next = nullptr;
      all = all ? join(*all, *pair) : pair;
    }
    return all;
  }

  tree_pin* top_ = nullptr;
};

inline std::string node_pins::check(node_id n) const {
  std::string wrong;
  for_each([&](const tree_pin& p) {
    if (p.node != n) wrong = "a pin of node " + std::to_string(p.node);
    for (const tree_pin* c = p.child; c != nullptr; c = c->next) {
      if (c->depth > p.depth) wrong = "pins out of order";
    }
  });
  return wrong;
}

}  // namespace radixkv::detail
