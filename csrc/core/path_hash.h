// Hash of a path as a sum over its blocks, so that it can be continued from any point of the path.
//
// digest(block) takes 16 tokens at a time: NH (Black, Halevi, Krawczyk, Krovetz and Rogaway, UMAC,
// CRYPTO 1999), a sum of 64-bit products of keyed words, folded into a chain (wyhash, Wang Yi
// 2019). The path's hash is Σ mix(digest(block i), i). All of it is keyed with random secrets: who
// chooses the tokens cannot choose collisions, and a collision costs time, never correctness.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

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

  // Of n ≥ 1 tokens; those of as many tokens compare.
  [[nodiscard]] std::uint64_t digest(const std::uint32_t* tokens, std::size_t n) const noexcept {
    std::uint64_t h = 0;
    for (; n > words; tokens += words, n -= words) h = fold(h, products(tokens));
    if (n == words) return h + products(tokens);
    std::uint64_t sums[words / 2 + 1];
    product_sums(tokens, n, sums);
    return h + sums[(n + 1) / 2];
  }

  // What block `index` of a path adds to its hash.
  [[nodiscard]] std::uint64_t block_part(std::uint64_t digest, std::uint64_t index) const noexcept {
    return fold_multiply(digest ^ keys_[11], (index * 0x9e3779b97f4a7c15ull) ^ keys_[12]);
  }

  // Start value for paths whose earlier part is not hashed.
  [[nodiscard]] std::uint64_t seed(std::uint64_t unique) const noexcept {
    return fold_multiply(unique ^ keys_[13], keys_[14]);
  }

  // The blocks of a path go by windows of so many: the jump table knows hashes of paths up to a
  // window's end (and up to the first block).
  static constexpr std::uint32_t window = 4;
  static_assert((window & (window - 1)) == 0);
  // Blocks of its window behind block `index`.
  [[nodiscard]] static constexpr std::uint32_t left_of_window(std::uint64_t index) noexcept {
    return static_cast<std::uint32_t>(~index % window);
  }

  // Continues a path by `count` blocks of n tokens each, the first of which is number `index`, all
  // of one group: hashes[k] becomes the jump hash of the path up to the end of the group's window
  // k, for each that ends among them. Returns the path hash with all.
  static constexpr std::size_t group = 8;
  using group_hashes = std::array<std::uint32_t, group / window>;
  [[nodiscard]] std::uint64_t extend(std::uint64_t path, const std::uint32_t* tokens, std::size_t n,
                                     std::uint64_t index, std::size_t count,
                                     group_hashes& hashes) const noexcept;

  // Places in tables take two rounds of mixing: one leaves keys in equal steps in clusters (mix.h).
  [[nodiscard]] std::uint32_t jump_hash(std::uint64_t path) const noexcept {
    return static_cast<std::uint32_t>(fold_multiply(path, keys_[9]) >> 32) & mask_;
  }
  [[nodiscard]] std::uint32_t child_hash(std::uint32_t parent, std::uint32_t token) const noexcept {
    const std::uint64_t both = std::uint64_t{parent} << 32 | token;
    const std::uint64_t h = fold_multiply(both ^ keys_[17], keys_[18]);
    return static_cast<std::uint32_t>(fold_multiply(h, keys_[10]) >> 32) & mask_;
  }
  // Of the first `length` tokens of a child's first block, whose digest is given.
  [[nodiscard]] std::uint32_t prefix_hash(std::uint32_t parent, std::uint64_t digest,
                                          std::uint32_t length) const noexcept {
    const std::uint64_t where = std::uint64_t{parent} << 32 | length;
    const std::uint64_t h = fold_multiply(digest ^ keys_[15], where ^ keys_[16]);
    return static_cast<std::uint32_t>(fold_multiply(h, keys_[9]) >> 32) & mask_;
  }

 private:
  friend class leading_hashes;
  friend struct path_hash_avx2;
  static constexpr std::size_t words = 16;  // tokens hashed at a time

  [[nodiscard]] std::uint64_t fold(std::uint64_t h, std::uint64_t products) const noexcept {
    return fold_multiply(h + products, keys_[8]);
  }
  [[nodiscard]] std::uint32_t word_key(std::size_t i) const noexcept {
    return static_cast<std::uint32_t>(keys_[i / 2] >> (i % 2 * 32));
  }
  // sums[i] is the sum of the first i products of words 2j and 2j + 1 below, of n ≤ 16 tokens;
  // those behind them count as 0.
  void product_sums(const std::uint32_t* tokens, std::size_t n,
                    std::uint64_t* sums) const noexcept {
    std::uint32_t t[words] = {};
    copy_words(t, tokens, n);
    sums[0] = 0;
    for (std::size_t i = 0; i < words / 2; ++i) {
      sums[i + 1] = sums[i] + std::uint64_t{t[2 * i] + word_key(2 * i)} *
                                  (t[2 * i + 1] + word_key(2 * i + 1));
    }
  }

  // Σ (t₂ᵢ + k₂ᵢ)(t₂ᵢ₊₁ + k₂ᵢ₊₁), the sums modulo 2³². The keys are the first eight of keys_.
  [[nodiscard]] std::uint64_t products(const std::uint32_t* tokens) const noexcept {
#if defined(__SANITIZE_THREAD__)
    std::uint32_t copy[words];
    copy_words(copy, tokens, words);
    tokens = copy;
#endif
#if defined(__SSE2__)
    const auto* t = reinterpret_cast<const __m128i*>(tokens);
    const auto* k = reinterpret_cast<const __m128i*>(keys_.data());
    __m128i sum = _mm_setzero_si128();
    for (int i = 0; i < 4; ++i) {
      const __m128i w = _mm_add_epi32(_mm_loadu_si128(t + i), _mm_loadu_si128(k + i));
      sum = _mm_add_epi64(sum, _mm_mul_epu32(w, _mm_srli_epi64(w, 32)));
    }
    sum = _mm_add_epi64(sum, _mm_unpackhi_epi64(sum, sum));
    return static_cast<std::uint64_t>(_mm_cvtsi128_si64(sum));
#else
    std::uint64_t sums[words / 2 + 1];
    product_sums(tokens, words, sums);
    return sums[words / 2];
#endif
  }

  alignas(16) std::array<std::uint64_t, 19> keys_{};
  std::uint32_t mask_ = 0xffffffffu;
};

}  // namespace radixkv::detail
