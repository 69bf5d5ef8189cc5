#include "radixkv/cuda_topk_cache.h"

#include <cstring>
#include <limits>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "csrc/core/no_memory.h"
#include "csrc/core/range_check.h"
#include "csrc/cuda/call_order.h"
#include "csrc/cuda/device_memory.h"
#include "csrc/cuda/logits_batches.h"
#include "csrc/cuda/logits_rows.h"
#include "csrc/cuda/nvtx.h"
#include "csrc/cuda/staging_ring.h"
#include "csrc/cuda/synchronize.h"
#include "kernels/logits_topk.h"

namespace radixkv {

using detail::check_range;

RADIXKV_EXPORT status cuda_topk_options::validate() const try {
  if (status s =
          check_range("cuda_topk_cache: slots", slots, 1, std::numeric_limits<std::int32_t>::max());
      !s)
    return s;
  if (status s = check_range("cuda_topk_cache: vocabulary", vocabulary, 1, kernels::max_vocabulary);
      !s)
    return s;
  if (status s = check_range("cuda_topk_cache: k", k, 1,
                             std::min<std::int64_t>(vocabulary, kernels::max_top_k));
      !s) {
    return s;
  }
  if (status s = check_range("cuda_topk_cache: max_rows", max_rows, 1, 1 << 20); !s) return s;
  return check_range("cuda_topk_cache: staging_slots", staging_slots, 1, 4096);
} catch (const std::bad_alloc&) {  // only a message allocates
  return detail::no_memory("to say what is wrong");
}

namespace detail {

// Calls take effect in the order in which they are made: order_.
class cuda_topk_state {
 public:
  cuda_topk_state() = default;
  cuda_topk_state(const cuda_topk_state&) = delete;
  cuda_topk_state& operator=(const cuda_topk_state&) = delete;
  ~cuda_topk_state();

  [[nodiscard]] status create(const cuda_topk_options& options);
  [[nodiscard]] status store(cudaStream_t stream, const step_plan& plan,
                             const logits_rows_view& rows);
  [[nodiscard]] status synchronize() noexcept;
  [[nodiscard]] cuda_topk_view view() const noexcept;

 private:
  [[nodiscard]] status check_moves() const;  // of moves_
  // May throw std::bad_alloc, with nothing enqueued.
  [[nodiscard]] status enqueue(cudaStream_t stream, const step_plan& plan,
                               const logits_rows_view& rows);
  // One launch.
  [[nodiscard]] device_failure launch(cudaStream_t stream, const logits_rows_view& rows,
                                      const logits_batch& batch);

  cuda_topk_options options_;
  int device_ = 0;
  bool pageable_access_ = false;  // of the device: kernels may read any memory of the host
  device_buffer values_, ids_, log_sum_exp_, scratch_;
  std::size_t scratch_bytes_ = 0;

  std::mutex mutex_;  // guards what follows
  staging_ring ring_;
  std::vector<logits_move> moves_;  // a plan's stores
  logits_batches batches_;
  call_order order_{"the top-k store"};
};

cuda_topk_state::~cuda_topk_state() {
  const device_scope scope(device_);
  (void)synchronize();
  ring_ = {};
  for (device_buffer* b : {&values_, &ids_, &log_sum_exp_, &scratch_}) b->reset();
}

status cuda_topk_state::create(const cuda_topk_options& o) {
  options_ = o;
  if (const cudaError_t e = cudaGetDevice(&device_); e != cudaSuccess) {
    return device_error("no CUDA device", e);
  }
  const result<bool> pageable = reads_pageable_memory(device_);
  if (!pageable) return pageable.error();
  pageable_access_ = *pageable;
  const auto slots = static_cast<std::uint64_t>(o.slots);
  const std::uint64_t entries = slots * static_cast<std::uint64_t>(o.k);
  scratch_bytes_ = kernels::logits_topk_scratch_bytes(
      o.max_rows, static_cast<std::uint32_t>(o.vocabulary), static_cast<std::uint32_t>(o.k));
  for (const auto& [buffer, what, bytes] :
       {std::tuple{&values_, "the top values", entries * sizeof(float)},
        std::tuple{&ids_, "the top ids", entries * sizeof(std::int32_t)},
        std::tuple{&log_sum_exp_, "the log-sum-exps", slots * sizeof(float)},
        std::tuple{&scratch_, "the scratch of the top-k search", std::uint64_t{scratch_bytes_}}}) {
    auto memory = allocate_device(what, bytes);
    if (!memory) return memory.error();
    *buffer = std::move(*memory);
  }
  const std::uint64_t slot_bytes =
      (std::uint64_t{o.max_rows} * sizeof(logits_slot) + 255) / 256 * 256;
  if (status s = ring_.create(o.staging_slots, slot_bytes, slot_bytes); !s) return s;
  if (const cudaError_t e = kernels::load_logits_topk(); e != cudaSuccess) {
    return device_error("loading the kernels of top-k", e);
  }
  if (const cudaError_t e = cudaStreamSynchronize(cudaStreamLegacy); e != cudaSuccess) {
    return device_error("clearing the top-k store", e);
  }
  return {};
}

status cuda_topk_state::check_moves() const {
  for (const logits_move& m : moves_) {
    if (m.slot < 0 || m.slot >= options_.slots) {
      return {errc::invalid_argument, "logits slot " + std::to_string(m.slot) + " is not in [0, " +
                                          std::to_string(options_.slots - 1) + "]"};
    }
    if (m.row < 0) {
      return {errc::invalid_argument, "logits row " + std::to_string(m.row) + " is negative"};
    }
  }
  return {};
}

status cuda_topk_state::store(cudaStream_t stream, const step_plan& plan,
                              const logits_rows_view& rows) {
  const std::lock_guard lock(mutex_);
  try {
    return enqueue(stream, plan, rows);
  } catch (const std::bad_alloc&) {  // nothing is enqueued: launch and cut_short do not throw
    return no_memory("to store rows of logits");
  }
}

namespace {

status cut_short(error e, std::size_t enqueued, std::size_t launches) noexcept {
  try {
    e.message +=
        "; enqueued: " + std::to_string(enqueued) + " of " + std::to_string(launches) + " launches";
    return e;
  } catch (const std::bad_alloc&) {
    return {e.code, "store cut short"};  // short enough to take no allocation
  }
}

}  // namespace

status cuda_topk_state::enqueue(cudaStream_t stream, const step_plan& plan,
                                const logits_rows_view& rows) {
  moves_.clear();
  for (const logits_move& m : plan.logits) {
    if (m.direction == logits_direction::store) moves_.push_back(m);
  }
  if (moves_.empty()) return {};
  if (status s = check_moves(); !s) return s;
  const result<std::uint64_t> bytes = check_logits_rows(rows, options_.vocabulary, moves_);
  if (!bytes) return bytes.error();
  const device_scope scope(device_);
  if (scope.error() != cudaSuccess) return device_error("selecting the device", scope.error());
  const relaxed_capture_scope relaxed;
  if (status s = refuse_capture(stream, "stores of top logits are not captured"); !s) return s;
  if (status s = check_stream(stream, device_); !s) return s;
  if (!pageable_access_) {
    if (status s = check_device_memory("logits rows", rows.data, *bytes, device_); !s) return s;
  }
  const std::span<const logits_batch> batches = batches_.split(moves_, options_.max_rows);
  if (status s = ring_.available(batches.size()); !s) return s;
  if (status s = order_.enter(stream); !s) return s;
  std::size_t enqueued = 0;
  for (const logits_batch& batch : batches) {
    const device_failure failed = launch(stream, rows, batch);
    if (failed.code == cudaSuccess) ++enqueued;
    status done = order_.leave(stream, ring_.last_event(), "a store of top logits");
    if (failed.code != cudaSuccess) done = device_error(failed.what, failed.code);
    if (!done) return cut_short(std::move(done).error(), enqueued, batches.size());
  }
  return {};
}

device_failure cuda_topk_state::launch(cudaStream_t stream, const logits_rows_view& rows,
                                       const logits_batch& batch) {
  const staging_ring::slot slot = ring_.take();
  std::memcpy(slot.host, batch.slots.data(), batch.slots.size_bytes());
  if (const cudaError_t e = cudaMemcpyAsync(slot.device, slot.host, batch.slots.size_bytes(),
                                            cudaMemcpyHostToDevice, stream);
      e != cudaSuccess) {
    return {"uploading slots", e};
  }
  kernels::logits_topk_arguments a;
  a.rows = static_cast<const std::byte*>(rows.data) + batch.first_row * rows.row_stride_bytes;
  a.row_stride = row_stride_of(rows, options_.vocabulary);
  a.row_type = element_of(rows.type);
  a.row_count = static_cast<std::uint32_t>(batch.slots.size());
  a.vocabulary = static_cast<std::uint32_t>(options_.vocabulary);
  a.k = static_cast<std::uint32_t>(options_.k);
  a.slots = reinterpret_cast<const std::int32_t*>(slot.device);
  a.slot_count = options_.slots;
  a.values = reinterpret_cast<float*>(values_.get());
  a.ids = reinterpret_cast<std::int32_t*>(ids_.get());
  a.log_sum_exp = reinterpret_cast<float*>(log_sum_exp_.get());
  a.scratch = scratch_.get();
  a.scratch_bytes = scratch_bytes_;
  return {"launching a store of top logits", kernels::logits_topk(stream, a)};
}

status cuda_topk_state::synchronize() noexcept {
  return synchronize_calls(device_, mutex_, order_, ring_);
}

cuda_topk_view cuda_topk_state::view() const noexcept {
  return {reinterpret_cast<const float*>(values_.get()),
          reinterpret_cast<const std::int32_t*>(ids_.get()),
          reinterpret_cast<const float*>(log_sum_exp_.get()), options_.slots, options_.k};
}

}  // namespace detail

cuda_topk_cache::cuda_topk_cache(std::unique_ptr<detail::cuda_topk_state> state) noexcept
    : state_(std::move(state)) {}
cuda_topk_cache::cuda_topk_cache(cuda_topk_cache&&) noexcept = default;
cuda_topk_cache& cuda_topk_cache::operator=(cuda_topk_cache&&) noexcept = default;
cuda_topk_cache::~cuda_topk_cache() {
  if (state_ == nullptr) return;
  RADIXKV_RANGE("cuda_topk_cache::destroy");
  state_.reset();
}

result<cuda_topk_cache> cuda_topk_cache::create(const cuda_topk_options& options) try {
  RADIXKV_RANGE("cuda_topk_cache::create");
  if (status s = options.validate(); !s) return s.error();
  auto state = std::make_unique<detail::cuda_topk_state>();
  if (status s = state->create(options); !s) return s.error();
  return cuda_topk_cache(std::move(state));
} catch (const std::bad_alloc&) {
  return detail::no_memory("for a top-k store of", options.slots, "slots");
}

status cuda_topk_cache::store(cudaStream_t stream, const step_plan& plan,
                              const logits_rows_view& rows) {
  RADIXKV_RANGE("cuda_topk_cache::store");
  return state_->store(stream, plan, rows);
}

cuda_topk_view cuda_topk_cache::view() const noexcept { return state_->view(); }

status cuda_topk_cache::synchronize() {
  RADIXKV_RANGE("cuda_topk_cache::synchronize");
  return state_->synchronize();
}

}  // namespace radixkv
