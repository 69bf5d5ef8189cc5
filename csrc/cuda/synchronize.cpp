#include "csrc/cuda/synchronize.h"

#include <utility>

namespace radixkv::detail {

status synchronize_calls(int device, std::mutex& mutex, call_order& order,
                         staging_ring& ring) noexcept {
  const device_scope scope(device);
  if (scope.error() != cudaSuccess) return device_error("selecting the device", scope.error());
  cudaEvent_t last = nullptr;
  {
    const std::lock_guard lock(mutex);
    result<bool> recovered = order.recover();
    if (!recovered) return std::move(recovered).error();
    if (*recovered) ring.reset();
    last = order.last();
  }
  return order.wait_for(last);
}

}  // namespace radixkv::detail
