// Creation, and what the host keeps: changes, leases, numbers of updates.
#include "csrc/cuda/cuda_index_state.h"

#include <algorithm>
#include <string>
#include <utility>

#include "kernels/batch_dedup.h"
#include "kernels/prefix_match.h"

namespace radixkv::detail {

cuda_index_state::~cuda_index_state() {
  const device_scope scope(device_);
  (void)synchronize();
  ring_ = {};
  workspace_.reset();
  shared_workspace_.reset();
  leases_.clear();
  for (table& t : tables_) t = {};
}

status cuda_index_state::create(const cuda_index_options& options) {
  options_ = options;
  if (const cudaError_t e = cudaGetDevice(&device_); e != cudaSuccess) {
    return device_error("no CUDA device", e);
  }
  if (const cudaError_t e =
          cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, device_);
      e != cudaSuccess) {
    return device_error("no CUDA device", e);
  }
  for (table& t : tables_) {
    if (status s = create_table(t, options); !s) return s;
  }
  slot_bytes_ = options.staging_bytes / staging_slots / 256 * 256;
  if (status s = ring_.create(staging_slots, slot_bytes_, 0); !s) return s;
  workspace_bytes_ = kernels::prefix_match_workspace_bytes(
      options.max_prompts, options.max_prompt_tokens, options.block_tokens);
  auto workspace = allocate_device("the workspace of matches", workspace_bytes_);
  if (!workspace) return workspace.error();
  workspace_ = std::move(*workspace);
  if (options.find_shared) {
    const cudaError_t asked =
        kernels::batch_dedup_workspace_bytes(options.max_prompts, options.max_prompt_tokens,
                                             options.block_tokens, shared_workspace_bytes_);
    if (asked == cudaErrorInvalidValue) {
      return {errc::invalid_argument, "cuda_index: max_prompt_tokens " +
                                          std::to_string(options.max_prompt_tokens) +
                                          " are more blocks than find_shared can number"};
    }
    if (asked != cudaSuccess) return device_error("asking for the workspace of find_shared", asked);
    auto shared = allocate_device("the workspace of find_shared", shared_workspace_bytes_);
    if (!shared) return shared.error();
    shared_workspace_ = std::move(*shared);
    if (const cudaError_t e = kernels::load_batch_dedup(cudaStreamLegacy, shared_workspace_.get(),
                                                        shared_workspace_bytes_);
        e != cudaSuccess) {
      return device_error("loading the kernels of find_shared", e);
    }
    if (status s = shared_.create(); !s) return s;
  }
  leases_.resize(options.matches_in_flight);
  for (lease& l : leases_) {
    if (status s = l.matched.create(); !s) return s;
    if (status s = l.finished.create(); !s) return s;
  }
  for (const cudaError_t e :
       {kernels::load_index_update(), kernels::load_prefix_match(options.block_tokens)}) {
    if (e != cudaSuccess) return device_error("loading the index's kernels", e);
  }
  if (const cudaError_t e = cudaStreamSynchronize(cudaStreamLegacy); e != cudaSuccess) {
    return device_error("clearing the index", e);
  }
  return {};
}

status cuda_index_state::create_table(table& t, const cuda_index_options& options) {
  const std::uint64_t slots = std::uint64_t{1} << mirror_.log2_slots();
  auto blocks = allocate_device("the table of blocks", slots * sizeof(kernels::block_entry));
  if (!blocks) return blocks.error();
  t.blocks = std::move(*blocks);
  const std::uint64_t group_slots = kernels::uses_groups(options.block_tokens) ? slots : 0;
  auto groups = allocate_device("the table of groups", group_slots * sizeof(kernels::group_entry));
  if (!groups) return groups.error();
  t.groups = std::move(*groups);
  const std::uint64_t token_bytes =
      static_cast<std::uint64_t>(options.blocks) * options.block_tokens * sizeof(token_id);
  auto tokens = allocate_device("the tokens of the index", token_bytes);
  if (!tokens) return tokens.error();
  t.tokens = std::move(*tokens);
  if (status s = t.ready.create(); !s) return s;
  for (const auto& [memory, bytes] :
       {std::pair{t.blocks.get(), slots * sizeof(kernels::block_entry)},
        std::pair{t.groups.get(), group_slots * sizeof(kernels::group_entry)}}) {
    if (bytes == 0) continue;
    if (const cudaError_t e = cudaMemsetAsync(memory, 0xff, bytes, cudaStreamLegacy);
        e != cudaSuccess) {
      return device_error("clearing the index", e);
    }
  }
  t.view = {reinterpret_cast<kernels::block_entry*>(t.blocks.get()),
            reinterpret_cast<kernels::group_entry*>(t.groups.get()),
            reinterpret_cast<std::uint32_t*>(t.tokens.get()),
            static_cast<std::int32_t>(options.blocks),
            options.block_tokens,
            mirror_.log2_slots()};
  return {};
}

status cuda_index_state::add(block_id block, block_id parent, std::int32_t namespace_id,
                             std::span<const token_id> tokens) {
  if (namespace_id < 0) {
    return {errc::invalid_argument,
            "namespace id " + std::to_string(namespace_id) + " is negative"};
  }
  if (parent < no_block) {
    return {errc::invalid_argument, "parent " + std::to_string(parent) + " is not a block"};
  }
  const std::lock_guard lock(mutex_);
  return mirror_.add(block, parent == no_block ? kernels::root_parent(namespace_id) : parent,
                     tokens);
}

result<std::uint64_t> cuda_index_state::remove(block_id block) {
  const std::lock_guard lock(mutex_);
  if (status s = mirror_.remove(block); !s) return s.error();
  return published_ + (updating_ ? 2 : 1);
}

std::uint64_t cuda_index_state::published() const {
  const std::lock_guard lock(mutex_);
  return published_;
}

std::int64_t cuda_index_state::size() const {
  const std::lock_guard lock(mutex_);
  return mirror_.size();
}

std::string cuda_index_state::check_invariants() const {
  const std::lock_guard lock(mutex_);
  return mirror_.check_invariants();
}

status cuda_index_state::collect() {
  for (lease& l : leases_) {
    if (l.state != lease_state::finished) continue;
    const cudaError_t e = cudaEventQuery(l.finished.get());
    if (e == cudaErrorNotReady) {
      (void)cudaGetLastError();
      continue;
    }
    if (e != cudaSuccess) return device_error("an earlier operation on the device failed", e);
    l.state = lease_state::idle;
  }
  return {};
}

cuda_index_state::lease* cuda_index_state::idle_lease() noexcept {
  for (lease& l : leases_) {
    if (l.state == lease_state::idle) return &l;
  }
  return nullptr;
}

result<std::uint64_t> cuda_index_state::retired() {
  const std::lock_guard lock(mutex_);
  const device_scope scope(device_);
  if (scope.error() != cudaSuccess) return device_error("selecting the device", scope.error());
  const relaxed_capture_scope relaxed;
  if (status s = collect(); !s) return s.error();
  std::uint64_t least = published_;
  for (const lease& l : leases_) {
    if (l.state != lease_state::idle) least = std::min(least, l.epoch);
  }
  return least;
}

}  // namespace radixkv::detail
