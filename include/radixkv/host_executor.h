// Runs plans against host memory: the embedded default, the tier below the device, and the
// reference that every other executor is compared with byte for byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "radixkv/export.h"
#include "radixkv/layout.h"
#include "radixkv/result.h"
#include "radixkv/step_plan.h"
#include "radixkv/types.h"

namespace radixkv {

// Thread-safety: one thread at a time; several executors over one memory are the caller's to order.
// Everything is done when run returns: there is nothing to synchronise with.
class RADIXKV_EXPORT host_executor {
 public:
  // Owns layout.bytes() of zeroed memory, with huge pages where the system has them, committed when
  // first touched, and the logits store.
  // Errors: invalid_argument (memory_layout::validate, validate_disjoint); out_of_memory.
  [[nodiscard]] static result<host_executor> create(memory_layout layout);
  // Uses memory that belongs to the engine; the logits store stays the executor's own. One base for
  // all planes, or one for each, to which the plane's offset is added. The memory must outlive the
  // executor and is neither cleared nor freed.
  // Errors: as create; a null base; a number of bases that is neither 1 nor planes.size().
  [[nodiscard]] static result<host_executor> borrow(memory_layout layout,
                                                    std::span<void* const> bases);

  host_executor(host_executor&&) noexcept;
  host_executor& operator=(host_executor&&) noexcept;
  ~host_executor();

  [[nodiscard]] const memory_layout& layout() const noexcept;

  // Validates the whole plan, and the batch's rows if the plan moves logits, then runs copies and
  // logits moves in order. `batch` rows may have any of the three types, whatever the store's is:
  // conversion rounds to nearest even; NaN and infinities stay what they are. Slots that were never
  // stored hold zeros. Allocates nothing.
  // Errors: invalid_argument: nothing ran. device: an operation failed (see fail_operation); the
  // message names it; those before it (operations_run()) took effect, it and those after it did
  // not.
  status run(const step_plan& plan, const logits_rows_view& batch = {});
  // Operations of the last run that took effect, copies first.
  [[nodiscard]] std::int64_t operations_run() const noexcept;

  // Token `token` in run `inner` of a block: layout().planes[plane].bytes_per_token bytes.
  // REQUIRES: all four in range.
  [[nodiscard]] std::span<std::byte> token_bytes(std::size_t plane, block_id block,
                                                 std::uint32_t inner,
                                                 std::uint32_t token) const noexcept;
  // A row of the logits store, of layout().vocabulary elements. REQUIRES: slot in range.
  [[nodiscard]] std::span<std::byte> logits_row(logits_slot slot) const noexcept;

  // For tests of whoever embeds this: the nth operation from now (0: the next one), counted over
  // runs, fails once as a device would. Negative: none.
  void fail_operation(std::int64_t nth) noexcept;

 private:
  struct state;
  explicit host_executor(std::unique_ptr<state> s) noexcept;
  std::unique_ptr<state> state_;
};

}  // namespace radixkv
