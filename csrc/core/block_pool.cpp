#include "csrc/core/block_pool.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace radixkv::detail {

bool block_pool::create(std::int64_t blocks) {
  blocks_ = blocks;
  return state_.reserve(static_cast<std::size_t>(blocks)) &&
         stack_.reserve(static_cast<std::size_t>(blocks));
}

bool block_pool::allocate(std::span<block_id> out) noexcept {
  const auto n = static_cast<std::int64_t>(out.size());
  if (n > free()) return false;
  const std::int64_t reused = std::min(n, freed_);
  const block_id* top = stack_.data() + freed_;
  for (std::int64_t i = 0; i < reused; ++i) {
    const block_id b = *--top;
    out[static_cast<std::size_t>(i)] = b;
    state_[static_cast<std::size_t>(b)] = 1;
  }
  freed_ -= reused;
  const std::int64_t first = fresh_;
  fresh_ += n - reused;
  std::iota(out.begin() + reused, out.end(), static_cast<block_id>(first));
  std::fill(state_.data() + first, state_.data() + fresh_, 1u);
  return true;
}

void block_pool::push_free(block_id b) noexcept {
  state_[static_cast<std::size_t>(b)] = 0;
  stack_[static_cast<std::size_t>(freed_++)] = b;
  freed_high_water_ = std::max(freed_high_water_, freed_);
}

void block_pool::hold(block_id b) noexcept {
  std::uint32_t& s = state_[index(b)];
  assert(holders(s) > 0 && (s & count_mask) < count_mask);
  if (holders(s) == 1) ++shared_;
  ++s;
}

std::int64_t block_pool::release(std::span<const block_id> held) noexcept {
  const std::int64_t before = freed_;
  for (auto it = held.rbegin(); it != held.rend(); ++it) {
    std::uint32_t& s = state_[index(*it)];
    assert((s & count_mask) > 0);
    if (holders(s) == 1) {
      push_free(*it);
      continue;
    }
    if (holders(s) == 2) --shared_;
    --s;
  }
  return freed_ - before;
}

void block_pool::move_to_tree(std::span<const block_id> held) noexcept {
  for (const block_id b : held) {
    std::uint32_t& s = state_[index(b)];
    assert((s & count_mask) > 0 && !(s & tree_bit));
    s = (s - 1) | tree_bit;
  }
  tree_held_ += static_cast<std::int64_t>(held.size());
}

void block_pool::share_with_tree(block_id b) noexcept {
  std::uint32_t& s = state_[index(b)];
  assert((s & count_mask) > 0 && !(s & tree_bit));
  if (holders(s) == 1) ++shared_;
  s |= tree_bit;
  ++tree_held_;
}

std::int64_t block_pool::release_tree(std::span<const block_id> held) noexcept {
  const std::int64_t before = freed_;
  for (auto it = held.rbegin(); it != held.rend(); ++it) {
    std::uint32_t& s = state_[index(*it)];
    assert(s & tree_bit);
    if (holders(s) == 1) {
      push_free(*it);
      continue;
    }
    if (holders(s) == 2) --shared_;
    s &= ~(tree_bit | mark_bit);
  }
  tree_held_ -= static_cast<std::int64_t>(held.size());
  return freed_ - before;
}

std::string block_pool::check() const {
  std::vector<bool> on_stack(static_cast<std::size_t>(blocks_));
  for (std::int64_t i = 0; i < freed_; ++i) {
    const block_id b = stack_[static_cast<std::size_t>(i)];
    if (b < 0 || b >= fresh_) return "free stack holds block " + std::to_string(b);
    if (on_stack[static_cast<std::size_t>(b)]) return "block freed twice: " + std::to_string(b);
    on_stack[static_cast<std::size_t>(b)] = true;
  }
  std::int64_t shared = 0;
  std::int64_t tree = 0;
  for (std::int64_t b = 0; b < fresh_; ++b) {
    const std::uint32_t s = state_[static_cast<std::size_t>(b)];
    if ((holders(s) == 0) != on_stack[static_cast<std::size_t>(b)]) {
      return "block " + std::to_string(b) + " has " + std::to_string(holders(s)) +
             " holders but is " + (on_stack[static_cast<std::size_t>(b)] ? "free" : "not free");
    }
    shared += holders(s) >= 2;
    tree += (s & tree_bit) != 0;
  }
  if (shared != shared_) return "shared blocks: " + std::to_string(shared_);
  if (tree != tree_held_) return "blocks held by the index: " + std::to_string(tree_held_);
  return {};
}

}  // namespace radixkv::detail
