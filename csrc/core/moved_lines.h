// Lines that hash tables have moved as they grew, of this thread: counted apart from step_count.h,
// whose figures are those of prompts, while an entry moves once for each doubling, whatever made
// it. In builds with RADIXKV_DEBUG_CHECKS; elsewhere nothing is counted.
#pragma once

#include <cstdint>

namespace radixkv::detail {

#if defined(RADIXKV_DEBUG_CHECKS)
[[nodiscard]] inline std::uint64_t& moved_lines_of_thread() noexcept {
  thread_local std::uint64_t lines = 0;
  return lines;
}
inline void count_moved_line() noexcept { ++moved_lines_of_thread(); }
#else
inline void count_moved_line() noexcept {}
#endif

}  // namespace radixkv::detail
