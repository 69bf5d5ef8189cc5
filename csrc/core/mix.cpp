#include "csrc/core/mix.h"

#include <chrono>

#include <sys/random.h>

namespace radixkv::detail {

std::uint64_t random_secret() {
  std::uint64_t s = 0;
  if (getrandom(&s, sizeof s, GRND_NONBLOCK) == static_cast<ssize_t>(sizeof s)) return s;
  // Early boot only. Address-space randomisation and the clock are the best that is left.
  const auto now =
      static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  return fold_multiply(now ^ reinterpret_cast<std::uintptr_t>(&s), 0xd6e8feb86659fd93ull);
}

}  // namespace radixkv::detail
