// What must happen to bytes before (copies, logits loads) and after (logits stores) a forward pass.
// Plain data: one scheduler's plan can drive several executors, and travels between processes.
//
// 1. Operations of one list take effect in list order; an executor may batch those that are
//    independent. The two lists are independent of each other.
// 2. A copy never names the same block twice, and 1 ≤ tokens ≤ block_tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "radixkv/layout.h"
#include "radixkv/result.h"
#include "radixkv/types.h"

namespace radixkv {

// Copies the first `tokens` tokens of block `source` to the same places of block `destination`, in
// every plane.
struct block_copy {
  block_id source = no_block;
  block_id destination = no_block;
  std::uint32_t tokens = 0;

  friend bool operator==(const block_copy&, const block_copy&) = default;
};

enum class logits_direction : std::uint8_t {
  store,  // row `row` of the batch's logits → slot `slot` of the store
  load    // slot → row
};

struct logits_move {
  logits_direction direction = logits_direction::store;
  logits_slot slot = no_slot;
  std::int32_t row = 0;

  friend bool operator==(const logits_move&, const logits_move&) = default;
};

struct step_plan {
  std::vector<block_copy> copies;
  std::vector<logits_move> logits;

  [[nodiscard]] bool empty() const noexcept { return copies.empty() && logits.empty(); }
  void clear() noexcept {
    copies.clear();
    logits.clear();
  }
  friend bool operator==(const step_plan&, const step_plan&) = default;

  // Checks every operation against the layout: block and slot ranges, token counts, rows ≥ 0.
  [[nodiscard]] status validate(const memory_layout& layout) const;

  // Little-endian binary form with a magic, a version and a checksum. Empty, which no plan's form
  // is, when the host has no memory for it.
  [[nodiscard]] std::vector<std::byte> serialize() const;
  // Refuses truncated, damaged or oversized input, naming what is wrong; never reads past `bytes`.
  [[nodiscard]] static result<step_plan> deserialize(std::span<const std::byte> bytes);
};

// Ends (exclusive) of the longest runs of consecutive copies that are independent of each other: in
// a run no destination is a source or a destination of another copy of the run. Executors launch a
// run at once. `ends` is cleared first; scratch is reused, so nothing is allocated once warm.
class copy_waves {
 public:
  // Returns the ends, ascending, the last equal to copies.size(); empty for no copies.
  [[nodiscard]] std::span<const std::uint32_t> split(std::span<const block_copy> copies);

 private:
  std::vector<std::uint32_t> ends_;
  std::vector<std::uint64_t> table_;
};

}  // namespace radixkv
