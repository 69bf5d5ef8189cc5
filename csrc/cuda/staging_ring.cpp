#include "csrc/cuda/staging_ring.h"

#include <string>
#include <utility>

namespace radixkv::detail {

status staging_ring::create(std::uint32_t slots, std::uint64_t slot_bytes,
                            std::uint64_t twin_bytes) {
  slot_bytes_ = slot_bytes;
  twin_bytes_ = twin_bytes;
  auto host = allocate_pinned("the staging ring", slots * slot_bytes);
  if (!host) return host.error();
  host_ = std::move(*host);
  auto device = allocate_device("the staging ring", slots * twin_bytes);
  if (!device) return device.error();
  device_ = std::move(*device);
  events_.resize(slots);
  for (device_event& e : events_) {
    if (status s = e.create(); !s) return s;
  }
  in_flight_.assign(slots, false);
  return {};
}

status staging_ring::available(std::uint64_t count) {
  const std::size_t slots = events_.size();
  if (count > slots) {
    return {errc::invalid_argument, "the plan needs " + std::to_string(count) +
                                        " staging slots, the executor has " +
                                        std::to_string(slots)};
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t s = (next_ + i) % slots;
    if (!in_flight_[s]) continue;
    const cudaError_t e = cudaEventQuery(events_[s].get());
    if (e == cudaErrorNotReady) {
      (void)cudaGetLastError();
      return {errc::busy, "the plan needs " + std::to_string(count) + " staging slots, " +
                              std::to_string(i) + " of " + std::to_string(slots) +
                              " are free: earlier plans are in flight"};
    }
    if (e != cudaSuccess) return device_error("an earlier operation on the device failed", e);
    in_flight_[s] = false;
  }
  return {};
}

staging_ring::slot staging_ring::take() {
  last_ = next_;
  next_ = (next_ + 1) % events_.size();
  in_flight_[last_] = true;
  std::byte* const device = device_ ? device_.get() + last_ * twin_bytes_ : nullptr;
  return {host_.get() + last_ * slot_bytes_, device};
}

cudaEvent_t staging_ring::last_event() const noexcept { return events_[last_].get(); }

void staging_ring::reset() noexcept { in_flight_.assign(in_flight_.size(), false); }

}  // namespace radixkv::detail
