// What a cache that has evicted nothing must match: a plain trie of every published token.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "radixkv/types.h"

namespace radixkv::testing {

class published_prefixes {
 public:
  static constexpr token_id alphabet = 4;  // tokens are below it
  static constexpr std::size_t spaces = 3;

  published_prefixes() { clear(); }
  void clear() {
    nodes_.clear();
    nodes_.resize(spaces);
  }
  void add(std::size_t space, std::span<const token_id> tokens) {
    std::size_t n = space;
    for (const token_id t : tokens) {
      std::uint32_t next = nodes_[n][t];
      if (next == 0) {
        next = static_cast<std::uint32_t>(nodes_.size());
        nodes_[n][t] = next;
        nodes_.emplace_back();
      }
      n = next;
    }
  }
  // Tokens of the longest published prefix.
  [[nodiscard]] std::int64_t longest(std::size_t space, std::span<const token_id> tokens) const {
    std::int64_t depth = 0;
    std::size_t n = space;
    for (const token_id t : tokens) {
      n = nodes_[n][t];
      if (n == 0) break;
      ++depth;
    }
    return depth;
  }

 private:
  std::vector<std::array<std::uint32_t, alphabet>> nodes_;  // child by token, 0: none
};

}  // namespace radixkv::testing
