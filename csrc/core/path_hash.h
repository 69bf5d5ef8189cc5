// Hash of a path as a sum over its blocks, so that it can be continued from any point of the path.
//
// digest(block) folds 64-bit products of keyed words (wyhash, Wang Yi 2019); the path's hash is
// Σ mix(digest(block i) + i × constant). All of it is keyed with random secrets: who chooses the
// tokens cannot choose collisions, and a collision costs time, never correctness.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "csrc/core/mix.h"
#include "csrc/core/token_ops.h"

namespace radixkv::detail {

class path_hasher {
 public:
  path_hasher() : path_hasher(32) {}
  // Keeps `bits` bits of each 32-bit table hash (fewer than 32 only in tests).
  explicit path_hasher(std::uint32_t bits) {
    for (auto& k : keys_) k = random_secret() | 1;
    mask_ = bits >= 32 ? 0xffffffffu : ~(0xffffffffu >> bits);
  }

  [[nodiscard]] std::uint64_t digest(const std::uint32_t* tokens, std::size_t n) const noexcept {
    std::uint64_t h = keys_[8] + n;
    while (n >= 16) {
      std::uint64_t w[8];
      load(w, tokens, 16);
      h = fold_multiply(h ^ four_products(w), keys_[9]);
      tokens += 16;
      n -= 16;
    }
    if (n > 0) {
      std::uint64_t w[8] = {};
      load(w, tokens, n);
      h = fold_multiply(h ^ four_products(w), keys_[10]);
    }
    return h;
  }

  // What block `index` of a path adds to its hash.
  [[nodiscard]] std::uint64_t block_part(std::uint64_t digest, std::uint64_t index) const noexcept {
    return fold_multiply(digest ^ keys_[11], (index * 0x9e3779b97f4a7c15ull) ^ keys_[12]);
  }

  // Start value for paths whose earlier part is not hashed.
  [[nodiscard]] std::uint64_t seed(std::uint64_t unique) const noexcept {
    return fold_multiply(unique ^ keys_[13], keys_[14]);
  }

  [[nodiscard]] std::uint32_t jump_hash(std::uint64_t path) const noexcept {
    return static_cast<std::uint32_t>(fold_multiply(path ^ keys_[15], keys_[16]) >> 32) & mask_;
  }
  [[nodiscard]] std::uint32_t child_hash(std::uint32_t parent, std::uint32_t token) const noexcept {
    const std::uint64_t both = std::uint64_t{parent} << 32 | token;
    return static_cast<std::uint32_t>(fold_multiply(both ^ keys_[17], keys_[18]) >> 32) & mask_;
  }
  // Heap order of a node among its siblings.
  [[nodiscard]] std::uint64_t priority(std::uint32_t node) const noexcept {
    return fold_multiply(node ^ keys_[19], keys_[20]);
  }

 private:
  static void load(std::uint64_t* w, const std::uint32_t* tokens, std::size_t n) noexcept {
#if defined(__SANITIZE_THREAD__)
    std::uint32_t copy[16];
    copy_words(copy, tokens, n);
    std::memcpy(w, copy, n * 4);
#else
    std::memcpy(w, tokens, n * 4);
#endif
  }
  [[nodiscard]] std::uint64_t four_products(const std::uint64_t* w) const noexcept {
    return fold_multiply(w[0] ^ keys_[0], w[1] ^ keys_[1]) +
           fold_multiply(w[2] ^ keys_[2], w[3] ^ keys_[3]) +
           fold_multiply(w[4] ^ keys_[4], w[5] ^ keys_[5]) +
           fold_multiply(w[6] ^ keys_[6], w[7] ^ keys_[7]);
  }

  std::array<std::uint64_t, 21> keys_{};
  std::uint32_t mask_ = 0xffffffffu;
};

}  // namespace radixkv::detail
