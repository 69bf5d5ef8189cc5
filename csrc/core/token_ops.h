// Comparing and copying runs of 32-bit words (tokens, block ids) that other threads may be writing.
//
// A reader without a lock may compare words while they are being replaced; what it concludes is
// accepted only after the node's version was found unchanged (relaxed.h). Under ThreadSanitizer the
// accesses are relaxed atomics, so that every other race is still found; elsewhere they are as wide
// as the machine allows.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace radixkv::detail {

inline void prefetch(const void* p) noexcept { __builtin_prefetch(p, 0, 3); }

// Fetches the first of n words that will be read in order; the processor sees the rest coming.
inline void prefetch_ids(const std::uint32_t* p, std::size_t n) noexcept {
  constexpr std::size_t line_words = 16;
  for (std::size_t i = 0; i < (n < 4 * line_words ? n : 4 * line_words); i += line_words) {
    prefetch(p + i);
  }
}

#if defined(__SANITIZE_THREAD__)

inline std::uint32_t load_word(const std::uint32_t* p) noexcept {
  return std::atomic_ref<std::uint32_t>(*const_cast<std::uint32_t*>(p))
      .load(std::memory_order_relaxed);
}
inline void store_word(std::uint32_t* p, std::uint32_t v) noexcept {
  std::atomic_ref<std::uint32_t>(*p).store(v, std::memory_order_relaxed);
}
// Copies n words; the ranges do not overlap.
inline void copy_words(std::uint32_t* to, const std::uint32_t* from, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; ++i) store_word(to + i, load_word(from + i));
}
inline void stream_words(std::uint32_t* to, const std::uint32_t* from, std::size_t n) noexcept {
  copy_words(to, from, n);
}
// Number of leading words that are equal, at most n.
inline std::size_t common_prefix(const std::uint32_t* a, const std::uint32_t* b,
                                 std::size_t n) noexcept {
  std::size_t i = 0;
  while (i < n && load_word(a + i) == load_word(b + i)) ++i;
  return i;
}

#else

inline std::uint32_t load_word(const std::uint32_t* p) noexcept {
  return *static_cast<const volatile std::uint32_t*>(p);
}
inline void store_word(std::uint32_t* p, std::uint32_t v) noexcept {
  *static_cast<volatile std::uint32_t*>(p) = v;
}
inline void copy_words(std::uint32_t* to, const std::uint32_t* from, std::size_t n) noexcept {
  std::memcpy(to, from, n * sizeof(std::uint32_t));
}

// Copies n words past the caches, for a destination too large to stay in them: its lines are not
// read before they are overwritten, which is a third of a plain copy's traffic.
inline void stream_words(std::uint32_t* to, const std::uint32_t* from, std::size_t n) noexcept {
#if defined(__SSE2__)
  constexpr std::size_t line = 16;          // words
  constexpr std::size_t ahead = 12 * line;  // far enough for memory to answer
  const std::size_t lead = (0 - (reinterpret_cast<std::uintptr_t>(to) >> 2)) % line;
  if (n < lead + 4 * line) {
    copy_words(to, from, n);
    return;
  }
  copy_words(to, from, lead);
  std::size_t i = lead;
  for (; i + line <= n; i += line) {
    _mm_prefetch(reinterpret_cast<const char*>(from + i + ahead), _MM_HINT_NTA);
    const auto* x = reinterpret_cast<const __m128i*>(from + i);
    auto* y = reinterpret_cast<__m128i*>(to + i);
    const __m128i a = _mm_loadu_si128(x);
    const __m128i b = _mm_loadu_si128(x + 1);
    const __m128i c = _mm_loadu_si128(x + 2);
    const __m128i d = _mm_loadu_si128(x + 3);
    _mm_stream_si128(y, a);
    _mm_stream_si128(y + 1, b);
    _mm_stream_si128(y + 2, c);
    _mm_stream_si128(y + 3, d);
  }
  copy_words(to + i, from + i, n - i);
  // Streamed stores are not ordered by a later release store otherwise.
  _mm_sfence();
#else
  copy_words(to, from, n);
#endif
}

#if defined(__x86_64__)
// As equal_16, for callers that are compiled for AVX2.
[[gnu::target("avx2"), gnu::always_inline]] inline bool equal_16_avx2(
    const std::uint32_t* a, const std::uint32_t* b) noexcept {
  const auto* x = reinterpret_cast<const __m256i*>(a);
  const auto* y = reinterpret_cast<const __m256i*>(b);
  const __m256i d0 = _mm256_xor_si256(_mm256_loadu_si256(x), _mm256_loadu_si256(y));
  const __m256i d1 = _mm256_xor_si256(_mm256_loadu_si256(x + 1), _mm256_loadu_si256(y + 1));
  const __m256i d = _mm256_or_si256(d0, d1);
  return _mm256_testz_si256(d, d) != 0;
}
#endif

// True if the 16 words at a and b are equal.
inline bool equal_16(const std::uint32_t* a, const std::uint32_t* b) noexcept {
#if defined(__AVX2__)
  return equal_16_avx2(a, b);
#elif defined(__SSE2__)
  const auto* x = reinterpret_cast<const __m128i*>(a);
  const auto* y = reinterpret_cast<const __m128i*>(b);
  const __m128i e0 = _mm_cmpeq_epi32(_mm_loadu_si128(x), _mm_loadu_si128(y));
  const __m128i e1 = _mm_cmpeq_epi32(_mm_loadu_si128(x + 1), _mm_loadu_si128(y + 1));
  const __m128i e2 = _mm_cmpeq_epi32(_mm_loadu_si128(x + 2), _mm_loadu_si128(y + 2));
  const __m128i e3 = _mm_cmpeq_epi32(_mm_loadu_si128(x + 3), _mm_loadu_si128(y + 3));
  return _mm_movemask_epi8(_mm_and_si128(_mm_and_si128(e0, e1), _mm_and_si128(e2, e3))) == 0xffff;
#else
  std::uint64_t x[8];
  std::uint64_t y[8];
  std::memcpy(x, a, sizeof x);
  std::memcpy(y, b, sizeof y);
  std::uint64_t d = 0;
  for (int i = 0; i < 8; ++i) d |= x[i] ^ y[i];
  return d == 0;
#endif
}

inline std::size_t common_prefix(const std::uint32_t* a, const std::uint32_t* b,
                                 std::size_t n) noexcept {
  std::size_t i = 0;
  while (i + 16 <= n && equal_16(a + i, b + i)) i += 16;
  while (i < n && load_word(a + i) == load_word(b + i)) ++i;
  return i;
}

#endif

// True if the 2^shift words at a and b are equal.
inline bool equal_block(const std::uint32_t* a, const std::uint32_t* b,
                        std::uint32_t shift) noexcept {
#if !defined(__SANITIZE_THREAD__)
  if (shift == 4) return equal_16(a, b);
#endif
  const std::size_t n = std::size_t{1} << shift;
  return common_prefix(a, b, n) == n;
}

}  // namespace radixkv::detail
