// One mixing function for what is generated: tokens of a trace, bytes of a token.
#pragma once

#include <cstdint>

namespace radixkv::cli {

// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a bijection that mixes well.
constexpr std::uint64_t mixed(std::uint64_t x) noexcept {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

}  // namespace radixkv::cli
