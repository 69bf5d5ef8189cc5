// What a cuda_executor and its graph plans share: device memory, staging, and the order of calls.
//
// 1. Calls take effect in the order in which they are made: order_.
// 2. plane_ addresses and the logits store do not change after creation.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

#include "csrc/cuda/call_order.h"
#include "csrc/cuda/device_memory.h"
#include "csrc/cuda/logits_batches.h"
#include "csrc/cuda/staging_ring.h"
#include "kernels/address.h"
#include "kernels/block_copy.h"
#include "radixkv/cuda_executor.h"
#include "radixkv/layout.h"
#include "radixkv/result.h"
#include "radixkv/step_plan.h"

namespace radixkv::detail {

class cuda_state {
 public:
  cuda_state() = default;
  cuda_state(const cuda_state&) = delete;
  cuda_state& operator=(const cuda_state&) = delete;
  ~cuda_state();

  // bases null: owns the planes. See cuda_executor::create and borrow.
  [[nodiscard]] status create(const memory_layout& layout, const std::span<void* const>* bases,
                              const cuda_executor_options& options);

  [[nodiscard]] status run(cudaStream_t stream, const step_plan& plan,
                           const logits_rows_view& rows);
  // `launched` tells whether the graph was, also after an error.
  [[nodiscard]] status launch(cudaStream_t stream, cudaGraphExec_t graph, bool& launched);
  [[nodiscard]] status synchronize() noexcept;

  // Errors unless `rows` can serve these moves: buffer, type, stride, range, memory.
  [[nodiscard]] status check_rows(const logits_rows_view& rows,
                                  std::span<const logits_move> moves) const;
  // Launches; items and slots lie in device memory.
  [[nodiscard]] cudaError_t copy_blocks(cudaStream_t stream, const kernels::block_copy_item* items,
                                        std::uint32_t count,
                                        const std::uint32_t* device_count = nullptr) const;
  // `slots`: one per row, of rows first_row … first_row + count − 1.
  [[nodiscard]] cudaError_t move_logits(cudaStream_t stream, logits_direction direction,
                                        const logits_rows_view& rows, std::int32_t first_row,
                                        std::uint32_t count, const logits_slot* slots) const;

  [[nodiscard]] const memory_layout& layout() const noexcept { return layout_; }
  [[nodiscard]] int device() const noexcept { return device_; }
  [[nodiscard]] std::byte* plane(std::size_t i) const noexcept { return planes_[i].base; }
  [[nodiscard]] logits_rows_view logits_store() const noexcept;

 private:
  struct address_range {
    std::uintptr_t begin, end;
  };
  struct progress {  // of one run: what is enqueued
    std::size_t copies = 0;
    std::size_t batches = 0;
    std::size_t moves = 0;
  };

  [[nodiscard]] status place_planes(const std::span<void* const>* borrowed);
  [[nodiscard]] status check_borrowed() const;
  void note_extent();
  [[nodiscard]] status create_logits();
  // Uploads and launches as much of what is left as one slot holds.
  [[nodiscard]] device_failure run_slot(cudaStream_t stream, const step_plan& plan,
                                        const logits_rows_view& rows,
                                        std::span<const std::uint32_t> waves,
                                        std::span<const logits_batch> batches, progress& done);
  [[nodiscard]] device_failure launch_slot(cudaStream_t stream, const logits_rows_view& rows,
                                           std::span<const std::uint32_t> waves, std::size_t copies,
                                           std::span<const logits_batch> batches,
                                           const std::byte* device, progress& done);
  // Records the event behind a slot's work; the error tells what of the plan is enqueued.
  [[nodiscard]] status end_slot(cudaStream_t stream, const device_failure& failed,
                                const step_plan& plan, const progress& done) noexcept;
  [[nodiscard]] std::uint64_t slots_needed(std::size_t copies,
                                           std::span<const logits_batch> batches) const;

  memory_layout layout_;
  std::uint32_t slot_operations_ = 0;
  int device_ = 0;
  bool pageable_access_ = false;  // the device reads any host memory
  device_buffer memory_;
  std::vector<address_range> extent_;  // of all planes: ascending, none touches another
  device_buffer logits_;
  std::uint64_t logits_stride_ = 0;
  std::vector<kernels::plane> planes_;
  kernels::block_copy_planes copied_planes_;  // the same, as launches take them
  device_buffer device_planes_;  // only of layouts with more planes than fit a launch's parameters

  std::mutex mutex_;  // guards what follows
  staging_ring ring_;
  copy_waves waves_;
  logits_batches batches_;
  device_event graph_event_;
  call_order order_{"the executor"};
};

}  // namespace radixkv::detail
