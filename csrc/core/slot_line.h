// A cache line of slots of a hash table, looked at as a whole: which of them are empty, and which
// have a hash or name an id. A slot is 0 if it is empty; else the hash, and the complement of an id
// that is not 0xffffffff.
//
// Sets of slots are masks of 16 bits, two for each slot, of which one counts: first() gives the
// number of the lowest. Other threads may be writing: what a mask says is checked at the slot.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__)
#include <immintrin.h>
#endif

namespace radixkv::detail::slot_line {

using slot = std::atomic<std::uint64_t>;
static_assert(sizeof(slot) == sizeof(std::uint64_t));
inline constexpr std::size_t size = 8;
// What a line counts for among entries (step_count.h): these are quarters of a line.
inline constexpr std::uint64_t entries_counted = 4;

[[nodiscard]] inline std::uint64_t pack(std::uint32_t hash, std::uint32_t id) noexcept {
  return std::uint64_t{hash} << 32 | static_cast<std::uint32_t>(~id);
}
[[nodiscard]] inline std::uint32_t hash(std::uint64_t s) noexcept {
  return static_cast<std::uint32_t>(s >> 32);
}
[[nodiscard]] inline std::uint32_t id(std::uint64_t s) noexcept {
  return ~static_cast<std::uint32_t>(s);
}
[[nodiscard]] inline bool is(std::uint64_t s, std::uint32_t wanted) noexcept {
  return hash(s) == wanted && s != 0;
}
[[nodiscard]] inline std::size_t first(std::uint32_t mask) noexcept {
  return static_cast<std::size_t>(std::countr_zero(mask)) / 2;
}

#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__)

// Of the 16 words of the line, those that equal `word`.
[[nodiscard]] inline std::uint32_t equal_words(const slot* line, std::uint32_t word) noexcept {
  const auto* const x = reinterpret_cast<const __m128i*>(line);
  const __m128i w = _mm_set1_epi32(static_cast<int>(word));
  const __m128i a = _mm_cmpeq_epi32(_mm_load_si128(x), w);
  const __m128i b = _mm_cmpeq_epi32(_mm_load_si128(x + 1), w);
  const __m128i c = _mm_cmpeq_epi32(_mm_load_si128(x + 2), w);
  const __m128i d = _mm_cmpeq_epi32(_mm_load_si128(x + 3), w);
  const __m128i both = _mm_packs_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d));
  return static_cast<std::uint32_t>(_mm_movemask_epi8(both));
}
// The upper word of a slot is the hash, the lower one is 0 in an empty slot only.
[[nodiscard]] inline std::uint32_t same(const slot* line, std::uint32_t wanted) noexcept {
  return equal_words(line, wanted) & 0xaaaau;
}
[[nodiscard]] inline std::uint32_t empty(const slot* line) noexcept {
  return equal_words(line, 0) & 0x5555u;
}
[[nodiscard]] inline std::uint32_t naming(const slot* line, std::uint32_t id) noexcept {
  return equal_words(line, ~id) & 0x5555u;
}
// Those in use whose hash, shifted to the right, is not `home`.
[[nodiscard]] inline std::uint32_t strangers(const slot* line, int shift,
                                             std::uint32_t home) noexcept {
  const auto* const x = reinterpret_cast<const __m128i*>(line);
  const __m128i w = _mm_set1_epi32(static_cast<int>(home));
  const __m128i by = _mm_cvtsi32_si128(shift);
  const __m128i a = _mm_cmpeq_epi32(_mm_srl_epi32(_mm_load_si128(x), by), w);
  const __m128i b = _mm_cmpeq_epi32(_mm_srl_epi32(_mm_load_si128(x + 1), by), w);
  const __m128i c = _mm_cmpeq_epi32(_mm_srl_epi32(_mm_load_si128(x + 2), by), w);
  const __m128i d = _mm_cmpeq_epi32(_mm_srl_epi32(_mm_load_si128(x + 3), by), w);
  const __m128i at_home = _mm_packs_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d));
  return ~(static_cast<std::uint32_t>(_mm_movemask_epi8(at_home)) | empty(line) << 1) & 0xaaaau;
}

#else

[[nodiscard]] inline std::uint32_t same(const slot* line, std::uint32_t wanted) noexcept {
  std::uint32_t mask = 0;
  for (std::size_t i = 0; i < size; ++i) {
    const std::uint64_t s = line[i].load(std::memory_order_relaxed);
    mask |= static_cast<std::uint32_t>(hash(s) == wanted) << (2 * i + 1);
  }
  return mask;
}
[[nodiscard]] inline std::uint32_t empty(const slot* line) noexcept {
  std::uint32_t mask = 0;
  for (std::size_t i = 0; i < size; ++i) {
    mask |= static_cast<std::uint32_t>(line[i].load(std::memory_order_relaxed) == 0) << (2 * i);
  }
  return mask;
}
[[nodiscard]] inline std::uint32_t naming(const slot* line, std::uint32_t wanted) noexcept {
  std::uint32_t mask = 0;
  for (std::size_t i = 0; i < size; ++i) {
    const std::uint64_t s = line[i].load(std::memory_order_relaxed);
    mask |= static_cast<std::uint32_t>(id(s) == wanted) << (2 * i);
  }
  return mask;
}
[[nodiscard]] inline std::uint32_t strangers(const slot* line, int shift,
                                             std::uint32_t home) noexcept {
  std::uint32_t mask = 0;
  for (std::size_t i = 0; i < size; ++i) {
    const std::uint64_t s = line[i].load(std::memory_order_relaxed);
    mask |= static_cast<std::uint32_t>(s != 0 && hash(s) >> shift != home) << (2 * i + 1);
  }
  return mask;
}

#endif

}  // namespace radixkv::detail::slot_line
