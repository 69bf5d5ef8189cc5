// A batch of prompts whose uncached prefixes are searched for what they share: what the traffic and
// the times of batch_dedup are measured on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/kernels/match_batch.h"
#include "kernels/batch_dedup.h"

namespace radixkv::bench {

// The batch, matched, and room for what it shares. Ends the program with a message where that
// fails.
class device_dedup {
 public:
  explicit device_dedup(const match_batch& batch);

  [[nodiscard]] const kernels::batch_dedup_arguments& arguments() const { return arguments_; }
  // What went wrong with the last search by `arguments`, empty if it found what the batch says.
  // Synchronises.
  [[nodiscard]] std::string error() const;

  [[nodiscard]] std::int64_t uncached_tokens() const;
  // Every token of an uncached whole block is read once, and what is known of a prompt; results are
  // written.
  [[nodiscard]] double bytes_minimal() const;

 private:
  match_batch batch_;
  device_match match_;
  bench_memory<std::int32_t> representatives_, shared_;
  bench_memory<std::byte> workspace_;
  kernels::batch_dedup_arguments arguments_;
};

}  // namespace radixkv::bench
