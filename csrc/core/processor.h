// What the processor at hand is and can do, asked once.
#pragma once

namespace radixkv::detail {

#if defined(__x86_64__)
[[nodiscard]] inline bool is_amd() noexcept {
  __builtin_cpu_init();  // may be asked before main()
  return __builtin_cpu_is("amd") != 0;
}
[[nodiscard]] inline bool supports_avx2() noexcept {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") != 0;
}
#else
[[nodiscard]] inline bool is_amd() noexcept { return false; }
[[nodiscard]] inline bool supports_avx2() noexcept { return false; }
#endif

// False until it is set, before main(): who comes earlier does without.
inline const bool have_avx2 = supports_avx2();

}  // namespace radixkv::detail
