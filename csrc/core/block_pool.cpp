#include "csrc/core/block_pool.h"

#include <algorithm>
#include <vector>

#include "csrc/core/block_runs.h"

namespace radixkv::detail {

namespace {

// Whether one of 16 states is not 0.
bool is_any_set(const std::uint32_t* states) noexcept {
  std::uint32_t any = 0;
  for (int i = 0; i < 16; ++i) any |= states[i];
  return any != 0;
}

}  // namespace

bool block_pool::create(std::int64_t blocks, bool lists) {
  blocks_ = blocks;
  const auto n = static_cast<std::size_t>(blocks);
  if (!state_.reserve(n) || !noted_.reserve(note_words()) ||
      !stack_.reserve(n, decltype(stack_)::filled::in_passing) ||
      (lists && !queue_.reserve(n, decltype(queue_)::filled::in_passing))) {
    return false;
  }
  take_runs();
  return true;
}

bool block_pool::allocate(std::span<block_id> out) noexcept {
  const auto n = static_cast<std::int64_t>(out.size());
  if (n > free()) return false;
  std::int64_t left = std::min(n, freed_);
  freed_ -= left;
  block_id* to = out.data();
  const block_id* const end = to + n;
  while (left > 0) {
    run& top = stack_[runs_ - 1];
    const auto take = static_cast<std::int32_t>(std::min<std::int64_t>(left, top.count));
    write_ascending(to, static_cast<std::size_t>(take), end, top.first);
    to += take;
    left -= take;
    top.first += take;
    top.count -= take;
    if (top.count == 0) --runs_;
  }
  write_ascending(to, static_cast<std::size_t>(end - to), end, static_cast<block_id>(fresh_));
  fresh_ += end - to;
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
  if (runs_ == runs_taken_) [[unlikely]]
    take_runs();
  // Written in order, but mostly for the first time in long: the stores would wait for memory, and
  // all that follow for them.
  constexpr std::size_t ahead = 32;
  __builtin_prefetch(stack_.data() + runs_ + ahead, 1);
  stack_[runs_++] = {first, count};
}

// Memory for some more free runs: a page at a time is slower, a huge one takes too long.
void block_pool::take_runs() noexcept {
  constexpr std::size_t page = 4096 / sizeof(run);
  const std::size_t more = std::clamp(runs_taken_ / 4 / page, std::size_t{8}, std::size_t{16});
  runs_taken_ = std::min(runs_taken_ + more * page, static_cast<std::size_t>(blocks_));
  (void)stack_.populate(runs_taken_, runs_);  // refused, it is taken when it is touched
}

void block_pool::push_retiring(block_id first, std::int32_t count) noexcept {
  retiring_ += count;
  if (queue_size_ > 0) {
    retiring_run& last = queue_[queue_index(queue_size_ - 1)];
    if (last.ticket == ticket_ && first + count == last.blocks.first) {
      last.blocks = {first, last.blocks.count + count};
      return;
    }
  }
  queue_[queue_index(queue_size_++)] = {ticket_, {first, count}};
  queue_high_water_ = std::max(queue_high_water_, queue_size_);
}

void block_pool::retire(std::uint64_t reached) noexcept {
  while (queue_size_ > 0 && queue_at(0).ticket <= reached) {
    const run r = queue_at(0).blocks;
    queue_head_ = queue_index(1);
    --queue_size_;
    retiring_ -= r.count;
    push_run(r.first, r.count);
  }
}

bool block_pool::is_any_noted(block_id first, std::size_t count) const noexcept {
  const std::size_t begin = index(first) / group;
  const std::size_t last = (index(first) + count - 1) / group;
  const std::uint64_t from_begin = ~std::uint64_t{0} << begin % 64;
  const std::uint64_t to_last = ~std::uint64_t{0} >> (63 - last % 64);
  if (begin / 64 == last / 64) return (noted_[begin / 64] & from_begin & to_last) != 0;
  std::uint64_t any = (noted_[begin / 64] & from_begin) | (noted_[last / 64] & to_last);
  for (std::size_t word = begin / 64 + 1; word < last / 64; ++word) any |= noted_[word];
  return any != 0;
}

void block_pool::set_state(block_id b, std::uint32_t now) noexcept {
  std::uint32_t& state = state_[index(b)];
  shared_ += is_shared(now) - is_shared(state);
  forked_ += is_forked(now) - is_forked(state);
  tree_shared_.change(state >> 31, now >> 31);
  state = now;
  if (now != 0) {
    note(b);
  } else if (!is_any_set(state_.data() + index(b) / group * group)) {
    noted_[index(b) / group / 64] &= ~note_bit(b);
  }
}

// Lets go of blocks, last first. Consecutive ids go as one run.
std::int64_t block_pool::give_up(std::span<const block_id> held, bool by_tree) noexcept {
  const std::int64_t before = freed_ + retiring_;
  run pushed{0, 0};  // not on the stack yet
  const auto push = [&](block_id first, std::int32_t count) {
    if (first + count == pushed.first) {
      pushed = {first, pushed.count + count};
      return;
    }
    if (pushed.count > 0) push_run(pushed.first, pushed.count);
    pushed = {first, count};
  };
  const auto give_up_one = [&](block_id b) {
    const std::uint32_t was = state(b);
    if (was == 0) {
      push(b, 1);
    } else if (is_shared(was)) {
      assert(!by_tree || (was & tree_bit));
      std::uint32_t now = was - 1;
      if (by_tree) now &= ~mark_bit;
      if (by_tree || !is_shared(now)) now &= ~tree_bit;
      set_state(b, now);
    } else {
      set_state(b, 0);
      if (was & named_bit) {
        push_retiring(b, 1);
      } else {
        push(b, 1);
      }
    }
  };
  for (std::size_t left = held.size(); left > 0;) {
    constexpr std::size_t ahead = 3 * group;
    if (left > ahead) prefetch(held[left - 1 - ahead]);
    const std::size_t count = ascending_to_end(held.first(left));
    left -= count;
    const block_id first = held[left];
    if (!is_any_noted(first, count)) [[likely]] {
      push(first, static_cast<std::int32_t>(count));
      continue;
    }
    for (std::size_t i = count; i > 0; --i) give_up_one(held[left + i - 1]);
  }
  if (pushed.count > 0) push_run(pushed.first, pushed.count);
  return freed_ + retiring_ - before;
}

void block_pool::hold(block_id b) noexcept {
  assert((state(b) & count_mask) < count_mask);
  set_state(b, state(b) + 1);
}

void block_pool::hold_cached(block_id b) noexcept {
  assert((state(b) & count_mask) < count_mask);
  assert(!is_shared(state(b)) || tree_shares(b));
  set_state(b, (state(b) + 1) | tree_bit);
}

std::int64_t block_pool::release(std::span<const block_id> held) noexcept {
  return give_up(held, false);
}

void block_pool::move_to_tree(std::span<const block_id> held) noexcept {
  tree_held_ += static_cast<std::int64_t>(held.size());
  if (forked_ == 0) return;
  for (const block_id b : held) {
    assert(!tree_shares(b));
    if (is_shared(state(b))) set_state(b, state(b) | tree_bit);
  }
}

void block_pool::share_with_tree(block_id b) noexcept {
  assert(!tree_shares(b));
  ++tree_held_;
  set_state(b, (state(b) + 1) | tree_bit);
}

std::int64_t block_pool::release_tree(std::span<const block_id> held) noexcept {
  tree_held_ -= static_cast<std::int64_t>(held.size());
  if (held.size() == 1 && state(held[0]) == 0) {  // a leaf of one block, which nobody else holds
    push_run(held[0], 1);
    return 1;
  }
  return give_up(held, true);
}

std::string block_pool::check(const std::vector<bool>& held) const {
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
  std::int64_t retiring = 0;
  std::uint64_t ticket = 0;
  for (std::size_t i = 0; i < queue_size_; ++i) {
    const retiring_run r = queue_at(i);
    if (r.ticket < ticket) return "blocks retire out of order";
    ticket = r.ticket;
    retiring += r.blocks.count;
    for (block_id b = r.blocks.first; b < r.blocks.first + r.blocks.count; ++b) {
      if (on_stack[static_cast<std::size_t>(b)]) return "block freed twice: " + std::to_string(b);
      on_stack[static_cast<std::size_t>(b)] = true;
    }
  }
  if (retiring != retiring_) return "retiring blocks miscounted: " + std::to_string(retiring_);
  std::int64_t shared = 0;
  std::int64_t forked = 0;
  std::int64_t tree = 0;
  for (std::int64_t b = 0; b < fresh_; ++b) {
    const std::uint32_t s = state_[static_cast<std::size_t>(b)];
    if (b % static_cast<std::int64_t>(group) == 0 &&
        is_noted(static_cast<block_id>(b)) != is_any_set(&state_[static_cast<std::size_t>(b)])) {
      return "it is noted wrongly whether block " + std::to_string(b) + " or one of the next 15 " +
             "has a state";
    }
    const bool gone = on_stack[static_cast<std::size_t>(b)];
    if (s != 0 && gone) {
      return "free block " + std::to_string(b) + " has state " + std::to_string(s);
    }
    if (!held.empty() && held[static_cast<std::size_t>(b)] == gone) {
      return "block " + std::to_string(b) + (gone ? " is free, but held" : " is held by nobody");
    }
    if ((s & tree_bit) && !is_shared(s)) {
      return "block " + std::to_string(b) + " is shared with nobody";
    }
    shared += is_shared(s);
    forked += is_forked(s);
    tree += (s & tree_bit) != 0;
  }
  if (shared != shared_) return "shared blocks: " + std::to_string(shared_);
  if (tree != tree_shared_.now()) {
    return "blocks shared with the index: " + std::to_string(tree_shared_.now());
  }
  if (forked != forked_) return "blocks of several sequences: " + std::to_string(forked_);
  return {};
}

}  // namespace radixkv::detail
