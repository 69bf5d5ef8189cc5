// Hashes by which a policy knows paths after their nodes have gone: one per chunk of tokens, each
// folding the one before, so that it stands for the whole path up to there, and its namespace.
//
// Of a chunk only its last 16 tokens are read, one or two cache lines of it: prompts that agree in
// all of these count as one. That costs a statistic, never a wrong block; reading every token would
// cost more than the policy itself. Keyed with random secrets: NH over the tokens (path_hash.h),
// chained by products (wyhash, Wang Yi 2019).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "csrc/core/mix.h"
#include "csrc/core/path_hash.h"
#include "radixkv/types.h"

namespace radixkv::detail {

class path_digest {
 public:
  static constexpr std::uint32_t most_sampled = 16;

  // chunk_tokens 0: hashes nothing.
  explicit path_digest(std::uint32_t chunk_tokens = 0)
      : chunk_tokens_(chunk_tokens), secret_(chunk_tokens ? random_secret() : 0) {}

  [[nodiscard]] std::uint32_t chunk_tokens() const noexcept { return chunk_tokens_; }
  // Tokens at a chunk's end that are read.
  [[nodiscard]] std::uint32_t sampled() const noexcept {
    return std::min(most_sampled, chunk_tokens_);
  }
  // The hash of a namespace's empty path.
  [[nodiscard]] std::uint64_t seed(std::string_view name_space) const noexcept {
    return mix(name_space, secret_);
  }
  // The hash of a path one chunk longer than that of h; `sample`: the chunk's last sampled()
  // tokens.
  [[nodiscard]] std::uint64_t next(std::uint64_t h, const token_id* sample) const noexcept {
    return mix(h ^ hasher_.digest(sample, sampled()), secret_);
  }

  // Makes room for the hashes of `tokens`. May throw std::bad_alloc.
  void make_room(std::span<const token_id> tokens, std::vector<std::uint64_t>& out) const {
    if (chunk_tokens_ != 0) out.resize(tokens.size() / chunk_tokens_);
  }
  // The hashes of `tokens` in a namespace, for request_info::path_hashes. Cheap where the tokens
  // were read just before; else it waits for memory at every chunk. REQUIRES: room for them.
  void fill(std::span<const token_id> tokens, std::uint64_t seed,
            std::vector<std::uint64_t>& out) const noexcept {
    std::uint64_t h = seed;
    const token_id* end = tokens.data();
    for (std::uint64_t& hash : out) {
      end += chunk_tokens_;
      hash = h = next(h, end - sampled());
    }
  }
  // Both. May throw std::bad_alloc.
  void compute(std::span<const token_id> tokens, std::uint64_t seed,
               std::vector<std::uint64_t>& out) const {
    make_room(tokens, out);
    fill(tokens, seed, out);
  }

 private:
  std::uint32_t chunk_tokens_;
  std::uint64_t secret_;
  path_hasher hasher_;
};

}  // namespace radixkv::detail
