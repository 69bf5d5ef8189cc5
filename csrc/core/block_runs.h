// Runs of consecutive block ids in a list: b, b + 1, b + 2 … A pool hands ids out in runs, so most
// lists are few of them. Sixteen ids are compared at once, and so the end of a run is found.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "csrc/core/token_ops.h"
#include "radixkv/types.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace radixkv::detail {

// Bit k is set if ids[k] is first + k, for k < 16.
[[nodiscard]] inline std::uint32_t follows_on(const block_id* ids, block_id first) noexcept {
#if defined(__SSE2__)
  const auto* const x = reinterpret_cast<const __m128i*>(ids);
  const __m128i four = _mm_set1_epi32(4);
  const __m128i w = _mm_add_epi32(_mm_set1_epi32(first), _mm_setr_epi32(0, 1, 2, 3));
  const __m128i w1 = _mm_add_epi32(w, four);
  const __m128i w2 = _mm_add_epi32(w1, four);
  const __m128i w3 = _mm_add_epi32(w2, four);
  const __m128i a = _mm_cmpeq_epi32(_mm_loadu_si128(x), w);
  const __m128i b = _mm_cmpeq_epi32(_mm_loadu_si128(x + 1), w1);
  const __m128i c = _mm_cmpeq_epi32(_mm_loadu_si128(x + 2), w2);
  const __m128i d = _mm_cmpeq_epi32(_mm_loadu_si128(x + 3), w3);
  const __m128i all = _mm_packs_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d));
  return static_cast<std::uint32_t>(_mm_movemask_epi8(all));
#else
  std::uint32_t mask = 0;
  for (std::uint32_t k = 0; k < 16; ++k) {
    mask |= static_cast<std::uint32_t>(ids[k] == first + static_cast<block_id>(k)) << k;
  }
  return mask;
#endif
}

// Writes n ids, first, first + 1 …, at `to`; up to 15 behind them, but none at `end`, may be
// overwritten. Runs are mostly short and of any length, so that an exact end costs more than what
// it saves: a branch that is not foreseen.
inline void write_ascending(block_id* to, std::size_t n, const block_id* end,
                            block_id first) noexcept {
  std::size_t i = 0;
#if defined(__SSE2__)
  const auto room = static_cast<std::size_t>(end - to);
  const __m128i four = _mm_set1_epi32(4);
  __m128i x = _mm_add_epi32(_mm_set1_epi32(first), _mm_setr_epi32(0, 1, 2, 3));
  for (; i < n && i + 16 <= room; i += 16) {
    auto* const at = reinterpret_cast<__m128i*>(to + i);
    for (int k = 0; k < 4; ++k) {
      _mm_storeu_si128(at + k, x);
      x = _mm_add_epi32(x, four);
    }
  }
#else
  (void)end;
#endif
  for (; i < n; ++i) to[i] = first + static_cast<block_id>(i);
}

// How many ids from the first on follow one another. REQUIRES: !ids.empty().
[[nodiscard]] inline std::size_t ascending(std::span<const block_id> ids) noexcept {
  const std::size_t n = ids.size();
  const auto after = [&](std::size_t i) { return ids[0] + static_cast<block_id>(i); };
  std::size_t i = 1;
  for (std::size_t same = 16; i + 16 <= n; i += same) {
    same = static_cast<std::size_t>(std::countr_one(follows_on(&ids[i], after(i))));
    if (same < 16) return i + same;
  }
  while (i < n && ids[i] == after(i)) ++i;
  return i;
}

// How many ids up to the last one follow one another. REQUIRES: !ids.empty().
[[nodiscard]] inline std::size_t ascending_to_end(std::span<const block_id> ids) noexcept {
  const std::size_t n = ids.size();
  const auto before = [&](std::size_t i) { return ids[n - 1] - static_cast<block_id>(i); };
  std::size_t i = 1;
  for (std::size_t same = 16; i + 16 <= n; i += same) {
    // Backwards through memory that is mostly cold.
    if (constexpr std::size_t ahead = 64; i + ahead <= n) prefetch(&ids[n - i - ahead]);
    const std::uint32_t mask = follows_on(&ids[n - i - 16], before(i + 15));
    same = static_cast<std::size_t>(std::countl_one(mask << 16));
    if (same < 16) return i + same;
  }
  while (i < n && ids[n - i - 1] == before(i)) ++i;
  return i;
}

}  // namespace radixkv::detail
