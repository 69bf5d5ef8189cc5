#include "csrc/core/row_lines.h"

#include "csrc/core/processor.h"

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#include <immintrin.h>
#endif

namespace radixkv::detail {

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)

namespace {

template <bool past_caches>
[[gnu::target("avx2")]] void write_lines_avx2(std::uint32_t* rows, std::span<const block_id> ids,
                                              const token_id* tokens) noexcept {
  constexpr std::size_t ahead = 12 * line_tokens;  // far enough for memory to answer
  for (const block_id id : ids) {
    const auto* const from = reinterpret_cast<const __m256i*>(tokens);
    auto* const to = reinterpret_cast<__m256i*>(rows + static_cast<std::size_t>(id) * line_tokens);
    const __m256i a = _mm256_loadu_si256(from);
    const __m256i b = _mm256_loadu_si256(from + 1);
    if constexpr (past_caches) {
      _mm_prefetch(reinterpret_cast<const char*>(tokens + ahead), _MM_HINT_NTA);
      _mm256_stream_si256(to, a);
      _mm256_stream_si256(to + 1, b);
    } else {
      _mm256_store_si256(to, a);
      _mm256_store_si256(to + 1, b);
    }
    tokens += line_tokens;
  }
  // Streamed stores are not ordered by a later release store otherwise.
  if constexpr (past_caches) _mm_sfence();
}

}  // namespace

std::size_t write_lines(std::uint32_t* rows, std::span<const block_id> ids, const token_id* tokens,
                        bool past_caches) noexcept {
  if (!have_avx2) return 0;
  if (past_caches) {
    write_lines_avx2<true>(rows, ids, tokens);
  } else {
    write_lines_avx2<false>(rows, ids, tokens);
  }
  return ids.size();
}

#else

std::size_t write_lines(std::uint32_t*, std::span<const block_id>, const token_id*, bool) noexcept {
  return 0;
}

#endif

}  // namespace radixkv::detail
