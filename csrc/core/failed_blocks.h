// Which blocks plans were to fill that could not be run. A sequence that holds one of them must not
// publish, and finds that out when it is its turn (cache_core::settle_failures_locked): a report
// costs what the plan has in it, whatever else is open.
//
// Reports are counted, and each block that one names keeps the number of the last. A sequence
// remembers how many there were when it took blocks last. What is reported after that and names one
// of its blocks is meant for it; an older number is one that a former owner was told of.
//
// Thread-safety: none; the cache's lock guards it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "csrc/core/stable_array.h"
#include "csrc/core/step_count.h"
#include "radixkv/step_plan.h"

namespace radixkv::detail {

class failed_blocks {
 public:
  // False if the system refuses the memory.
  [[nodiscard]] bool create(std::int64_t blocks) noexcept {
    blocks_ = blocks;
    return last_report_.reserve(static_cast<std::size_t>(blocks),
                                decltype(last_report_)::filled::in_passing);
  }

  // Copies whose destination is no block of the pool are nobody's.
  void report(std::span<const block_copy> copies) noexcept {
    if (copies.empty()) return;
    ++reports_;
    count_marks(copies.size());
    for (const block_copy& c : copies) {
      if (c.destination < 0 || c.destination >= blocks_) continue;
      last_report_[static_cast<std::size_t>(c.destination)] = reports_;
      named_ = std::max(named_, std::int64_t{c.destination} + 1);
    }
  }
  [[nodiscard]] std::uint64_t reports() const noexcept { return reports_; }
  // Whether one of these has been named since there were so many reports.
  [[nodiscard]] bool any_since(std::uint64_t reports,
                               std::span<const block_id> held) const noexcept {
    count_entries(held.size());
    return std::ranges::any_of(
        held, [&](block_id b) { return last_report_[static_cast<std::size_t>(b)] > reports; });
  }

  // Host memory: of blocks up to the last one that was ever named.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(named_) * sizeof(std::uint64_t);
  }

 private:
  std::int64_t blocks_ = 0;
  std::int64_t named_ = 0;  // ids below it may have been
  std::uint64_t reports_ = 0;
  stable_array<std::uint64_t> last_report_;
};

}  // namespace radixkv::detail
