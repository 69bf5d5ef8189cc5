// A ring of pinned buffers for what the device takes after the call: by a copy to the buffer's twin
// in device memory, or by kernels that read the buffer itself.
//
// 1. A slot is written by the host only after the device has done what was enqueued before its
// event.
// 2. Slots are taken in ring order.
// Thread-safety: none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "csrc/cuda/device_memory.h"
#include "radixkv/result.h"

namespace radixkv::detail {

class staging_ring {
 public:
  // `twin_bytes` of a slot, the first ones, have a place in device memory; 0: its `device` is null.
  // Both are multiples of the alignment that slots are to have.
  [[nodiscard]] status create(std::uint32_t slots, std::uint64_t slot_bytes,
                              std::uint64_t twin_bytes);

  // Whether the next `count` slots are free. Errors: busy (names the limit), device.
  [[nodiscard]] status available(std::uint64_t count);

  // The next slot, taken until last_event(), which the caller records after the slot's last use.
  // REQUIRES: available.
  struct slot {
    std::byte* host;
    std::byte* device;
  };
  [[nodiscard]] slot take();
  // The event of the slot taken last.
  [[nodiscard]] cudaEvent_t last_event() const noexcept;
  // Everything is free: the device is idle.
  void reset() noexcept;

 private:
  std::uint64_t slot_bytes_ = 0;
  std::uint64_t twin_bytes_ = 0;
  pinned_buffer host_;
  device_buffer device_;
  std::vector<device_event> events_;
  std::vector<bool> in_flight_;
  std::size_t next_ = 0;
  std::size_t last_ = 0;
};

}  // namespace radixkv::detail
