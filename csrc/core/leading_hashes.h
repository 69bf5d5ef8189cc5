// Hashes of the first 1, 2, … tokens of a block below a node, as the trie of siblings knows them.
//
// The digest of a prefix (path_hash.h) is a sum over pairs of tokens: of 16 tokens all sums are
// made at once, so that a search by length reads the block once and not once for each length. Of
// longer blocks the 16 tokens that were asked for last are kept; with lengths as a binary search
// asks for them no more than twice the block is hashed up to 256 tokens, of 4,096 up to 4.75 times.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "csrc/core/path_hash.h"
#include "csrc/core/step_count.h"
#include "csrc/core/token_ops.h"

namespace radixkv::detail {

// Not thread-safe. The tokens must stay as they are; where they do not (readers without a lock)
// hashes are of no prefix that ever was, and lead to nothing.
class leading_hashes {
 public:
  leading_hashes() noexcept = default;
  // Of n tokens.
  leading_hashes(const path_hasher& hasher, std::uint32_t parent, const std::uint32_t* tokens,
                 std::uint32_t n) noexcept
      : hasher_(&hasher), tokens_(tokens), count_(n), parent_(parent) {}

  [[nodiscard]] const std::uint32_t* tokens() const noexcept { return tokens_; }
  [[nodiscard]] std::uint32_t count() const noexcept { return count_; }

  // path_hasher::digest of the first `length` tokens. REQUIRES: 1 ≤ length ≤ count().
  [[nodiscard]] std::uint64_t digest(std::uint32_t length) noexcept {
    const std::uint32_t part = (length - 1) / words;
    if (part != part_) load(part);
    const std::uint32_t last = (length - 1) % words;
    if (last % 2 != 0) return before_ + sums_[(last + 1) / 2];
    const std::uint64_t word{load_word(tokens_ + length - 1) + hasher_->word_key(last)};
    return before_ + sums_[last / 2] + word * hasher_->word_key(last + 1);
  }
  // What the trie of siblings knows them by.
  [[nodiscard]] std::uint32_t of(std::uint32_t length) noexcept {
    return hasher_->prefix_hash(parent_, digest(length), length);
  }

 private:
  static constexpr std::uint32_t words = path_hasher::words;
  static constexpr std::uint32_t nothing = ~std::uint32_t{0};

  void load(std::uint32_t part) noexcept {
    std::uint32_t at = part_;
    if (at == nothing || at > part) {
      at = 0;
      before_ = 0;
    } else {
      before_ = hasher_->fold(before_, sums_[words / 2]);
      ++at;
    }
    count_hashed(std::uint64_t{part - at + 1} * words);
    for (; at < part; ++at) {
      before_ = hasher_->fold(before_, hasher_->products(tokens_ + at * words));
    }
    part_ = part;
    hasher_->product_sums(tokens_ + part * words, std::min(words, count_ - part * words),
                          sums_.data());
  }

  const path_hasher* hasher_ = nullptr;
  const std::uint32_t* tokens_ = nullptr;
  std::uint32_t count_ = 0;
  std::uint32_t parent_ = 0;
  std::uint32_t part_ = nothing;  // of 16 tokens: that whose sums are known
  std::uint64_t before_ = 0;      // of the parts before it
  std::array<std::uint64_t, words / 2 + 1> sums_;
};

}  // namespace radixkv::detail
