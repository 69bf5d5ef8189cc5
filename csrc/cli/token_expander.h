// Turns segments into tokens: token i of segment `id` is a hash of both, so that equal ids give
// equal tokens and segments of different ids differ from their first token on (two of them agree in
// a given token with probability 2⁻³¹).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "csrc/cli/token_memory.h"
#include "csrc/cli/trace.h"
#include "radixkv/result.h"
#include "radixkv/types.h"

namespace radixkv::cli {

// Writes the first out.size() tokens of a segment: non-negative as int32, which engines use.
void expand_segment(std::uint64_t id, std::span<token_id> out) noexcept;

// The tokens of a range of requests in one large buffer, each prompt aligned to a cache line.
// Reading them in order finds them cold, as prompts are that come from elsewhere.
class prompt_buffer {
 public:
  prompt_buffer() noexcept = default;
  prompt_buffer(const prompt_buffer&) = delete;
  prompt_buffer& operator=(const prompt_buffer&) = delete;

  // Expands requests from `first` on, as many as fit into `tokens_at_most` but at least one;
  // nothing is done if they are there already. Returns the end of the range. REQUIRES: first is a
  // request of `source`, which outlives the use of the buffer and does not change. Errors:
  // out_of_memory.
  result<std::size_t> expand(const trace& source, std::size_t first, std::uint64_t tokens_at_most);

  // REQUIRES: `request` is in the range last expanded.
  [[nodiscard]] std::span<const token_id> prompt(std::size_t request) const noexcept;

 private:
  token_memory tokens_;
  const trace* source_ = nullptr;
  std::size_t first_ = 0;
  std::size_t end_ = 0;
  std::uint64_t limit_ = 0;
  std::vector<std::uint64_t> offsets_;  // of requests first_ … end_-1, in tokens
};

}  // namespace radixkv::cli
