#include "csrc/cuda/call_order.h"

#include <string>

namespace radixkv::detail {

namespace {

error record_error(const device_failure& f) noexcept {
  return device_error("recording ", f.code, f.what);
}

}  // namespace

status call_order::usable() const {
  if (lost_.code == cudaSuccess) return {};
  return {errc::device, "an earlier call could not be completed (" + record_error(lost_).message +
                            "): synchronize() " + owner_ + " first"};
}

status call_order::enter(cudaStream_t stream) const {
  if (status s = usable(); !s) return s;
  if (last_ == nullptr) return {};
  if (const cudaError_t e = cudaStreamWaitEvent(stream, last_, 0); e != cudaSuccess) {
    return device_error("waiting for the previous call of ", e, owner_);
  }
  return {};
}

status call_order::record(cudaStream_t stream, cudaEvent_t event, const char* what) noexcept {
  if (const cudaError_t e = cudaEventRecord(event, stream); e != cudaSuccess) {
    lost_ = {what, e};
    return record_error(lost_);
  }
  return {};
}

status call_order::leave(cudaStream_t stream, cudaEvent_t event, const char* what) noexcept {
  if (status s = record(stream, event, what); !s) return s;
  last_ = event;
  return {};
}

status call_order::wait_for(cudaEvent_t last) const noexcept {
  if (last == nullptr) return {};
  if (const cudaError_t e = cudaEventSynchronize(last); e != cudaSuccess) {
    return device_error("waiting for the work of ", e, owner_);
  }
  return {};
}

result<bool> call_order::recover() noexcept {
  if (lost_.code == cudaSuccess) return false;
  if (const cudaError_t e = cudaDeviceSynchronize(); e != cudaSuccess) {
    return device_error("waiting for the device", e);
  }
  lost_ = {};
  last_ = nullptr;
  return true;
}

}  // namespace radixkv::detail
