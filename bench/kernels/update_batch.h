// Deltas of the index mirror, in pinned memory as cuda_index stages them, and the device table that
// they are applied to: what the traffic and the times of index_update are measured on.
#pragma once

#include <cstdint>
#include <string>

#include "bench/kernels/bench_memory.h"
#include "csrc/cuda/device_memory.h"
#include "csrc/cuda/index_chunks.h"

namespace radixkv::bench {

struct update_batch {
  // Paths of 40 blocks of 16 tokens fill the table; `changed_paths` of them come, go, or (both) one
  // goes for every one that comes, as in a full cache.
  std::int32_t block_count = 60'000;
  std::size_t changed_paths = 100;
  bool adds = true;
  bool removes = true;
};

struct host_update;

// Ends the program with a message where setting up fails.
class device_update {
 public:
  explicit device_update(const update_batch& batch);

  [[nodiscard]] const kernels::index_update_arguments& arguments() const { return arguments_; }
  // What went wrong with the last update by `arguments`, or empty. Synchronises.
  [[nodiscard]] std::string error() const;

  [[nodiscard]] std::int64_t deltas() const { return delta_.changes; }
  // Of device memory: every entry and every token is written once.
  [[nodiscard]] double bytes_minimal() const;

 private:
  explicit device_update(const host_update& host);

  detail::index_delta delta_;
  bench_memory<kernels::block_entry> blocks_;
  bench_memory<kernels::group_entry> groups_;
  bench_memory<std::uint32_t> tokens_;
  detail::pinned_buffer slot_;
  kernels::index_update_arguments arguments_;
};

}  // namespace radixkv::bench
