// Waiting for all calls of an object whose calls are in order and go through a ring of staging.
#pragma once

#include <mutex>

#include "csrc/cuda/call_order.h"
#include "csrc/cuda/staging_ring.h"
#include "radixkv/result.h"

namespace radixkv::detail {

// Takes `mutex`, which guards order and ring, but not while it waits, so that other threads may go
// on enqueueing, unless an event was lost. Errors: device.
[[nodiscard]] status synchronize_calls(int device, std::mutex& mutex, call_order& order,
                                       staging_ring& ring) noexcept;

}  // namespace radixkv::detail
