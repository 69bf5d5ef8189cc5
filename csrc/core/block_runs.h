// Runs of consecutive block ids in a list: b, b + 1, b + 2 … A pool hands ids out in runs, so most
// lists are few of them. Compared sixteen ids at once while runs are long, four where they have
// become short; in vectors of the compiler's, which does not make them of a plain loop.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "radixkv/types.h"

namespace radixkv::detail {

// True if ids[k] is first + k for all k < 4 × vectors.
template <std::size_t vectors>
[[nodiscard]] inline bool follow_on(const block_id* ids, block_id first) noexcept {
  typedef block_id ids4 __attribute__((vector_size(16)));
  ids4 wanted = {first, first + 1, first + 2, first + 3};
  ids4 differs = {};
  for (std::size_t k = 0; k < vectors; ++k) {
    ids4 x;
    std::memcpy(&x, ids + 4 * k, sizeof x);
    differs |= x ^ wanted;
    wanted += 4;
  }
  const auto halves = std::bit_cast<std::array<std::uint64_t, 2>>(differs);
  return (halves[0] | halves[1]) == 0;
}

// How many ids from the first on follow one another. REQUIRES: !ids.empty().
[[nodiscard]] inline std::size_t ascending(std::span<const block_id> ids) noexcept {
  const std::size_t n = ids.size();
  const auto after = [&](std::size_t i) { return ids[0] + static_cast<block_id>(i); };
  std::size_t i = 1;
  while (i + 16 <= n && follow_on<4>(&ids[i], after(i))) i += 16;
  while (i + 4 <= n && follow_on<1>(&ids[i], after(i))) i += 4;
  while (i < n && ids[i] == after(i)) ++i;
  return i;
}

}  // namespace radixkv::detail
