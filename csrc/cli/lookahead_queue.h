// What a serving stack's waiting queue tells the cache: the requests that come next in the trace.
#pragma once

#include <cstddef>
#include <deque>
#include <mutex>

#include "csrc/cli/token_expander.h"
#include "csrc/cli/trace.h"
#include "radixkv/kv_cache.h"

namespace radixkv::cli {

// Thread-safe. Everything passed to the constructor outlives the queue.
class lookahead_queue {
 public:
  lookahead_queue(const trace& source, const prompt_buffer& prompts, kv_cache& cache,
                  std::size_t depth)
      : source_(source), prompts_(prompts), cache_(cache), depth_(depth) {}

  // Announces what is not yet of requests up to index + depth, and below `end`; those that the pool
  // can never hold are left out. Then hands out the announcement of `index`; of nothing if there is
  // none. REQUIRES: the prompts up to `end` are expanded; each index is asked for once, in any
  // order. Errors: those of announce.
  [[nodiscard]] result<announcement> take(std::size_t index, std::size_t end);

 private:
  const trace& source_;
  const prompt_buffer& prompts_;
  kv_cache& cache_;
  std::size_t depth_;
  std::mutex mutex_;
  std::size_t first_ = 0;  // request of waiting_[0]
  std::deque<announcement> waiting_;
};

}  // namespace radixkv::cli
