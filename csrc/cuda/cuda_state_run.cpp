// Running: checks, staging, launches and the order between streams.
#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "csrc/core/no_memory.h"
#include "csrc/cuda/cuda_state.h"
#include "csrc/cuda/logits_rows.h"
#include "csrc/cuda/synchronize.h"

namespace radixkv::detail {

namespace {

bool overlaps(const void* a, std::uint64_t a_bytes, const void* b, std::uint64_t b_bytes) {
  const auto x = reinterpret_cast<std::uintptr_t>(a);
  const auto y = reinterpret_cast<std::uintptr_t>(b);
  return a_bytes != 0 && b_bytes != 0 && x < y + b_bytes && y < x + a_bytes;
}

}  // namespace

status cuda_state::check_rows(const logits_rows_view& rows,
                              std::span<const logits_move> moves) const {
  const auto refuse = [](const std::string& text) -> status {
    return {errc::invalid_argument, "logits rows: " + text};
  };
  if (layout_.logits_rows == 0) return refuse("the executor has no logits store");
  const result<std::uint64_t> checked = check_logits_rows(rows, layout_.vocabulary, moves);
  if (!checked) return checked.error();
  const std::uint64_t bytes = *checked;
  const std::uint64_t store = static_cast<std::uint64_t>(layout_.logits_rows) * logits_stride_;
  if (overlaps(rows.data, bytes, logits_.get(), store))
    return refuse("they overlap the logits store");
  const auto begin = reinterpret_cast<std::uintptr_t>(rows.data);
  const auto met =
      std::upper_bound(extent_.begin(), extent_.end(), begin,
                       [](std::uintptr_t a, const address_range& r) { return a < r.end; });
  if (met != extent_.end() && met->begin < begin + bytes) return refuse("they overlap the KV pool");
  if (pageable_access_) return {};
  return check_device_memory("logits rows", rows.data, bytes, device_);
}

std::uint64_t cuda_state::slots_needed(std::size_t copies,
                                       std::span<const logits_batch> batches) const {
  std::uint64_t slots = 0, used = slot_operations_;
  for (const logits_batch& b : batches) {
    if (used + b.slots.size() > slot_operations_) {
      ++slots;
      used = 0;
    }
    used += b.slots.size();
  }
  return std::max(slots, (std::uint64_t{copies} + slot_operations_ - 1) / slot_operations_);
}

status cuda_state::run(cudaStream_t stream, const step_plan& plan,
                       const logits_rows_view& rows) try {
  if (plan.empty()) return {};
  if (status s = plan.validate(layout_); !s) return s;
  const std::lock_guard lock(mutex_);
  const device_scope scope(device_);
  if (scope.error() != cudaSuccess) return device_error("selecting the device", scope.error());
  const relaxed_capture_scope relaxed;
  if (status s = refuse_capture(stream, "capture a graph_plan instead"); !s) return s;
  if (status s = check_stream(stream, device_); !s) return s;
  if (!plan.logits.empty()) {
    if (status s = check_rows(rows, plan.logits); !s) return s;
  }
  const std::span<const std::uint32_t> waves = waves_.split(plan.copies);
  const std::span<const logits_batch> batches = batches_.split(plan.logits, slot_operations_);
  if (status s = ring_.available(slots_needed(plan.copies.size(), batches)); !s) return s;
  if (status s = order_.enter(stream); !s) return s;

  progress done;
  while (done.copies < plan.copies.size() || done.batches < batches.size()) {
    const device_failure failed = run_slot(stream, plan, rows, waves, batches, done);
    if (status s = end_slot(stream, failed, plan, done); !s) return s;
  }
  return {};
} catch (const std::bad_alloc&) {  // nothing is enqueued: run_slot and end_slot do not throw
  return no_memory("to run a plan");
}

status cuda_state::end_slot(cudaStream_t stream, const device_failure& failed,
                            const step_plan& plan, const progress& done) noexcept {
  status ran = order_.leave(stream, ring_.last_event(), "a part of a plan");
  if (failed.code != cudaSuccess) ran = device_error(failed.what, failed.code);
  if (ran) return {};
  try {
    const std::string text = ran.error().message + "; enqueued: " + std::to_string(done.copies) +
                             " of " + std::to_string(plan.copies.size()) + " copies, " +
                             std::to_string(done.moves) + " of " +
                             std::to_string(plan.logits.size()) + " logits moves";
    return {ran.error().code, text};
  } catch (const std::bad_alloc&) {
    return {errc::device, "plan cut short"};  // short enough to take no allocation
  }
}

device_failure cuda_state::run_slot(cudaStream_t stream, const step_plan& plan,
                                    const logits_rows_view& rows,
                                    std::span<const std::uint32_t> waves,
                                    std::span<const logits_batch> batches, progress& done) {
  const staging_ring::slot slot = ring_.take();
  const std::size_t copies =
      std::min<std::size_t>(slot_operations_, plan.copies.size() - done.copies);
  auto* items = reinterpret_cast<kernels::block_copy_item*>(slot.host);
  for (std::size_t i = 0; i < copies; ++i) {
    const block_copy& c = plan.copies[done.copies + i];
    items[i] = {c.source, c.destination, static_cast<std::int32_t>(c.tokens)};
  }
  std::uint64_t bytes = copies * sizeof(kernels::block_copy_item);
  std::size_t end = done.batches, used = 0;
  for (; end < batches.size() && used + batches[end].slots.size() <= slot_operations_; ++end) {
    const std::span<const logits_slot> slots = batches[end].slots;
    std::memcpy(slot.host + bytes, slots.data(), slots.size_bytes());
    bytes += slots.size_bytes();
    used += slots.size();
  }
  if (const cudaError_t e =
          cudaMemcpyAsync(slot.device, slot.host, bytes, cudaMemcpyHostToDevice, stream);
      e != cudaSuccess) {
    return {"uploading the plan", e};
  }
  return launch_slot(stream, rows, waves, copies, batches.subspan(done.batches, end - done.batches),
                     slot.device, done);
}

device_failure cuda_state::launch_slot(cudaStream_t stream, const logits_rows_view& rows,
                                       std::span<const std::uint32_t> waves, std::size_t copies,
                                       std::span<const logits_batch> batches,
                                       const std::byte* device, progress& done) {
  const auto* items = reinterpret_cast<const kernels::block_copy_item*>(device);
  const std::size_t end = done.copies + copies;
  while (done.copies < end) {
    const std::size_t wave =
        *std::upper_bound(waves.begin(), waves.end(), static_cast<std::uint32_t>(done.copies));
    const std::size_t count = std::min(end, wave) - done.copies;
    if (const cudaError_t e = copy_blocks(stream, items, static_cast<std::uint32_t>(count));
        e != cudaSuccess) {
      return {"launching the copy of blocks", e};
    }
    items += count;
    done.copies += count;
  }
  const auto* slots =
      reinterpret_cast<const logits_slot*>(device + copies * sizeof(kernels::block_copy_item));
  for (const logits_batch& b : batches) {
    if (const cudaError_t e = move_logits(stream, b.direction, rows, b.first_row,
                                          static_cast<std::uint32_t>(b.slots.size()), slots);
        e != cudaSuccess) {
      return {b.direction == logits_direction::store ? "launching a store of logits"
                                                     : "launching a load of logits",
              e};
    }
    slots += b.slots.size();
    ++done.batches;
    done.moves += b.moves;
  }
  return {};
}

status cuda_state::launch(cudaStream_t stream, cudaGraphExec_t graph, bool& launched) try {
  launched = false;
  if (graph == nullptr) return {errc::invalid_argument, "null graph"};
  const std::lock_guard lock(mutex_);
  const device_scope scope(device_);
  if (scope.error() != cudaSuccess) return device_error("selecting the device", scope.error());
  if (status s = refuse_capture(stream, "a graph is launched on an ordinary stream"); !s) return s;
  if (status s = check_stream(stream, device_); !s) return s;
  if (status s = order_.enter(stream); !s) return s;
  if (const cudaError_t e = cudaGraphLaunch(graph, stream); e != cudaSuccess) {
    return device_error("launching the graph", e);
  }
  launched = true;
  if (const status s = order_.leave(stream, graph_event_.get(), "a graph"); !s) {
    return {s.error().code, s.error().message + "; the graph was launched"};
  }
  return {};
} catch (const std::bad_alloc&) {
  if (launched) return {errc::device, "graph launched"};  // short enough to take no allocation
  return no_memory("to launch a graph");
}

status cuda_state::synchronize() noexcept {
  return synchronize_calls(device_, mutex_, order_, ring_);
}

cudaError_t cuda_state::copy_blocks(cudaStream_t stream, const kernels::block_copy_item* items,
                                    std::uint32_t count, const std::uint32_t* device_count) const {
  kernels::block_copy_arguments a;
  a.items = items;
  a.item_count = count;
  a.device_item_count = device_count;
  return kernels::block_copy(stream, copied_planes_, a);
}

}  // namespace radixkv::detail
