#include "csrc/cuda/graph_plan_state.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>

namespace radixkv::detail {

graph_plan_state::~graph_plan_state() {
  const device_scope scope(executor_->device());
  (void)executor_->synchronize();
  ring_.reset();
  plan_.reset();
}

status graph_plan_state::create(const graph_plan_options& o) {
  if (status s = o.validate(); !s) return s;
  const bool logits = executor_->layout().logits_rows > 0;
  shape_ = {o.copies, o.copy_waves, logits ? o.logits_rows : 0, logits ? o.logits_waves : 0};
  depth_ = o.depth;
  const device_scope scope(executor_->device());
  if (scope.error() != cudaSuccess) return device_error("selecting the device", scope.error());
  auto ring = allocate_pinned("the prepared plans", shape_.bytes() * depth_ + 8);
  if (!ring) return ring.error();
  auto plan = allocate_device("the plan of a graph", shape_.bytes() + 8);
  if (!plan) return plan.error();
  if (const cudaError_t e = cudaStreamSynchronize(cudaStreamLegacy); e != cudaSuccess) {
    return device_error("clearing the plan of a graph", e);
  }
  ring_ = std::move(*ring);
  plan_ = std::move(*plan);
  return {};
}

status graph_plan_state::capture(cudaStream_t stream, const logits_rows_view& rows) {
  if (captured_) return {errc::invalid_argument, "this graph_plan is part of a graph already"};
  const device_scope scope(executor_->device());
  if (scope.error() != cudaSuccess) return device_error("selecting the device", scope.error());
  cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
  if (const cudaError_t e = cudaStreamIsCapturing(stream, &capturing); e != cudaSuccess) {
    return device_error("looking at the stream", e);
  }
  if (capturing != cudaStreamCaptureStatusActive) {
    return {errc::invalid_argument, capturing == cudaStreamCaptureStatusNone
                                        ? "the stream is not being captured"
                                        : "the stream's capture was invalidated"};
  }
  if (rows.data != nullptr) {
    if (status s = executor_->check_rows(rows, {}); !s) return s;
  }
  captured_ = true;  // even if it fails half-way: the graph then holds some of it
  rows_ = rows.data == nullptr ? 0
                               : static_cast<std::int32_t>(std::min<std::uint64_t>(
                                     static_cast<std::uint64_t>(rows.rows), shape_.logits_rows));
  return enqueue(stream, rows);
}

status graph_plan_state::enqueue(cudaStream_t stream, const logits_rows_view& rows) {
  kernels::plan_fetch_arguments a;
  a.shape = shape_;
  a.ring = ring_.get();
  a.depth = depth_;
  a.plan = plan_.get();
  a.taken = reinterpret_cast<std::uint64_t*>(plan_.get() + shape_.bytes());
  a.taken_pinned = reinterpret_cast<std::uint64_t*>(ring_.get() + shape_.bytes() * depth_);
  if (const cudaError_t e = kernels::plan_fetch(stream, a); e != cudaSuccess) {
    return device_error("capturing the fetch of a plan", e);
  }
  for (std::uint32_t w = 0; w < shape_.copy_waves; ++w) {
    const auto* items =
        reinterpret_cast<const kernels::block_copy_item*>(plan_.get() + shape_.copies_offset(w));
    const auto* counts =
        reinterpret_cast<const std::uint32_t*>(plan_.get() + shape_.counts_offset());
    if (const cudaError_t e = executor_->copy_blocks(stream, items, shape_.copies, counts + w);
        e != cudaSuccess) {
      return device_error("capturing the copy of blocks", e);
    }
  }
  for (std::uint32_t w = 0; rows_ > 0 && w < shape_.logits_waves; ++w) {
    for (const logits_direction d : {logits_direction::store, logits_direction::load}) {
      const auto* slots = reinterpret_cast<const logits_slot*>(
          plan_.get() + shape_.slots_offset(w, d == logits_direction::load));
      if (const cudaError_t e =
              executor_->move_logits(stream, d, rows, 0, static_cast<std::uint32_t>(rows_), slots);
          e != cudaSuccess) {
        return device_error("capturing moves of logits", e);
      }
    }
  }
  return {};
}

status graph_plan_state::fits(const step_plan& plan, std::span<const std::uint32_t> waves,
                              std::uint32_t logits_waves) const {
  const auto refuse = [](const std::string& what, std::uint64_t value,
                         std::uint64_t limit) -> status {
    return {errc::invalid_argument, "graph_plan: " + what + " " + std::to_string(value) +
                                        ", the limit is " + std::to_string(limit)};
  };
  if (plan.copies.size() > shape_.copies) {
    return refuse("number of copies", plan.copies.size(), shape_.copies);
  }
  if (waves.size() > shape_.copy_waves) {
    return refuse("waves of independent copies", waves.size(), shape_.copy_waves);
  }
  if (!plan.logits.empty() && rows_ == 0) {
    return {errc::invalid_argument, "graph_plan: the plan moves logits, none were captured"};
  }
  for (const logits_move& m : plan.logits) {
    if (m.row >= rows_) {
      return refuse("logits row", static_cast<std::uint64_t>(m.row),
                    static_cast<std::uint64_t>(rows_ - 1));
    }
  }
  if (logits_waves > shape_.logits_waves) {
    return refuse("waves of independent logits moves", logits_waves, shape_.logits_waves);
  }
  return {};
}

status graph_plan_state::prepare(const step_plan& plan) {
  if (!captured_) return {errc::invalid_argument, "graph_plan: not captured yet"};
  if (status s = plan.validate(executor_->layout()); !s) return s;
  const std::span<const std::uint32_t> waves = waves_.split(plan.copies);
  // Every row is below rows_, so that a wave is one batch per direction.
  const std::uint32_t width = std::max(shape_.logits_rows, 1u);
  for (const logits_move& m : plan.logits) {
    if (m.row >= rows_) return fits(plan, waves, 0);
  }
  const std::span<const logits_batch> batches = batches_.split(plan.logits, width);
  if (status s = fits(plan, waves, batches_.waves()); !s) return s;
  if (prepared_ - taken() >= depth_) {
    return {errc::busy, "graph_plan: " + std::to_string(depth_) +
                            " plans are prepared and not yet taken by a replay, the limit is " +
                            std::to_string(depth_)};
  }

  std::byte* slot = ring_.get() + (prepared_ % depth_) * shape_.bytes();
  auto* counts = reinterpret_cast<std::uint32_t*>(slot + shape_.counts_offset());
  std::size_t copy = 0;
  for (std::uint32_t w = 0; w < shape_.copy_waves; ++w) {
    auto* items = reinterpret_cast<kernels::block_copy_item*>(slot + shape_.copies_offset(w));
    const std::size_t end = w < waves.size() ? waves[w] : copy;
    counts[w] = static_cast<std::uint32_t>(end - copy);
    for (; copy < end; ++copy) {
      const block_copy& c = plan.copies[copy];
      *items++ = {c.source, c.destination, static_cast<std::int32_t>(c.tokens)};
    }
  }
  auto* slots = reinterpret_cast<logits_slot*>(slot + shape_.slots_offset(0, false));
  std::fill_n(slots, std::size_t{shape_.logits_waves} * 2 * shape_.logits_rows, no_slot);
  for (const logits_batch& b : batches) {
    auto* to = reinterpret_cast<logits_slot*>(
        slot + shape_.slots_offset(b.wave, b.direction == logits_direction::load));
    std::copy(b.slots.begin(), b.slots.end(), to + b.first_row);
  }
  std::atomic_ref(*reinterpret_cast<std::uint64_t*>(slot))
      .store(prepared_ + 1, std::memory_order_release);
  ++prepared_;
  return {};
}

std::uint64_t graph_plan_state::taken() const noexcept {
  return std::atomic_ref(*reinterpret_cast<std::uint64_t*>(ring_.get() + shape_.bytes() * depth_))
      .load(std::memory_order_acquire);
}

}  // namespace radixkv::detail
