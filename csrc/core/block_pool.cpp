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
  std::int64_t left = std::min(n, freed_);
  freed_ -= left;
  std::uint32_t* const states = state_.data();
  block_id* to = out.data();
  while (left > 0) {
    run& top = stack_[runs_ - 1];
    const auto take = static_cast<std::int32_t>(std::min<std::int64_t>(left, top.count));
    std::iota(to, to + take, top.first);
    std::fill_n(states + top.first, take, 1u);
    to += take;
    left -= take;
    top.first += take;
    top.count -= take;
    if (top.count == 0) --runs_;
  }
  const std::int64_t first = fresh_;
  fresh_ += out.data() + n - to;
  std::iota(to, out.data() + n, static_cast<block_id>(first));
  std::fill(states + first, states + fresh_, 1u);
  return true;
}

void block_pool::push_run(block_id first, std::int32_t count) noexcept {
  freed_ += count;
  if (runs_ > 0) {
    run& top = stack_[runs_ - 1];
    if (first + count == top.first) {
      top = {first, top.count + count};
      return;
    }
    if (top.first + top.count == first) {
      top.count += count;
      return;
    }
  }
  stack_[runs_++] = {first, count};
  runs_high_water_ = std::max(runs_high_water_, runs_);
}

// Lets go of blocks, last first; `drop` gives the state that is left, 0 if nobody holds the block.
// Consecutive ids that become free go as one run.
template <typename Drop>
std::int64_t block_pool::give_up(std::span<const block_id> held, Drop&& drop) noexcept {
  std::uint32_t* const states = state_.data();
  const std::int64_t before = freed_;
  for (std::size_t i = held.size(); i > 0;) {
    std::size_t first = i - 1;
    const std::uint32_t left = drop(states[held[first]]);
    states[held[first]] = left;
    if (left != 0) {
      shared_ -= holders(left) == 1;
      i = first;
      continue;
    }
    while (first > 0 && held[first - 1] + 1 == held[first] && drop(states[held[first - 1]]) == 0) {
      states[held[--first]] = 0;
    }
    push_run(held[first], static_cast<std::int32_t>(i - first));
    i = first;
  }
  return freed_ - before;
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
  std::int64_t freed = 0;
  for (std::size_t i = 0; i < runs_; ++i) {
    const run r = stack_[i];
    if (r.count <= 0 || r.first < 0 || std::int64_t{r.first} + r.count > fresh_) {
      return "a free run of " + std::to_string(r.count) + " at block " + std::to_string(r.first);
    }
    freed += r.count;
    for (block_id b = r.first; b < r.first + r.count; ++b) {
      if (on_stack[static_cast<std::size_t>(b)]) return "block freed twice: " + std::to_string(b);
      on_stack[static_cast<std::size_t>(b)] = true;
    }
  }
  if (freed != freed_) return "free blocks miscounted: " + std::to_string(freed_);
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
