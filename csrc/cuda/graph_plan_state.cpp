#include "csrc/cuda/graph_plan_state.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <string>

#include "csrc/core/no_memory.h"

namespace radixkv::detail {

namespace {

// The mark of a slot, or the count behind the slots: what host and device both look at.
std::atomic_ref<std::uint64_t> mark_of(std::byte* word) {
  return std::atomic_ref(*reinterpret_cast<std::uint64_t*>(word));
}

}  // namespace

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

status graph_plan_state::capture(cudaStream_t stream, const logits_rows_view& rows) try {
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
  // A captured stream does not say which device it is of: another one's refuses the first launch.
  if (rows.data != nullptr) {
    if (status s = executor_->check_rows(rows, {}); !s) return s;
  }
  view_ = rows;
  rows_ = rows.data == nullptr ? 0
                               : static_cast<std::int32_t>(std::min<std::uint64_t>(
                                     static_cast<std::uint64_t>(rows.rows), shape_.logits_rows));
  return enqueue(stream, rows);
} catch (const std::bad_alloc&) {  // before anything was captured: enqueue does not throw
  return no_memory("to capture a graph_plan");
}

status graph_plan_state::enqueue(cudaStream_t stream, const logits_rows_view& rows) noexcept {
  kernels::plan_fetch_arguments a;
  a.shape = shape_;
  a.ring = ring_.get();
  a.depth = depth_;
  a.plan = plan_.get();
  a.replays = reinterpret_cast<std::uint64_t*>(plan_.get() + shape_.bytes());
  a.replays_pinned = reinterpret_cast<std::uint64_t*>(ring_.get() + shape_.bytes() * depth_);
  if (const cudaError_t e = kernels::plan_fetch(stream, a); e != cudaSuccess) {
    return device_error("capturing the fetch of a plan", e);
  }
  captured_ = true;  // even if it fails half-way: the graph then holds some of it
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

status graph_plan_state::prepare(const step_plan& plan) try {
  if (!captured_) return {errc::invalid_argument, "graph_plan: not captured yet"};
  if (!in_step()) {
    return {errc::invalid_argument,
            "graph_plan: " + std::to_string(replayed()) + " replays have run, but only " +
                std::to_string(next_) +
                " were prepared, skipped or launched here: realign() while none is in flight"};
  }
  return write(plan, next_++);
} catch (const std::bad_alloc&) {
  return no_memory("to prepare a plan");
}

void graph_plan_state::skip() noexcept {
  if (captured_ && in_step()) ++next_;
}

status graph_plan_state::launch(cudaStream_t stream, cudaGraphExec_t graph,
                                const step_plan& plan) try {
  if (graph == nullptr) return {errc::invalid_argument, "null graph"};
  if (!captured_) return {errc::invalid_argument, "graph_plan: not captured yet"};
  // Looked at before the launch, whose replay may run at once.
  const bool numbers = in_step();
  const bool inside = numbers && !plan.empty() && write(plan, next_).ok();
  const bool before = !inside && !plan.empty();
  if (before) {
    if (status s = executor_->run(stream, plan, view_); !s) return s;
  }
  bool launched = false;
  status s = executor_->launch(stream, graph, launched);
  if (launched && numbers) ++next_;
  if (!launched && inside) mark_of(slot_of(next_)).store(0, std::memory_order_relaxed);
  if (s || !before || launched) return s;
  try {
    return {errc::device, s.error().message + "; the plan was enqueued"};
  } catch (const std::bad_alloc&) {
    return {errc::device, "plan enqueued"};  // short enough to take no allocation
  }
} catch (const std::bad_alloc&) {  // before anything was enqueued
  return no_memory("to launch a graph");
}

void graph_plan_state::realign() noexcept {
  next_ = replayed();
  for (std::uint64_t i = 0; i < depth_; ++i)
    mark_of(slot_of(i)).store(0, std::memory_order_relaxed);
}

std::byte* graph_plan_state::slot_of(std::uint64_t number) const noexcept {
  return ring_.get() + (number % depth_) * shape_.bytes();
}

status graph_plan_state::write(const step_plan& plan, std::uint64_t number) {
  if (status s = plan.validate(executor_->layout()); !s) return s;
  const std::span<const std::uint32_t> waves = waves_.split(plan.copies);
  // Every row is below rows_, so that a wave is one batch per direction.
  const std::uint32_t width = std::max(shape_.logits_rows, 1u);
  for (const logits_move& m : plan.logits) {
    if (m.row >= rows_) return fits(plan, waves, 0);
  }
  const std::span<const logits_batch> batches = batches_.split(plan.logits, width);
  if (status s = fits(plan, waves, batches_.waves()); !s) return s;
  std::byte* slot = slot_of(number);
  const std::uint64_t mark = mark_of(slot).load(std::memory_order_relaxed);
  const std::uint64_t run = replayed();
  if (mark > run) {
    return {errc::busy, "graph_plan: the plan of replay " + std::to_string(mark - 1) +
                            " is still in the slot of replay " + std::to_string(number) + ", " +
                            std::to_string(run) + " replays have run; there are " +
                            std::to_string(depth_) + " slots"};
  }
  write_slot(plan, waves, batches, slot);
  mark_of(slot).store(number + 1, std::memory_order_release);
  return {};
}

void graph_plan_state::write_slot(const step_plan& plan, std::span<const std::uint32_t> waves,
                                  std::span<const logits_batch> batches,
                                  std::byte* slot) const noexcept {
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
}

std::uint64_t graph_plan_state::replayed() const noexcept {
  return mark_of(ring_.get() + shape_.bytes() * depth_).load(std::memory_order_acquire);
}

}  // namespace radixkv::detail
