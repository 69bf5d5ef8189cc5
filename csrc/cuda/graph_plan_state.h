// A graph_plan's ring of prepared plans and the device memory that its captured launches read.
//
// 1. Ring slot i % depth is written by prepare number i (from 0) only after replay i − depth has
//    taken the plan before it from there.
// 2. A slot's sequence number is written last, so that a replay sees a whole plan or none.
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
  [[nodiscard]] std::uint64_t prepared() const noexcept { return prepared_; }
  [[nodiscard]] std::uint64_t taken() const noexcept;

 private:
  [[nodiscard]] status enqueue(cudaStream_t stream, const logits_rows_view& rows);
  [[nodiscard]] status fits(const step_plan& plan, std::span<const std::uint32_t> waves,
                            std::uint32_t logits_waves) const;

  std::shared_ptr<cuda_state> executor_;
  kernels::plan_shape shape_;
  std::uint32_t depth_ = 0;
  pinned_buffer ring_;  // depth slots, then the count of plans taken
  device_buffer plan_;  // one plan, then the device's count
  std::uint64_t prepared_ = 0;
  bool captured_ = false;
  std::int32_t rows_ = 0;  // of the captured view
  copy_waves waves_;
  logits_batches batches_;
};

}  // namespace radixkv::detail
