// Rows of logits whose top k are sought: what the traffic and the times of logits_topk are measured
// on.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "bench/kernels/bench_memory.h"
#include "kernels/logits_topk.h"

namespace radixkv::bench {

// fp32 rows of `vocabulary`, one after the other, and room for their results.
class device_topk {
 public:
  device_topk(const std::vector<float>& rows, std::uint32_t vocabulary, std::uint32_t k)
      : row_count_(static_cast<std::uint32_t>(rows.size() / vocabulary)),
        scratch_bytes_(kernels::logits_topk_scratch_bytes(row_count_, vocabulary, k)),
        rows_(rows),
        values_(std::size_t{row_count_} * k),
        sums_(row_count_),
        ids_(values_.size()),
        scratch_(std::max<std::size_t>(scratch_bytes_, 1)) {
    arguments_.rows = rows_.data();
    arguments_.row_stride = arguments_.vocabulary = vocabulary;
    arguments_.row_count = row_count_;
    arguments_.k = k;
    arguments_.slot_count = static_cast<std::int32_t>(row_count_);
    arguments_.values = values_.data();
    arguments_.ids = ids_.data();
    arguments_.log_sum_exp = sums_.data();
    arguments_.scratch = scratch_.data();
    arguments_.scratch_bytes = scratch_bytes_;
  }

  [[nodiscard]] const kernels::logits_topk_arguments& arguments() const { return arguments_; }
  [[nodiscard]] std::vector<std::int32_t> ids() const { return ids_.download(); }

 private:
  std::uint32_t row_count_;
  std::size_t scratch_bytes_;
  bench_memory<float> rows_, values_, sums_;
  bench_memory<std::int32_t> ids_;
  bench_memory<std::byte> scratch_;
  kernels::logits_topk_arguments arguments_;
};

}  // namespace radixkv::bench
