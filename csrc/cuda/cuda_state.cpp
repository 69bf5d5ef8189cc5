// Creation: validates the layout, finds the planes, allocates.
#include "csrc/cuda/cuda_state.h"

#include <algorithm>
#include <limits>
#include <new>
#include <string>
#include <utility>

#include "csrc/core/no_memory.h"
#include "csrc/core/range_check.h"
#include "kernels/logits_cache.h"
#include "kernels/plan_fetch.h"

namespace radixkv::detail {

namespace {

constexpr std::uint64_t row_alignment = 256;  // bytes, of rows of the logits store
constexpr std::uint64_t max_run_bytes = (std::uint64_t{1} << 30) - 1;  // of block_copy's segments

// Bytes from the first to behind the last byte of a plane. REQUIRES: the layout is valid.
std::uint64_t span_of(const memory_layout& l, const plane_layout& p) {
  const std::uint64_t run = std::uint64_t{l.block_tokens} * p.bytes_per_token;
  return static_cast<std::uint64_t>(l.blocks - 1) * static_cast<std::uint64_t>(p.block_stride) +
         (p.inner_count - 1) * static_cast<std::uint64_t>(p.inner_stride) + run;
}

}  // namespace

cuda_state::~cuda_state() {
  const device_scope scope(device_);
  // Frees would wait too, but only for their own memory's device; borrowed memory is not freed
  // here.
  (void)order_.recover();
  (void)order_.wait();
  (void)cudaGetLastError();
  memory_.reset();
  logits_.reset();
  device_planes_.reset();
  ring_ = {};
  graph_event_ = {};
}

status cuda_state::create(const memory_layout& layout, const std::span<void* const>* bases,
                          const cuda_executor_options& options) try {
  if (status s = layout.validate(); !s) return s;
  if (status s = options.validate(); !s) return s;
  for (std::size_t i = 0; i < layout.planes.size(); ++i) {
    const std::uint64_t run = std::uint64_t{layout.block_tokens} * layout.planes[i].bytes_per_token;
    if (status s = check_range("plane " + std::to_string(i) + ": bytes of a block's run", run, 1,
                               max_run_bytes);
        !s) {
      return s;
    }
  }
  if (const cudaError_t e = cudaGetDevice(&device_); e != cudaSuccess) {
    return device_error("no CUDA device", e);
  }
  const result<bool> pageable = reads_pageable_memory(device_);
  if (!pageable) return pageable.error();
  pageable_access_ = *pageable;
  layout_ = layout;
  slot_operations_ = options.slot_operations;
  if (status s = place_planes(bases); !s) return s;
  if (status s = create_logits(); !s) return s;
  const std::uint64_t operation_bytes = sizeof(kernels::block_copy_item) + sizeof(logits_slot);
  const std::uint64_t slot_bytes = (slot_operations_ * operation_bytes + 255) / 256 * 256;
  if (status s = ring_.create(options.staging_slots, slot_bytes, slot_bytes); !s) return s;
  if (status s = graph_event_.create(); !s) return s;
  if (planes_.size() > kernels::max_parameter_planes) {
    const std::uint64_t bytes = planes_.size() * sizeof(kernels::plane);
    auto buffer = allocate_device("the table of planes", bytes);
    if (!buffer) return buffer.error();
    device_planes_ = std::move(*buffer);
    if (const cudaError_t e = cudaMemcpyAsync(device_planes_.get(), planes_.data(), bytes,
                                              cudaMemcpyHostToDevice, cudaStreamLegacy);
        e != cudaSuccess) {
      return device_error("uploading the table of planes", e);
    }
  }
  if (const cudaError_t e = copied_planes_.set(
          planes_, static_cast<std::int32_t>(layout_.blocks), layout_.block_tokens,
          reinterpret_cast<const kernels::plane*>(device_planes_.get()));
      e != cudaSuccess) {
    return device_error("preparing copies of blocks", e);
  }
  for (const cudaError_t e :
       {copied_planes_.load(), kernels::load_logits_cache(), kernels::load_plan_fetch()}) {
    if (e != cudaSuccess) return device_error("loading the executor's kernels", e);
  }
  if (const cudaError_t e = cudaStreamSynchronize(cudaStreamLegacy); e != cudaSuccess) {
    return device_error("clearing the executor's memory", e);
  }
  return {};
} catch (const std::bad_alloc&) {
  return no_memory("for the tables of a CUDA executor");
}

status cuda_state::place_planes(const std::span<void* const>* borrowed) {
  const std::size_t count = layout_.planes.size();
  std::span<void* const> bases;
  void* owned = nullptr;
  if (borrowed != nullptr) {
    bases = *borrowed;
    if (bases.size() != 1 && bases.size() != count) {
      return {errc::invalid_argument,
              std::to_string(bases.size()) + " base addresses for a layout of " +
                  std::to_string(count) + " planes: give one, or one per plane"};
    }
  } else {
    if (status s = layout_.validate_disjoint(); !s) return s;
    auto buffer = allocate_device("the KV pool", layout_.bytes());
    if (!buffer) return buffer.error();
    memory_ = std::move(*buffer);
    owned = memory_.get();
    bases = {&owned, 1};
  }
  std::vector<std::uint64_t> addresses;
  for (std::size_t i = 0; i < count; ++i) {
    void* base = bases[bases.size() == 1 ? 0 : i];
    if (base == nullptr) {
      return {errc::invalid_argument, "plane " + std::to_string(i) + ": null base address"};
    }
    const plane_layout& p = layout_.planes[i];
    const auto address = reinterpret_cast<std::uintptr_t>(base);
    const std::uint64_t reach = p.offset + span_of(layout_, p);
    if (address > std::numeric_limits<std::uintptr_t>::max() - reach) {
      return {errc::invalid_argument, "plane " + std::to_string(i) + ": base address plus " +
                                          std::to_string(reach) + " bytes wraps around"};
    }
    addresses.push_back(address);
    planes_.push_back({static_cast<std::byte*>(base) + p.offset, p.block_stride, p.inner_stride,
                       p.inner_count, p.bytes_per_token});
    if (layout_.blocks == 1) planes_.back().block_stride = 0;
    if (p.inner_count == 1) planes_.back().inner_stride = 0;
  }
  note_extent();
  if (borrowed == nullptr) return {};
  if (status s = layout_.validate_disjoint(addresses); !s) return s;
  return check_borrowed();
}

void cuda_state::note_extent() {
  for (std::size_t i = 0; i < planes_.size(); ++i) {
    const auto begin = reinterpret_cast<std::uintptr_t>(planes_[i].base);
    extent_.push_back({begin, begin + span_of(layout_, layout_.planes[i])});
  }
  std::sort(extent_.begin(), extent_.end(),
            [](const address_range& a, const address_range& b) { return a.begin < b.begin; });
  std::size_t last = 0;
  for (std::size_t i = 1; i < extent_.size(); ++i) {
    if (extent_[i].begin <= extent_[last].end) {
      extent_[last].end = std::max(extent_[last].end, extent_[i].end);
    } else {
      extent_[++last] = extent_[i];
    }
  }
  extent_.resize(last + 1);
}

status cuda_state::check_borrowed() const {
  if (pageable_access_) return {};
  for (std::size_t i = 0; i < planes_.size(); ++i) {
    if (status s = check_device_memory("plane " + std::to_string(i), planes_[i].base,
                                       span_of(layout_, layout_.planes[i]), device_);
        !s) {
      return s;
    }
  }
  return {};
}

status cuda_state::create_logits() {
  if (layout_.logits_rows == 0) return {};
  if (status s = check_range("layout: vocabulary", static_cast<std::uint64_t>(layout_.vocabulary),
                             1, kernels::max_vocabulary);
      !s) {
    return s;
  }
  logits_stride_ = (layout_.logits_row_bytes() + row_alignment - 1) / row_alignment * row_alignment;
  const auto rows = static_cast<std::uint64_t>(layout_.logits_rows);
  if (status s = check_range("layout: logits_rows × bytes per row", rows, 1,
                             (std::uint64_t{1} << 62) / logits_stride_);
      !s) {
    return s;
  }
  auto buffer = allocate_device("the logits store", rows * logits_stride_);
  if (!buffer) return buffer.error();
  logits_ = std::move(*buffer);
  return {};
}

logits_rows_view cuda_state::logits_store() const noexcept {
  return {logits_.get(), static_cast<std::int64_t>(logits_stride_), layout_.logits_rows,
          layout_.logits};
}

}  // namespace radixkv::detail
