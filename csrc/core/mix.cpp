#include "csrc/core/mix.h"

#include <chrono>

#include <sys/random.h>

namespace radixkv::detail {

#if defined(RADIXKV_DEBUG_CHECKS)
namespace {
thread_local bool fixed = false;
thread_local std::uint64_t state = 0;
}  // namespace

fixed_secrets::fixed_secrets(std::uint64_t seed) noexcept {
  fixed = true;
  state = seed;
}
fixed_secrets::~fixed_secrets() { fixed = false; }
#endif

std::uint64_t random_secret() {
#if defined(RADIXKV_DEBUG_CHECKS)
  if (fixed) {
    // splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
    std::uint64_t z = state += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
#endif
  std::uint64_t s = 0;
  if (getrandom(&s, sizeof s, GRND_NONBLOCK) == static_cast<ssize_t>(sizeof s)) return s;
  // Early boot only. Address-space randomisation and the clock are the best that is left.
  const auto now =
      static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  return fold_multiply(now ^ reinterpret_cast<std::uintptr_t>(&s), 0xd6e8feb86659fd93ull);
}

}  // namespace radixkv::detail
