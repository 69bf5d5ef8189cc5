// The offline optimum for a prefix tree, to compare eviction policies with.
//
// Belady's rule (1966) on the tree: what is needed again last goes first, only leaves go, what a
// request finds cached stays while it is served, and what it adds is kept only where it is needed
// before something that is there (bypass). A block is needed no later than any block behind it, so
// the block to go is always a leaf. No policy hits more blocks. Where a prompt ends inside a block
// that several others go on from, each its own way, even the optimum may hit fewer: all of them
// count as used.
#pragma once

#include <cstdint>

#include "csrc/cli/trace.h"

namespace radixkv::cli {

struct belady_result {
  std::uint64_t blocks = 0;          // ⌈tokens / block_tokens⌉ of each prompt
  std::uint64_t hit_blocks = 0;      // of them, those whose tokens were all found cached
  std::uint64_t hit_tokens = 0;      // of those blocks, but never a prompt's last token
  std::uint64_t evicted_blocks = 0;  // that had been kept because they were needed again
};

// Takes time and memory by requests and their segments, whatever the block size. Requests that can
// share fewer than `min_prefix_tokens` tokens in whole blocks with earlier ones hit nothing, as in
// the cache. May throw std::bad_alloc. REQUIRES: block_tokens > 0.
[[nodiscard]] belady_result belady(const trace& source, std::int64_t capacity_blocks,
                                   std::uint32_t block_tokens, std::uint32_t min_prefix_tokens);

}  // namespace radixkv::cli
