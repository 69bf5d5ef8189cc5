// Plays the model of a verifying replay: what it computes for a token depends on the namespace and
// on every token up to it, as KV does, so a byte that is served for the wrong prefix is a wrong
// byte.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "csrc/cli/kv_memory.h"
#include "csrc/cli/replay_result.h"
#include "radixkv/result.h"
#include "radixkv/types.h"

namespace radixkv::cli {

// Thread-safety: none; calls are serialised by the caller, in the order of opening, like an
// engine's stream: a copy is run before anything writes to blocks that were given away after it was
// planned.
class verify_engine {
 public:
  // check: compute tokens and check what is served; otherwise plans are only run.
  verify_engine(std::unique_ptr<kv_memory> memory, std::uint32_t block_tokens, bool check);

  // Runs `plan`, checks the bytes of tokens [0, cached) of the prompt where `table` says they are,
  // and writes those of the rest. Errors: the memory's; wrong bytes are counted, not an error.
  status step(std::string_view name_space, std::span<const token_id> prompt, std::int64_t cached,
              std::span<const block_id> table, const step_plan& plan);

  [[nodiscard]] const verify_counts& counts() const noexcept { return counts_; }
  [[nodiscard]] const kv_memory& memory() const noexcept { return *memory_; }

 private:
  void compute(std::string_view name_space, std::span<const token_id> prompt);
  void split(std::int64_t first, std::int64_t end, std::span<const block_id> table);

  std::unique_ptr<kv_memory> memory_;
  std::uint32_t block_tokens_;
  bool check_;
  verify_counts counts_;
  std::vector<std::byte> computed_;
  std::vector<std::byte> served_;
  std::vector<token_range> ranges_;
};

}  // namespace radixkv::cli
