// What operations of the index and of policies cost, counted in what they look at: for tests of
// what hostile prompts can cost and what one tenant's calls tell of another. In builds with
// RADIXKV_DEBUG_CHECKS; elsewhere nothing is counted and nothing remains of the calls.
#pragma once

#include <cstdint>

namespace radixkv::detail {

// Of this thread, since it started.
struct step_counts {
  std::uint64_t nodes = 0;    // of the index, or runs of a policy: a line of memory each
  std::uint64_t blocks = 0;   // whose tokens were compared or written: those of a prompt, and a row
  std::uint64_t hashed = 0;   // blocks whose tokens were hashed
  std::uint64_t lookups = 0;  // in hash tables
  std::uint64_t entries =
      0;                    // read in order: slots of those tables, of the pool, of a policy's log
  std::uint64_t marks = 0;  // of hints, and sequences walked through

  friend bool operator==(const step_counts&, const step_counts&) = default;
};

#if defined(RADIXKV_DEBUG_CHECKS)
[[nodiscard]] inline step_counts& steps_of_thread() noexcept {
  thread_local step_counts counts;
  return counts;
}
inline void count_nodes(std::uint64_t n = 1) noexcept { steps_of_thread().nodes += n; }
inline void count_blocks(std::uint64_t n = 1) noexcept { steps_of_thread().blocks += n; }
inline void count_hashed(std::uint64_t n = 1) noexcept { steps_of_thread().hashed += n; }
inline void count_lookups(std::uint64_t n = 1) noexcept { steps_of_thread().lookups += n; }
inline void count_entries(std::uint64_t n = 1) noexcept { steps_of_thread().entries += n; }
inline void count_marks(std::uint64_t n = 1) noexcept { steps_of_thread().marks += n; }
#else
inline void count_nodes(std::uint64_t = 1) noexcept {}
inline void count_blocks(std::uint64_t = 1) noexcept {}
inline void count_hashed(std::uint64_t = 1) noexcept {}
inline void count_lookups(std::uint64_t = 1) noexcept {}
inline void count_entries(std::uint64_t = 1) noexcept {}
inline void count_marks(std::uint64_t = 1) noexcept {}
#endif

}  // namespace radixkv::detail
