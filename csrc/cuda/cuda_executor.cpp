#include "radixkv/cuda_executor.h"

#include <new>
#include <string>
#include <utility>

#include "csrc/core/no_memory.h"
#include "csrc/core/range_check.h"
#include "csrc/cuda/cuda_state.h"
#include "csrc/cuda/graph_plan_state.h"
#include "csrc/cuda/nvtx.h"

namespace radixkv {

namespace {

constexpr std::uint32_t max_slots = 4096;
constexpr std::uint32_t max_operations = 1u << 20;
constexpr std::uint32_t max_waves = 64;

}  // namespace

RADIXKV_EXPORT status cuda_executor_options::validate() const try {
  if (status s = detail::check_range("cuda_executor: staging_slots", staging_slots, 1, max_slots);
      !s)
    return s;
  return detail::check_range("cuda_executor: slot_operations", slot_operations, 1, max_operations);
} catch (const std::bad_alloc&) {
  return detail::no_memory("to say what is refused");
}

RADIXKV_EXPORT status graph_plan_options::validate() const try {
  if (status s = detail::check_range("graph_plan: copies", copies, 1, max_operations); !s) return s;
  if (status s = detail::check_range("graph_plan: logits_rows", logits_rows, 1, max_operations); !s)
    return s;
  if (status s = detail::check_range("graph_plan: copy_waves", copy_waves, 1, max_waves); !s)
    return s;
  if (status s = detail::check_range("graph_plan: logits_waves", logits_waves, 1, max_waves); !s)
    return s;
  return detail::check_range("graph_plan: depth", depth, 1, max_slots);
} catch (const std::bad_alloc&) {
  return detail::no_memory("to say what is refused");
}

cuda_executor::cuda_executor(std::shared_ptr<detail::cuda_state> state) noexcept
    : state_(std::move(state)) {}
cuda_executor::cuda_executor(cuda_executor&&) noexcept = default;
cuda_executor& cuda_executor::operator=(cuda_executor&&) noexcept = default;
cuda_executor::~cuda_executor() {
  if (state_ == nullptr) return;
  RADIXKV_RANGE("cuda_executor::destroy");
  state_.reset();
}

result<cuda_executor> cuda_executor::create(const memory_layout& layout,
                                            const cuda_executor_options& options) try {
  RADIXKV_RANGE("cuda_executor::create");
  auto state = std::make_shared<detail::cuda_state>();
  if (status s = state->create(layout, nullptr, options); !s) return std::move(s).error();
  return cuda_executor(std::move(state));
} catch (const std::bad_alloc&) {
  return detail::no_memory("for a CUDA executor");
}

result<cuda_executor> cuda_executor::borrow(const memory_layout& layout,
                                            std::span<void* const> bases,
                                            const cuda_executor_options& options) try {
  RADIXKV_RANGE("cuda_executor::borrow");
  auto state = std::make_shared<detail::cuda_state>();
  if (status s = state->create(layout, &bases, options); !s) return std::move(s).error();
  return cuda_executor(std::move(state));
} catch (const std::bad_alloc&) {
  return detail::no_memory("for a CUDA executor");
}

status cuda_executor::run(cudaStream_t stream, const step_plan& plan,
                          const logits_rows_view& rows) {
  RADIXKV_RANGE("cuda_executor::run");
  return state_->run(stream, plan, rows);
}

status cuda_executor::launch(cudaStream_t stream, cudaGraphExec_t graph) {
  RADIXKV_RANGE("cuda_executor::launch");
  bool launched = false;
  return state_->launch(stream, graph, launched);
}

result<graph_plan> cuda_executor::make_graph_plan(const graph_plan_options& options) try {
  RADIXKV_RANGE("cuda_executor::make_graph_plan");
  auto state = std::make_unique<detail::graph_plan_state>(state_);
  if (status s = state->create(options); !s) return std::move(s).error();
  return graph_plan(std::move(state));
} catch (const std::bad_alloc&) {
  return detail::no_memory("for a graph_plan");
}

status cuda_executor::synchronize() {
  RADIXKV_RANGE("cuda_executor::synchronize");
  return state_->synchronize();
}

const memory_layout& cuda_executor::layout() const noexcept { return state_->layout(); }
int cuda_executor::device() const noexcept { return state_->device(); }
std::byte* cuda_executor::plane(std::size_t plane) const noexcept { return state_->plane(plane); }

logits_rows_view cuda_executor::logits_store() const noexcept { return state_->logits_store(); }

std::byte* cuda_executor::logits_row(logits_slot slot) const noexcept {
  const logits_rows_view store = state_->logits_store();
  return static_cast<std::byte*>(store.data) + slot * store.row_stride_bytes;
}

graph_plan::graph_plan(std::unique_ptr<detail::graph_plan_state> state) noexcept
    : state_(std::move(state)) {}
graph_plan::graph_plan(graph_plan&&) noexcept = default;
graph_plan& graph_plan::operator=(graph_plan&&) noexcept = default;
graph_plan::~graph_plan() {
  if (state_ == nullptr) return;
  RADIXKV_RANGE("graph_plan::destroy");
  state_.reset();
}

status graph_plan::capture(cudaStream_t stream, const logits_rows_view& rows) {
  RADIXKV_RANGE("graph_plan::capture");
  return state_->capture(stream, rows);
}

status graph_plan::prepare(const step_plan& plan) {
  RADIXKV_RANGE("graph_plan::prepare");
  return state_->prepare(plan);
}

void graph_plan::skip() noexcept {
  RADIXKV_RANGE("graph_plan::skip");
  state_->skip();
}

status graph_plan::launch(cudaStream_t stream, cudaGraphExec_t graph, const step_plan& plan) {
  RADIXKV_RANGE("graph_plan::launch");
  return state_->launch(stream, graph, plan);
}

void graph_plan::realign() noexcept {
  RADIXKV_RANGE("graph_plan::realign");
  state_->realign();
}
std::uint64_t graph_plan::numbered() const noexcept { return state_->numbered(); }
std::uint64_t graph_plan::replayed() const noexcept { return state_->replayed(); }

}  // namespace radixkv
