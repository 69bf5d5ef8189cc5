// A graph_plan's ring of prepared plans and the device memory that its captured launches read.
//
// 1. Replays are numbered from 0, by the device as they begin and by the host as plans are prepared
//    for them. The plan of replay n lies in ring slot n % depth, marked n + 1; a replay whose slot
//    bears another mark copies nothing. So a replay never runs the plan of another one, and one
//    that has no plan needs no slot.
// 2. A slot is written only after the replay that its mark is for has read it. The mark is written
//    last, so that a replay sees a whole plan or none.
// 3. Replays that the host has not numbered show once the device has begun more than next_; from
//    then on nothing is prepared until realign().
#pragma once

#include <cstdint>
#include <memory>

#include <cuda_runtime_api.h>

#include "csrc/cuda/cuda_state.h"
#include "kernels/plan_fetch.h"

namespace radixkv::detail {

class graph_plan_state {
 public:
  explicit graph_plan_state(std::shared_ptr<cuda_state> executor) noexcept
      : executor_(std::move(executor)) {}
  graph_plan_state(const graph_plan_state&) = delete;
  graph_plan_state& operator=(const graph_plan_state&) = delete;
  ~graph_plan_state();

  [[nodiscard]] status create(const graph_plan_options& options);
  [[nodiscard]] status capture(cudaStream_t stream, const logits_rows_view& rows);
  [[nodiscard]] status prepare(const step_plan& plan);
  void skip() noexcept;
  [[nodiscard]] status launch(cudaStream_t stream, cudaGraphExec_t graph, const step_plan& plan);
  void realign() noexcept;
  [[nodiscard]] std::uint64_t numbered() const noexcept { return next_; }
  [[nodiscard]] std::uint64_t replayed() const noexcept;

 private:
  [[nodiscard]] status enqueue(cudaStream_t stream, const logits_rows_view& rows) noexcept;
  // Puts the plan of replay `number` into its slot. After an error, or std::bad_alloc, that replay
  // has no plan.
  [[nodiscard]] status write(const step_plan& plan, std::uint64_t number);
  void write_slot(const step_plan& plan, std::span<const std::uint32_t> waves,
                  std::span<const logits_batch> batches, std::byte* slot) const noexcept;
  [[nodiscard]] std::byte* slot_of(std::uint64_t number) const noexcept;
  [[nodiscard]] bool in_step() const noexcept { return replayed() <= next_; }
  [[nodiscard]] status fits(const step_plan& plan, std::span<const std::uint32_t> waves,
                            std::uint32_t logits_waves) const;

  std::shared_ptr<cuda_state> executor_;
  kernels::plan_shape shape_;
  std::uint32_t depth_ = 0;
  pinned_buffer ring_;      // depth slots, then the count of replays that have read theirs
  device_buffer plan_;      // one plan, then the device's count of replays
  std::uint64_t next_ = 0;  // the replay that is numbered next
  bool captured_ = false;
  logits_rows_view view_;  // as captured
  std::int32_t rows_ = 0;  // of it that plans in the graph may name
  copy_waves waves_;
  logits_batches batches_;
};

}  // namespace radixkv::detail
