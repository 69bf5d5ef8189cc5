// Cuts the logits moves of a plan into launches.
//
// 1. Moves of one wave are independent: no row is named twice, and no slot that one of them stores
//    to is named by another. Waves keep the list's order.
// 2. A batch is the moves of one wave in one direction whose rows lie within `max_rows` of each
//    other; it is given to the kernel as one slot per row, no_slot where nothing moves.
// Thread-safety: none. Allocates only to grow beyond what it has seen.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "radixkv/step_plan.h"

namespace radixkv::detail {

struct logits_batch {
  logits_direction direction = logits_direction::store;
  std::uint32_t wave = 0;
  std::int32_t first_row = 0;
  std::uint32_t moves = 0;
  std::span<const logits_slot> slots;  // of rows first_row, first_row + 1, …
};

class logits_batches {
 public:
  // The batches of `moves`, in the order in which they must run; valid until the next call.
  // REQUIRES: rows and slots ≥ 0, max_rows ≥ 1.
  [[nodiscard]] std::span<const logits_batch> split(std::span<const logits_move> moves,
                                                    std::uint32_t max_rows);
  [[nodiscard]] std::uint32_t waves() const noexcept { return waves_; }

 private:
  struct entry {
    std::uint64_t key = 0;
    std::uint64_t wave_stamp = 0;
    bool written = false;
  };
  // The entry of a row or slot, and whether this wave has met it before.
  entry& visit(std::uint64_t key, bool& met);
  [[nodiscard]] bool joins_wave(const logits_move& m);
  void emit(std::span<const logits_move> wave, std::uint32_t max_rows);

  std::vector<entry> table_;
  std::uint64_t stamp_ = 0;
  std::vector<logits_move> sorted_;
  std::vector<logits_slot> slots_;
  std::vector<std::size_t> begins_;  // of the batches' slots in slots_
  std::vector<logits_batch> batches_;
  std::uint32_t waves_ = 0;
};

}  // namespace radixkv::detail
