// What a stream capture forbids, to its own stream and beside it. Each rule was seen on an H100
// with CUDA 13.0, for a non-blocking stream: what breaks a rule is refused and ends the capture.
#include "runtime.h"

namespace cudasim {
namespace {

template <class Concerns>
cudaError_t endCaptures(Concerns concerns) {
  cudaError_t error = cudaSuccess;
  for (auto* s : state().streams) {
    if (!s->capture || s->capture->status != cudaStreamCaptureStatusActive) continue;
    if (concerns(*s->capture)) error = invalidateCapture(s);
  }
  return error;
}

}  // namespace

cudaStreamCaptureMode& threadCaptureMode() {
  static thread_local cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  return mode;
}

cudaError_t invalidateCapture(Stream* s, cudaError_t why) {
  if (s->capture) s->capture->status = cudaStreamCaptureStatusInvalidated;
  return note(why);
}

cudaError_t unsafeBesideCaptures() {
  const cudaStreamCaptureMode mine = threadCaptureMode();
  if (mine == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  return endCaptures([mine](const Capture& c) {
    if (c.mode == cudaStreamCaptureModeRelaxed) return false;
    if (c.thread == std::this_thread::get_id()) return true;
    return c.mode == cudaStreamCaptureModeGlobal && mine == cudaStreamCaptureModeGlobal;
  });
}

cudaError_t endDeviceCaptures() {
  return endCaptures([](const Capture& c) { return c.origin->device == currentDevice(); });
}

}  // namespace cudasim
