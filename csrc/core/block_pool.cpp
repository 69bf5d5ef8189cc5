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
  std::uint32_t* const states = state_.data();
  block_id* to = out.data();
  for (std::int64_t i = 0; i < reused; ++i) {
    const block_id b = *--top;
    *to++ = b;
    states[b] = 1;
  }
  freed_ -= reused;
  const std::int64_t first = fresh_;
  fresh_ += n - reused;
  std::iota(out.begin() + reused, out.end(), static_cast<block_id>(first));
  std::fill(states + first, states + fresh_, 1u);
  return true;
}

// Lets go of blocks, last first; `drop` gives the state that is left, 0 if nobody holds the block.
template <typename Drop>
std::int64_t block_pool::give_up(std::span<const block_id> held, Drop&& drop) noexcept {
  std::uint32_t* const states = state_.data();
  block_id* const bottom = stack_.data() + freed_;
  block_id* top = bottom;
  std::int64_t unshared = 0;
  for (std::size_t i = held.size(); i-- > 0;) {
    const block_id b = held[i];
    const std::uint32_t before = states[b];
    const std::uint32_t after = drop(before);
    states[b] = after;
    if (after == 0) {
      *top++ = b;
    } else if (holders(after) == 1) {
      ++unshared;
    }
  }
  freed_ += top - bottom;
  freed_high_water_ = std::max(freed_high_water_, freed_);
  shared_ -= unshared;
  return top - bottom;
}

void block_pool::hold(block_id b) noexcept {
  std::uint32_t& s = state_[index(b)];
  assert(holders(s) > 0 && (s & count_mask) < count_mask);
  if (holders(s) == 1) ++shared_;
  ++s;
}

std::int64_t block_pool::release(std::span<const block_id> held) noexcept {
  return give_up(held, [](std::uint32_t s) {
    assert((s & count_mask) > 0);
    return (s & ~mark_bit) == 1 ? 0 : s - 1;
  });
}

void block_pool::move_to_tree(std::span<const block_id> held) noexcept {
  std::uint32_t* const states = state_.data();
  for (const block_id b : held) {
    assert((state(b) & count_mask) > 0 && !(state(b) & tree_bit));
    states[b] = (states[b] - 1) | tree_bit;
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
  tree_held_ -= static_cast<std::int64_t>(held.size());
  return give_up(held, [](std::uint32_t s) {
    assert(s & tree_bit);
    return s & count_mask;
  });
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
