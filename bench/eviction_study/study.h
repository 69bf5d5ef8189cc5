// Runs a workload through a policy over the bare tree.
#pragma once

#include <cstdint>
#include <string>

#include "bench/eviction_study/workload.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::study {

struct outcome {
  std::int64_t blocks = 0, hit_blocks = 0;
  double microseconds = 0;  // per request, the bare tree's work included
  std::size_t policy_bytes = 0;

  [[nodiscard]] double hit_rate() const {
    return blocks ? static_cast<double>(hit_blocks) / static_cast<double>(blocks) : 0;
  }
};

[[nodiscard]] outcome run(const workload& w, eviction_policy& policy, std::int64_t capacity_tokens,
                          std::uint32_t block_tokens);
// The same with the next `lookahead` requests announced.
[[nodiscard]] outcome run_announced(const workload& w, const std::string& policy,
                                    std::int64_t capacity_tokens, std::uint32_t block_tokens,
                                    std::uint32_t lookahead);

}  // namespace radixkv::study
