// Token strings in order, among which the longest that begins a path is found in the logarithm of
// their number, however they are nested and wherever they part from the path.
//
// A treap (Seidel and Aragon, "Randomized search trees", Algorithmica 1996). A string begins a path
// if it is no longer than what any two neighbours between it and the path have in common; of each
// subtree it is known how long the shortest is that begins all that follow it there.
//
// Invariants
// 1. In order of tokens, a string before what it begins; equal ones in the order of insertion.
// 2. No priority is below a child's; next_common, least_common and shortest are as they say.
//
// Not thread-safe. Nothing here allocates.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "csrc/core/step_count.h"
#include "csrc/core/token_ops.h"

namespace radixkv::detail {

class prefix_order {
 public:
  using string = std::span<const std::uint32_t>;
  struct item {
    string tokens;
    std::uint64_t value = 0;     // the caller's
    std::uint64_t priority = 0;  // random

   private:
    friend class prefix_order;
    item* up = nullptr;
    item* left = nullptr;
    item* right = nullptr;
    std::size_t next_common = 0;   // leading tokens in common with the next one
    std::size_t least_common = 0;  // the least of the subtree
    std::size_t shortest = 0;      // of those that begin all that follow them in the subtree
  };

  [[nodiscard]] bool empty() const noexcept { return root_ == nullptr; }
  // REQUIRES: x is in no order, and stays where it is while it is in this one.
  void insert(item& x) noexcept {
    item* before = nullptr;
    item* behind = nullptr;
    item* above = nullptr;
    for (item* at = root_; at != nullptr;) {
      above = at;
      const bool further = is_behind(x.tokens, *at);
      (further ? before : behind) = at;
      at = further ? at->right : at->left;
    }
    x.up = above;
    x.left = x.right = nullptr;
    (above == nullptr ? root_ : above == before ? above->right : above->left) = &x;
    x.next_common = behind == nullptr ? 0 : common(x.tokens, behind->tokens);
    if (before != nullptr) before->next_common = common(before->tokens, x.tokens);
    while (x.up != nullptr && x.up->priority < x.priority) rotate_up(x);
    refresh_from(before);
    refresh_from(&x);
  }
  // REQUIRES: x is in this order.
  void erase(item& x) noexcept {
    item* const before = previous(x);
    if (before != nullptr) before->next_common = std::min(before->next_common, x.next_common);
    while (x.left != nullptr || x.right != nullptr) {
      const bool left =
          x.right == nullptr || (x.left != nullptr && x.left->priority > x.right->priority);
      rotate_up(left ? *x.left : *x.right);
    }
    (x.up == nullptr ? root_ : x.up->left == &x ? x.up->left : x.up->right) = nullptr;
    refresh_from(std::exchange(x.up, nullptr));
    refresh_from(before);
  }
  // The one before x, or nullptr.
  [[nodiscard]] static item* previous(item& x) noexcept {
    return neighbour<&item::left, &item::right>(x);
  }
  // The longest that is a prefix of the path, the last of equal ones, or nullptr.
  [[nodiscard]] item* longest_prefix_of(string path) const noexcept {
    item* last = nullptr;  // that is not behind the path
    for (item* at = root_; at != nullptr;) {
      const bool behind = is_behind(path, *at);
      if (behind) last = at;
      at = behind ? at->right : at->left;
    }
    if (last == nullptr) return nullptr;
    const std::size_t least = common(last->tokens, path);
    return last->tokens.size() <= least ? last : begins(*last, least);
  }
  // The longest that is a prefix of x and shorter, the last of equal ones, or nullptr.
  [[nodiscard]] static item* shorter_prefix_of(item& x) noexcept {
    return x.tokens.empty() ? nullptr : begins(x, x.tokens.size() - 1);
  }
  // Calls visit(item) in order. For tests.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    item* at = root_;
    while (at != nullptr && at->left != nullptr) at = at->left;
    for (; at != nullptr; at = neighbour<&item::right, &item::left>(*at)) visit(*at);
  }

 private:
  static constexpr std::size_t nothing = ~std::size_t{0};

  // On the side of `near`: the last of that subtree towards `far`, or the first above on that side.
  template <item* item::*near, item* item::*far>
  [[nodiscard]] static item* neighbour(item& x) noexcept {
    if (x.*near != nullptr) {
      item* at = x.*near;
      while (at->*far != nullptr) at = at->*far;
      return at;
    }
    item* at = &x;
    while (at->up != nullptr && at->up->*near == at) at = at->up;
    return at->up;
  }
  // The last one before x that is a prefix of its `least` leading tokens.
  [[nodiscard]] static item* begins(item& x, std::size_t least) noexcept {
    // From there to the front: what comes before an item lies to its left, or it lies to the right.
    for (item* at = &x;;) {
      count_nodes();
      if (at->left != nullptr && at->left->shortest <= least) return last_of(at->left, least);
      if (at->left != nullptr) least = std::min(least, at->left->least_common);
      while (at->up != nullptr && at->up->left == at) at = at->up;
      at = at->up;
      if (at == nullptr) return nullptr;
      least = std::min(least, at->next_common);
      if (at->tokens.size() <= least) return at;
    }
  }
  [[nodiscard]] static std::size_t common(string a, string b) noexcept {
    return common_prefix(a.data(), b.data(), std::min(a.size(), b.size()));
  }
  // Whether a string comes behind an item, or equals it.
  [[nodiscard]] static bool is_behind(string s, const item& x) noexcept {
    const std::size_t n = common(s, x.tokens);
    count_nodes(lines_of_tokens(n + 1));  // with the first line of its tokens an item counts once
    return n == x.tokens.size() || (n < s.size() && s[n] > x.tokens[n]);
  }
  // The last one in the subtree that begins all that follow it there and is no longer than `least`.
  // REQUIRES: there is one.
  [[nodiscard]] static item* last_of(item* at, std::size_t least) noexcept {
    for (;;) {
      count_nodes();
      if (at->right != nullptr && at->right->shortest <= least) {
        at = at->right;
        continue;
      }
      least = std::min(least, common_behind(*at));
      if (at->tokens.size() <= least) return at;
      at = at->left;
    }
  }
  // The least that neighbours have in common from x to the end of its subtree.
  [[nodiscard]] static std::size_t common_behind(const item& x) noexcept {
    return x.right == nullptr ? x.next_common : std::min(x.next_common, x.right->least_common);
  }
  static void refresh(item& x) noexcept {
    const std::size_t behind = common_behind(x);
    x.least_common = x.left == nullptr ? behind : std::min(behind, x.left->least_common);
    x.shortest = x.right == nullptr ? nothing : x.right->shortest;
    if (x.tokens.size() <= behind) x.shortest = std::min(x.shortest, x.tokens.size());
    if (x.left != nullptr && x.left->shortest <= behind) {
      x.shortest = std::min(x.shortest, x.left->shortest);
    }
  }
  static void refresh_from(item* x) noexcept {
    for (; x != nullptr; x = x->up) refresh(*x);
  }
  void rotate_up(item& x) noexcept {
    item& above = *x.up;
    item* const top = above.up;
    if (above.left == &x) {
      above.left = x.right;
      if (x.right != nullptr) x.right->up = &above;
      x.right = &above;
    } else {
      above.right = x.left;
      if (x.left != nullptr) x.left->up = &above;
      x.left = &above;
    }
    above.up = &x;
    x.up = top;
    (top == nullptr ? root_ : top->left == &above ? top->left : top->right) = &x;
    refresh(above);
    refresh(x);
  }

  item* root_ = nullptr;
};

}  // namespace radixkv::detail
