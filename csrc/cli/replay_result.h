// What one replay measured. Plain data; report.h, report_table.h and plot.h show it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "csrc/cli/latency_recorder.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::cli {

// Microseconds per request.
struct replay_times {
  latency_summary match, allocate, commit, evict, total;
  double floor_mean = 0;  // comparing the matched tokens and copying the new ones, nothing else
  latency_summary announce = {};  // of the requests ahead; not part of the total
};

struct verify_counts {
  std::uint64_t checked_bytes = 0;
  std::uint64_t wrong_bytes = 0;
};

struct replay_result {
  std::string source;
  std::string policy;
  std::string executor;  // what ran the plans; empty: nothing did
  std::string capacity;  // as the user wrote it
  std::uint64_t capacity_tokens = 0;
  std::uint32_t block_tokens = 0;
  std::uint32_t threads = 1;
  std::uint32_t lookahead = 0;  // requests announced ahead

  std::uint64_t requests = 0;
  std::uint64_t refused_requests = 0;  // larger than the pool, or no blocks while others held them
  std::uint64_t prompt_tokens = 0;
  std::uint64_t hit_tokens = 0;  // served from cache
  std::uint64_t blocks = 0;
  std::uint64_t hit_blocks = 0;  // all tokens found cached, before the n−1 rule
  std::uint64_t evicted_blocks = 0;
  std::uint64_t copied_blocks = 0;
  std::optional<double> requests_per_second;    // none for an offline policy
  std::optional<double> index_bytes_per_token;  // none, too, where nothing is cached at the end

  radixkv::policy_statistics policy_statistics;  // zeros for policies that do not count

  std::optional<verify_counts> verify;  // with --verify
  std::optional<replay_times> us;       // none for an offline policy: it serves nobody

  [[nodiscard]] double token_hit_rate() const noexcept { return share(hit_tokens, prompt_tokens); }
  [[nodiscard]] double block_hit_rate() const noexcept { return share(hit_blocks, blocks); }
  // What LRU would have had, by the policy's own shadow; nothing if it keeps none.
  [[nodiscard]] std::optional<double> lru_block_hit_rate() const noexcept {
    if (policy_statistics.blocks == 0) return {};
    return share(policy_statistics.lru_hit_blocks, blocks);
  }

 private:
  static double share(std::uint64_t part, std::uint64_t whole) noexcept {
    return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
  }
};

}  // namespace radixkv::cli
