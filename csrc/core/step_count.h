// What operations of the index and of policies cost, counted in what they look at: for tests of
// what hostile prompts can cost and what one tenant's calls tell of another. In builds with
// RADIXKV_DEBUG_CHECKS; elsewhere nothing is counted and nothing remains of the calls.
#pragma once

#include <cstdint>

namespace radixkv::detail {

// Of this thread, since it started.
struct step_counts {
  std::uint64_t nodes = 0;        // of the index, or runs of a policy: a line of memory each
  std::uint64_t token_lines = 0;  // of 16 tokens, compared or written: a prompt's, and a row's
  std::uint64_t hashed = 0;       // lines of 16 tokens that were hashed
  std::uint64_t lookups = 0;      // in hash tables
  std::uint64_t entries =
      0;                    // read in order: slots of those tables, of the pool, of a policy's log
  std::uint64_t marks = 0;  // of hints, and sequences walked through

  friend bool operator==(const step_counts&, const step_counts&) = default;
};

inline constexpr std::uint64_t tokens_of_line = 16;
[[nodiscard]] constexpr std::uint64_t lines_of_tokens(std::uint64_t n) noexcept {
  return (n + tokens_of_line - 1) / tokens_of_line;
}

#if defined(RADIXKV_DEBUG_CHECKS)
[[nodiscard]] inline step_counts& steps_of_thread() noexcept {
  thread_local step_counts counts;
  return counts;
}
inline void count_nodes(std::uint64_t n = 1) noexcept { steps_of_thread().nodes += n; }
inline void count_tokens(std::uint64_t n) noexcept {
  steps_of_thread().token_lines += lines_of_tokens(n);
}
inline void count_hashed(std::uint64_t tokens) noexcept {
  steps_of_thread().hashed += lines_of_tokens(tokens);
}
inline void count_lookups(std::uint64_t n = 1) noexcept { steps_of_thread().lookups += n; }
inline void count_entries(std::uint64_t n = 1) noexcept { steps_of_thread().entries += n; }
inline void count_marks(std::uint64_t n = 1) noexcept { steps_of_thread().marks += n; }
#else
inline void count_nodes(std::uint64_t = 1) noexcept {}
inline void count_tokens(std::uint64_t) noexcept {}
inline void count_hashed(std::uint64_t) noexcept {}
inline void count_lookups(std::uint64_t = 1) noexcept {}
inline void count_entries(std::uint64_t = 1) noexcept {}
inline void count_marks(std::uint64_t = 1) noexcept {}
#endif

// A comparison of up to `reach` tokens, of which `common` were equal before it ended.
inline void count_compared(std::uint64_t common, std::uint64_t reach) noexcept {
  count_tokens(common < reach ? common + 1 : reach);
}
// The same without the first line, which was counted before.
inline void count_compared_further(std::uint64_t common, std::uint64_t reach) noexcept {
  if (common < tokens_of_line || reach <= tokens_of_line) return;
  count_compared(common - tokens_of_line, reach - tokens_of_line);
}

}  // namespace radixkv::detail
