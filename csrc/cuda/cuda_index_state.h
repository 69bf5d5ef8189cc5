// The device tables of a cuda_index and the order of what reads and writes them.
//
// 1. tables_[front_] is read by matches and never written; tables_[1 − front_] is written by
// updates.
// 2. A table's `ready` event is after its last write, `last_match` after its last read (or null).
// 3. The back table lacks previous_ and current_; an update applies both, in this order, and swaps.
//    Writes of a delta may be repeated, so that an update that failed half-way is taken up again.
// 4. A lease is a match that is not finished on the device; `epoch` is the update it reads.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

#include "csrc/cuda/call_order.h"
#include "csrc/cuda/device_memory.h"
#include "csrc/cuda/index_chunks.h"
#include "csrc/cuda/index_mirror.h"
#include "csrc/cuda/staging_ring.h"
#include "kernels/prefix_table.h"
#include "radixkv/cuda_index.h"

namespace radixkv::detail {

class cuda_index_state {
 public:
  // Among which options.staging_bytes are divided.
  static constexpr std::uint32_t staging_slots = 16;

  explicit cuda_index_state(index_mirror mirror) : mirror_(std::move(mirror)) {}
  cuda_index_state(const cuda_index_state&) = delete;
  cuda_index_state& operator=(const cuda_index_state&) = delete;
  ~cuda_index_state();

  [[nodiscard]] status create(const cuda_index_options& options);

  [[nodiscard]] status add(block_id block, block_id parent, std::int32_t namespace_id,
                           std::span<const token_id> tokens);
  [[nodiscard]] result<std::uint64_t> remove(block_id block);
  [[nodiscard]] status update(cudaStream_t stream);
  [[nodiscard]] result<std::uint64_t> match(cudaStream_t stream, const cuda_match_batch& batch);
  [[nodiscard]] status find_shared(cudaStream_t stream, const cuda_match_batch& batch,
                                   const cuda_shared_prefixes& results);
  [[nodiscard]] status finish(cudaStream_t stream, std::uint64_t ticket);
  [[nodiscard]] std::uint64_t published() const;
  [[nodiscard]] result<std::uint64_t> retired();
  [[nodiscard]] status synchronize() noexcept;
  [[nodiscard]] std::int64_t size() const;
  [[nodiscard]] std::string check_invariants() const;

 private:
  struct table {
    kernels::prefix_table view;
    device_buffer blocks, groups, tokens;
    device_event ready;
    bool written = false;
    cudaEvent_t last_match = nullptr;
  };
  enum class lease_state : std::uint8_t { idle, open, finished };
  struct lease {
    lease_state state = lease_state::idle;
    std::uint64_t ticket = 0;
    std::uint64_t epoch = 0;
    device_event matched;
    device_event finished;
  };

  [[nodiscard]] status create_table(table& t, const cuda_index_options& options);
  // `call` names the operation in the error.
  [[nodiscard]] status check_batch(const char* call, const cuda_match_batch& batch) const;
  // Behind the last use of the lease's match; null if none is to be waited for.
  [[nodiscard]] cudaEvent_t finished_event(const lease& l) const noexcept;
  // The rest REQUIRES the lock.
  [[nodiscard]] status apply(cudaStream_t stream, table& t, const index_delta& delta);
  [[nodiscard]] status launch_match(cudaStream_t stream, const cuda_match_batch& batch);
  [[nodiscard]] status collect();  // finished leases become idle
  [[nodiscard]] lease* idle_lease() noexcept;

  cuda_index_options options_;
  int device_ = 0;
  int multiprocessors_ = 0;

  mutable std::mutex mutex_;  // guards what follows
  index_mirror mirror_;
  index_delta previous_, current_;
  bool updating_ = false;    // an update is enqueued in part
  bool on_current_ = false;  // … and previous_ is done with
  delta_cursor cursor_;
  std::uint64_t published_ = 0;
  table tables_[2];
  int front_ = 0;
  staging_ring ring_;
  std::uint64_t slot_bytes_ = 0;
  device_buffer workspace_;
  std::uint64_t workspace_bytes_ = 0;
  std::vector<lease> leases_;  // their number and places never change
  std::uint64_t tickets_ = 0;
  call_order order_{"the index"};   // of matches, which share the workspace
  device_buffer shared_workspace_;  // of find_shared, which its calls share
  std::size_t shared_workspace_bytes_ = 0;
  device_event shared_;  // after the last of them
};

}  // namespace radixkv::detail
