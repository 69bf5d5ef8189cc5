// The compact form of a logits store: of each row the k largest values, their token ids and the
// log-sum-exp of the whole row, in device memory. 8 k + 4 bytes a slot instead of a vocabulary's
// worth: 516 bytes for k = 64 against 512 KiB for 131,072 fp32 logits. Exact for greedy sampling,
// for top-k sampling with no larger k, and for the log-probabilities of those tokens.
//
// 1. Slots are those of kv_cache (options.logits_rows): the same step plans drive this store. A
//    sampler reads a matched slot in place, so the plan's loads need no work here.
// 2. Nothing but create, synchronize and destruction allocates, frees or waits. store only
// enqueues.
// 3. Calls of store take effect in the order in which they are made, whatever streams they name.
//    The caller ties its own kernels (those that compute rows, those that sample from slots) to
//    them by streams or events.
//
// Thread-safety: every member may be called from any thread; calls are serialised by a short lock,
// which synchronize() does not hold while it waits (unless an event could not be recorded before).
#pragma once

#include <cstdint>
#include <memory>

#include <cuda_runtime_api.h>

#include "radixkv/export.h"
#include "radixkv/layout.h"
#include "radixkv/result.h"
#include "radixkv/step_plan.h"

namespace radixkv {

namespace detail {
class cuda_topk_state;
}

struct cuda_topk_options {
  std::int32_t slots = 0;            // cache_options::logits_rows; 1 … 2³¹ − 1
  std::int32_t k = 64;               // 1 … min(vocabulary, 256)
  std::int32_t vocabulary = 0;       // elements of a row; 1 … 2²⁷
  std::uint32_t max_rows = 1024;     // that one launch covers; a plan may name more. 1 … 1 Mi
  std::uint32_t staging_slots = 64;  // launches in flight; 1 … 4096

  [[nodiscard]] status validate() const;
};

// Device memory: slot s owns values[s × k] … and ids[s × k] … in descending order (equal values by
// id, lower first; NaN before every number), and log_sum_exp[s].
struct cuda_topk_view {
  const float* values = nullptr;
  const std::int32_t* ids = nullptr;
  const float* log_sum_exp = nullptr;
  std::int32_t slots = 0;
  std::int32_t k = 0;
};

class RADIXKV_EXPORT cuda_topk_cache {
 public:
  // Allocates slots × (8 k + 4) bytes and staging on the current device, zeroed. Synchronises.
  // Errors: invalid_argument, out_of_memory (names the bytes), device.
  [[nodiscard]] static result<cuda_topk_cache> create(const cuda_topk_options& options);

  cuda_topk_cache(cuda_topk_cache&&) noexcept;
  cuda_topk_cache& operator=(cuda_topk_cache&&) noexcept;
  ~cuda_topk_cache();  // waits for what it has enqueued

  // Enqueues the plan's logits stores on `stream`, in list order: one read of each row. Loads and
  // copies of the plan are left to others.
  // Errors, with nothing enqueued: invalid_argument (a slot or row out of range, rows that do not
  // fit or that kernels of the device cannot read, a stream that is being captured or another
  // device's, more launches than staging_slots), busy (the launches in flight hold the staging: let
  // the device catch up), out_of_memory. device: what the message says was enqueued still runs (all
  // may, where there was no memory to say it), the rest never does; hand the plan to
  // kv_cache::report_failure.
  status store(cudaStream_t stream, const step_plan& plan, const logits_rows_view& rows);

  [[nodiscard]] cuda_topk_view view() const noexcept;

  // Waits until everything that was enqueued has run, and returns the device's error if there is
  // one.
  status synchronize();

 private:
  explicit cuda_topk_cache(std::unique_ptr<detail::cuda_topk_state> state) noexcept;
  std::unique_ptr<detail::cuda_topk_state> state_;
};

}  // namespace radixkv
