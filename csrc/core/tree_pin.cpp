#include "csrc/core/tree_pin.h"

#include <utility>

namespace radixkv::detail {

namespace {

// The last one below p, or p itself.
tree_pin* last_of(tree_pin* p) noexcept {
  for (; p->right; p = p->right) count_marks();
  return p;
}

tree_pin* top_of(tree_pin* p) noexcept {
  for (; p->up; p = p->up) count_marks();
  return p;
}

// p takes the place of the one above it, which goes below p.
void rotate_up(tree_pin& p) noexcept {
  tree_pin& above = *p.up;
  count_marks();
  if (above.left == &p) {
    above.left = p.right;
    if (p.right) p.right->up = &above;
    p.right = &above;
  } else {
    above.right = p.left;
    if (p.left) p.left->up = &above;
    p.left = &above;
  }
  p.up = above.up;
  if (p.up) (p.up->left == &above ? p.up->left : p.up->right) = &p;
  above.up = &p;
  std::swap(p.node, above.node);  // no_node and, if that one was topmost, the node of all
}

}  // namespace

void node_pins::add_to_others(tree_pin& p) noexcept {
  if (p.depth >= last_->depth) {
    add_last(p);
    return;
  }
  // From the deepest up past those that reach deeper, then down on their left.
  tree_pin* at = last_;
  for (; at->up && at->up->depth > p.depth; at = at->up) count_marks();
  for (;;) {
    count_marks();
    tree_pin*& below = p.depth < at->depth ? at->left : at->right;
    if (!below) {
      below = &p;
      p.up = at;
      break;
    }
    at = below;
  }
  while (p.up && p.up->priority < p.priority) rotate_up(p);
}

// Those at the end of the order that are to lie below p go to its left.
void node_pins::add_last(tree_pin& p) noexcept {
  tree_pin* below = nullptr;
  tree_pin* at = last_;
  for (; at && at->priority < p.priority; at = at->up) {
    count_marks();
    below = at;
  }
  p.left = below;
  p.up = at;
  if (below) {
    p.node = std::exchange(below->node, no_node);
    below->up = &p;
  }
  if (at) at->right = &p;
  last_ = &p;
}

void node_pins::remove(tree_pin& p) noexcept {
  if (&p == last_) last_ = p.left ? last_of(p.left) : p.up;
  // What lies below p, joined, takes its place.
  tree_pin* joined = nullptr;
  tree_pin* up = p.up;
  tree_pin** place = !up ? &joined : up->left == &p ? &up->left : &up->right;
  tree_pin* const* const top = place;
  tree_pin* a = p.left;
  tree_pin* b = p.right;
  while (a && b) {
    count_marks();
    tree_pin*& from = a->priority < b->priority ? b : a;
    tree_pin* const next = from;
    *place = next;
    next->up = up;
    up = next;
    if (&from == &a) {
      place = &next->right;
      a = next->right;
    } else {
      place = &next->left;
      b = next->left;
    }
  }
  *place = a ? a : b;
  if (*place) (*place)->up = up;
  if (*top && p.node != no_node) (*top)->node = p.node;
  p.node = no_node;
  p.up = p.left = p.right = nullptr;
}

node_pins node_pins::split_off(std::uint32_t depth, node_id n) noexcept {
  node_pins upper;
  if (!last_) return upper;
  tree_pin* const top = top_of(last_);
  if (last_->depth <= depth) {
    top->node = n;
    std::swap(upper, *this);
    return upper;
  }
  const node_id own = std::exchange(top->node, no_node);
  tree_pin* tops[2] = {};  // of those that are taken out, and of those that stay
  tree_pin** places[2] = {&tops[0], &tops[1]};
  tree_pin* ups[2] = {};
  for (tree_pin* at = top; at != nullptr;) {
    count_marks();
    const bool stays = at->depth > depth;
    *places[stays] = at;
    at->up = std::exchange(ups[stays], at);
    places[stays] = stays ? &at->left : &at->right;
    at = *places[stays];
  }
  *places[0] = *places[1] = nullptr;
  tops[1]->node = own;
  if (tops[0]) {
    tops[0]->node = n;
    upper.last_ = last_of(tops[0]);
  }
  return upper;
}

std::string node_pins::check(node_id n) const {
  if (!last_) return {};
  std::string wrong;
  if (last_->right) wrong = "a pin after the last one";
  const tree_pin* after = nullptr;
  for_each([&](const tree_pin& p) {
    if (p.end() != n) wrong = "a pin of node " + std::to_string(p.end());
    if (p.up && p.node != no_node) wrong = "a pin that is not the topmost names a node";
    if (after && p.depth > after->depth) wrong = "pins out of order";
    for (const tree_pin* below : {p.left, p.right}) {
      if (below && (below->up != &p || below->priority > p.priority)) wrong = "pins out of place";
    }
    after = &p;
  });
  return wrong;
}

}  // namespace radixkv::detail
