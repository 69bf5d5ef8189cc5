// Hashes are not trusted: the tokens of a prompt and of the one that it seems to share them with
// are compared.
#pragma once

#include <cstdint>

#include "kernels/dedup_job.cuh"

namespace radixkv::kernels {

// Whole blocks that two prompts have in common beyond the cached ones, at most `limit`. Whole warp.
__device__ inline std::uint32_t common_blocks(const dedup_job& job, const dedup_prompt& a,
                                              const dedup_prompt& b, std::uint32_t limit,
                                              std::uint32_t lane) {
  // The same cached block is the same prefix before it.
  if (a.matched != b.matched || a.parent != b.parent) return 0;
  limit = min(limit, min(a.blocks, b.blocks) - a.matched);
  const std::int64_t begin = static_cast<std::int64_t>(a.matched) << job.log2_block_tokens;
  const std::int64_t end = begin + (static_cast<std::int64_t>(limit) << job.log2_block_tokens);
  constexpr int in_flight = 8;  // reads of a lane from each: a warp alone has to hide their latency
  for (std::int64_t t = begin; t < end; t += 32 * in_flight) {
    std::uint32_t differ = 0;
#pragma unroll
    for (int i = 0; i < in_flight; ++i) {
      const std::int64_t at = t + 32 * i + lane;
      if (at < end && a.tokens[at] != b.tokens[at]) differ |= 1u << i;
    }
    if (!__any_sync(full_warp, differ != 0)) continue;
    std::int64_t first = t;
    std::uint32_t where = 0;
    for (int i = 0; where == 0; ++i) {
      where = __ballot_sync(full_warp, (differ >> i & 1) != 0);
      first = t + 32 * i;
    }
    return static_cast<std::uint32_t>((first + __ffs(where) - 1 - begin) >> job.log2_block_tokens);
  }
  return limit;
}

struct dedup_answer {
  std::uint32_t representative;
  std::uint32_t shared;  // blocks
};

// What prompt p shares, from the deepest block of which an earlier prompt heads the hash. Whole
// warp.
__device__ inline dedup_answer verified(const dedup_job& job, std::uint32_t p,
                                        unsigned long long best, std::uint32_t lane) {
  const dedup_prompt mine = load_prompt(job, p);
  const auto head = static_cast<std::uint32_t>(best);
  const std::uint32_t limit = static_cast<std::uint32_t>(best >> 32) - mine.matched;
  if (common_blocks(job, mine, load_prompt(job, head), limit, lane) == limit) return {head, limit};
  // Hashes collided. Nothing deeper than the limit can be common, or its hashes would be equal too.
  dedup_answer answer = {p, 0};
  for (std::uint32_t q = 0; q < p && answer.shared < limit; ++q) {
    const std::uint32_t common = common_blocks(job, mine, load_prompt(job, q), limit, lane);
    if (common > answer.shared) answer = {q, common};
  }
  return answer;
}

}  // namespace radixkv::kernels
