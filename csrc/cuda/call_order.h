// The order on the device of calls that enqueue work, whatever streams they name: each waits for
// the one before.
//
// 1. last() is the event after everything that was enqueued in order; null: nothing to wait for.
// 2. Once an event could not be recorded behind enqueued work, nothing is usable until recover()
// has found the device idle: nobody could wait for what that work still touches.
//
// Thread-safety: none.
#pragma once

#include <cuda_runtime_api.h>

#include "csrc/cuda/device_memory.h"
#include "radixkv/result.h"

namespace radixkv::detail {

class call_order {
 public:
  // `owner` names in errors what is to be synchronised: "the executor". It must outlive the order.
  explicit call_order(const char* owner) noexcept : owner_(owner) {}

  // Errors: device, naming the event that was lost.
  [[nodiscard]] status usable() const;
  // What is enqueued on `stream` from now on runs after the last call. Errors, changing nothing:
  // those of usable(), device.
  [[nodiscard]] status enter(cudaStream_t stream) const;
  // Puts `event` behind what was enqueued on `stream`; `what`, a literal, names this in the error,
  // device, after which nothing is usable.
  [[nodiscard]] status record(cudaStream_t stream, cudaEvent_t event, const char* what) noexcept;
  // The same, and the event is the last one. The event must outlive its turn.
  [[nodiscard]] status leave(cudaStream_t stream, cudaEvent_t event, const char* what) noexcept;

  [[nodiscard]] cudaEvent_t last() const noexcept { return last_; }
  // Waits for the last call. Errors: device.
  [[nodiscard]] status wait() const noexcept { return wait_for(last_); }
  // Waits for what last() gave, null or not: without the owner's lock, so that others may go on
  // enqueueing. Errors: device.
  [[nodiscard]] status wait_for(cudaEvent_t last) const noexcept;
  // Whether an event was lost; then the device has been waited for, all of it, and nothing is left
  // to wait for: the owner forgets events of its own too. Errors, changing nothing: device.
  [[nodiscard]] result<bool> recover() noexcept;

 private:
  const char* owner_;
  cudaEvent_t last_ = nullptr;
  device_failure lost_;  // the record that failed
};

}  // namespace radixkv::detail
