// Builds with AddressSanitizer or ThreadSanitizer look for other defects and take several times as
// long: there random tests repeat less, and large ones are smaller.
#pragma once

namespace radixkv {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

}  // namespace radixkv
