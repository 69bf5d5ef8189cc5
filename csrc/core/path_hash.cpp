// Hashing several blocks of a path at once, for those who look far ahead.
#include "csrc/core/path_hash.h"

#include "csrc/core/processor.h"

namespace radixkv::detail {

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)

struct path_hash_avx2 {
  // As path_hasher::products.
  [[gnu::target("avx2"), gnu::always_inline]] static std::uint64_t products(
      const std::uint32_t* tokens, __m256i k0, __m256i k1) noexcept {
    const auto* t = reinterpret_cast<const __m256i*>(tokens);
    const __m256i a = _mm256_add_epi32(_mm256_loadu_si256(t), k0);
    const __m256i b = _mm256_add_epi32(_mm256_loadu_si256(t + 1), k1);
    const __m256i sums = _mm256_add_epi64(_mm256_mul_epu32(a, _mm256_srli_epi64(a, 32)),
                                          _mm256_mul_epu32(b, _mm256_srli_epi64(b, 32)));
    __m128i sum = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    sum = _mm_add_epi64(sum, _mm_unpackhi_epi64(sum, sum));
    return static_cast<std::uint64_t>(_mm_cvtsi128_si64(sum));
  }

  // As path_hasher::extend with a whole group of blocks of 16 tokens.
  [[gnu::target("avx2")]] static std::uint64_t extend(const path_hasher& hasher, std::uint64_t path,
                                                      const std::uint32_t* tokens,
                                                      std::uint64_t index,
                                                      path_hasher::group_hashes& hashes) noexcept {
    const auto* keys = reinterpret_cast<const __m256i*>(hasher.keys_.data());
    const __m256i k0 = _mm256_loadu_si256(keys);
    const __m256i k1 = _mm256_loadu_si256(keys + 1);
    for (std::size_t i = 0; i < path_hasher::group; ++i) {
      path += hasher.block_part(products(tokens + i * path_hasher::words, k0, k1), index + i);
      if (i % path_hasher::window == path_hasher::window - 1) {
        hashes[i / path_hasher::window] = hasher.jump_hash(path);
      }
    }
    return path;
  }
};

#endif

std::uint64_t path_hasher::extend(std::uint64_t path, const std::uint32_t* tokens, std::size_t n,
                                  std::uint64_t index, std::size_t count,
                                  group_hashes& hashes) const noexcept {
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
  if (n == words && count == group && have_avx2) {
    return path_hash_avx2::extend(*this, path, tokens, index, hashes);
  }
#endif
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t block = index + i;
    path += block_part(digest(tokens + i * n, n), block);
    if (left_of_window(block) == 0) hashes[block % group / window] = jump_hash(path);
  }
  return path;
}

}  // namespace radixkv::detail
