// Which blocks are free, and who shares each of the others.
//
// 1. A block is free, or retiring, or has holders: sequences, and the index at most once. Nothing
//    else keeps it.
// 2. free() + retiring() + used() == blocks().
// 3. Free blocks are kept as runs of ids, last freed first, so runs stay runs.
// 4. A block that was listed outside (list) is named there until its ticket is reached: let go of
//    before, it retires instead of becoming free; first in, first out.
// 5. A block's state is what there is to say beside "one holder": it is 0 of free blocks, of a
//    sequence's own and of the index's own. So to allocate, publish and free, which is what happens
//    to nearly all blocks, no state is written; and mostly none is read: there is a bit for every
//    16 blocks, which is set if a state of theirs is not 0. Of a block with one holder a state does
//    not say whether that is the index: who asks knows.
//
// Thread-safety: none; the cache's lock guards it.
#pragma once

#include <cassert>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "csrc/core/room_bounds.h"
#include "csrc/core/stable_array.h"
#include "radixkv/types.h"

namespace radixkv::detail {

class block_pool {
 public:
  // False if the system refuses the memory. REQUIRES: 1 ≤ blocks ≤ max_blocks.
  // lists: list may be used.
  [[nodiscard]] bool create(std::int64_t blocks, bool lists = false);
  // Takes the memory of all blocks' states now. False if the system refuses.
  [[nodiscard]] bool prefault() noexcept {
    return state_.populate(static_cast<std::size_t>(blocks_)) && noted_.populate(note_words());
  }

  [[nodiscard]] std::int64_t blocks() const noexcept { return blocks_; }
  [[nodiscard]] std::int64_t free() const noexcept { return blocks_ - fresh_ + freed_; }
  [[nodiscard]] std::int64_t retiring() const noexcept { return retiring_; }
  [[nodiscard]] std::int64_t used() const noexcept { return fresh_ - freed_ - retiring_; }
  // Blocks with two or more holders.
  [[nodiscard]] std::int64_t shared() const noexcept { return shared_; }
  // Of them, those that the index holds, too.
  [[nodiscard]] const running_total& tree_shared() const noexcept { return tree_shared_; }
  [[nodiscard]] std::int64_t tree_held() const noexcept { return tree_held_; }
  // Ids below this have been handed out at least once.
  [[nodiscard]] std::int64_t high_water() const noexcept { return fresh_; }
  // Host bytes that grow with the blocks in use.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(fresh_) * 4 + static_cast<std::size_t>(fresh_) / group / 8 +
           runs_taken_ * sizeof(run) + queue_high_water_ * sizeof(retiring_run);
  }

  // Takes out.size() blocks, each held by one sequence; all or none. O(1) per block.
  [[nodiscard]] bool allocate(std::span<block_id> out) noexcept;

  // Another sequence holds b, which a sequence holds already. REQUIRES: so it is.
  void hold(block_id b) noexcept;
  // A sequence holds b, which the index holds. REQUIRES: so it does.
  void hold_cached(block_id b) noexcept;
  // A sequence lets go of its blocks. Frees those that nobody else holds; in reverse order.
  // Returns how many became free or began to retire.
  std::int64_t release(std::span<const block_id> held) noexcept;

  // The index takes over blocks from the sequence that holds them.
  void move_to_tree(std::span<const block_id> held) noexcept;
  // The index holds b as well as the sequences that do. REQUIRES: it does not yet, and one does.
  void share_with_tree(block_id b) noexcept;
  // The index lets go of blocks. Returns how many became free or began to retire.
  std::int64_t release_tree(std::span<const block_id> held) noexcept;

  // How many hold b. REQUIRES: somebody does.
  [[nodiscard]] std::uint32_t holders(block_id b) const noexcept { return holders_in(state(b)); }
  // Whether the index is one of two or more holders of b.
  [[nodiscard]] bool tree_shares(block_id b) const noexcept { return (state(b) & tree_bit) != 0; }

  // A mark for the owner's use, cleared when the block is freed (has the block rows of logits?).
  void set_mark(block_id b) noexcept { add_to_state(b, mark_bit); }
  [[nodiscard]] bool marked(block_id b) const noexcept { return (state(b) & mark_bit) != 0; }

  // A list outside names the block now; and, once unlisted, may do so until it has been free again.
  void list(block_id b) noexcept { add_to_state(b, named_bit | listed_bit); }
  void unlist(block_id b) noexcept { state_[index(b)] &= ~listed_bit; }
  [[nodiscard]] bool listed(block_id b) const noexcept { return (state(b) & listed_bit) != 0; }
  [[nodiscard]] bool named(block_id b) const noexcept { return (state(b) & named_bit) != 0; }
  // Named blocks that are let go of from now on wait for this ticket. Never falls.
  void set_ticket(std::uint64_t ticket) noexcept { ticket_ = ticket; }
  // Frees what has waited for tickets up to this one.
  void retire(std::uint64_t reached) noexcept;

  // Hint that b's state will be read soon.
  void prefetch(block_id b) const noexcept {
    if (is_noted(b)) __builtin_prefetch(&state_[index(b)]);
  }

  // Empty if the invariants hold. `held`: for each block, whether somebody holds it; empty: not
  // known.
  [[nodiscard]] std::string check(const std::vector<bool>& held = {}) const;

 private:
  // Blocks that are looked at together: a line of states.
  static constexpr std::size_t group = 16;
  struct run {
    block_id first;
    std::int32_t count;
  };
  struct retiring_run {
    std::uint64_t ticket;
    run blocks;
  };
  static constexpr std::uint32_t tree_bit = 1u << 31;  // only beside other holders
  static constexpr std::uint32_t mark_bit = 1u << 30;
  static constexpr std::uint32_t named_bit = 1u << 29;
  static constexpr std::uint32_t listed_bit = 1u << 28;
  static constexpr std::uint32_t count_mask = listed_bit - 1;  // of the holders beyond the first

  [[nodiscard]] std::size_t index(block_id b) const noexcept {
    assert(b >= 0 && b < fresh_);
    return static_cast<std::size_t>(b);
  }
  [[nodiscard]] std::uint32_t state(block_id b) const noexcept {
    return is_noted(b) ? state_[index(b)] : 0;
  }
  // Whether a state of the `group` blocks that b is one of is not 0.
  [[nodiscard]] bool is_noted(block_id b) const noexcept {
    return (noted_[index(b) / group / 64] & note_bit(b)) != 0;
  }
  // The same of count blocks from `first` on.
  [[nodiscard]] bool is_any_noted(block_id first, std::size_t count) const noexcept;
  [[nodiscard]] std::size_t note_words() const noexcept {
    return static_cast<std::size_t>(blocks_) / group / 64 + 1;
  }
  [[nodiscard]] std::uint64_t note_bit(block_id b) const noexcept {
    return std::uint64_t{1} << index(b) / group % 64;
  }
  void note(block_id b) noexcept { noted_[index(b) / group / 64] |= note_bit(b); }
  void add_to_state(block_id b, std::uint32_t bits) noexcept {
    note(b);
    state_[index(b)] |= bits;
  }
  static std::uint32_t holders_in(std::uint32_t s) noexcept { return 1 + (s & count_mask); }
  static bool is_shared(std::uint32_t s) noexcept { return (s & count_mask) > 0; }
  static bool is_forked(std::uint32_t s) noexcept { return (s & count_mask) > s >> 31; }
  void set_state(block_id b, std::uint32_t now) noexcept;
  void push_run(block_id first, std::int32_t count) noexcept;
  [[gnu::cold, gnu::noinline]] void take_runs() noexcept;
  void push_retiring(block_id first, std::int32_t count) noexcept;
  // The i-th run that retires: a ring of as many as there are blocks.
  [[nodiscard]] std::size_t queue_index(std::size_t i) const noexcept {
    return (queue_head_ + i) % static_cast<std::size_t>(blocks_);
  }
  [[nodiscard]] const retiring_run& queue_at(std::size_t i) const noexcept {
    return queue_[queue_index(i)];
  }
  std::int64_t give_up(std::span<const block_id> held, bool by_tree) noexcept;

  std::int64_t blocks_ = 0;
  std::int64_t fresh_ = 0;  // ids [fresh_, blocks_) were never handed out
  std::int64_t freed_ = 0;  // ids in the runs
  std::size_t runs_ = 0;
  std::size_t runs_taken_ = 0;  // whose memory was taken
  std::int64_t retiring_ = 0;
  std::uint64_t ticket_ = 0;
  std::size_t queue_head_ = 0;
  std::size_t queue_size_ = 0;
  std::size_t queue_high_water_ = 0;
  std::int64_t shared_ = 0;  // blocks with two or more holders
  std::int64_t forked_ = 0;  // … that are sequences
  running_total tree_shared_;
  std::int64_t tree_held_ = 0;
  stable_array<std::uint32_t> state_;
  stable_array<std::uint64_t> noted_;  // a bit for each group: whether a state is not 0
  stable_array<run> stack_;            // of runs
  stable_array<retiring_run> queue_;   // empty unless blocks may retire
};

}  // namespace radixkv::detail
