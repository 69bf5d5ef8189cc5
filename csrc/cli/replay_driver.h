// Drives the whole manager with a workload, as a serving stack would: for each request in order of
// arrival, open, run the plan, commit the prompt, release.
#pragma once

#include <cstdint>
#include <string>

#include "csrc/cli/quantity.h"
#include "csrc/cli/replay_result.h"
#include "csrc/cli/token_expander.h"
#include "csrc/cli/trace.h"
#include "radixkv/result.h"

namespace radixkv::cli {

enum class executor_kind : std::uint8_t { host, cuda };

struct replay_config {
  std::string policy;
  capacity pool;
  std::uint32_t block_tokens = 16;
  std::uint32_t threads = 1;    // with more, requests overlap, and results vary from run to run
  std::uint32_t lookahead = 0;  // announce so many requests ahead
  bool verify = false;          // compute and check bytes (see verify_engine.h)
  executor_kind executor = executor_kind::host;  // cuda also runs the plans without verify
};

// Blocks of the pool that a configuration asks for; `unlimited` is what never evicts.
// Errors: invalid_argument, naming the value and the limit.
[[nodiscard]] result<std::int64_t> pool_blocks(const trace& source, const replay_config& config);

// Replays the trace. `prompts` is scratch that keeps what was expanded for the next run. Prompts
// are expanded up front, at most 2^28 tokens at a time, so that neither reading nor expanding is
// timed and prompts are cold when they are opened. A request that the pool can never hold is
// counted as refused, and so is one that finds no blocks while nothing else is open; with several
// threads it otherwise waits for the others. Errors: those of the cache and the executor. Wrong
// bytes are counted in the result, not an error.
[[nodiscard]] result<replay_result> replay(const trace& source, const replay_config& config,
                                           prompt_buffer& prompts);

}  // namespace radixkv::cli
