#include "csrc/core/crc32.h"

#include <array>
#include <bit>
#include <cstring>

namespace radixkv::detail {

namespace {

// tables[k][b]: the remainder of byte b followed by k zero bytes, so that eight bytes are folded at
// once ("slicing by 8", Kounavis and Berry, 2005).
using table_set = std::array<std::array<std::uint32_t, 256>, 8>;

constexpr table_set make_tables() {
  table_set t{};
  for (std::uint32_t b = 0; b < 256; ++b) {
    std::uint32_t r = b;
    for (int bit = 0; bit < 8; ++bit) r = (r >> 1) ^ ((r & 1) ? 0xedb88320u : 0);
    t[0][b] = r;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t b = 0; b < 256; ++b) {
      t[k][b] = (t[k - 1][b] >> 8) ^ t[0][t[k - 1][b] & 0xff];
    }
  }
  return t;
}

constexpr table_set tables = make_tables();

}  // namespace

std::uint32_t crc32(std::span<const std::byte> bytes) noexcept {
  static_assert(std::endian::native == std::endian::little);
  std::uint32_t crc = 0xffffffffu;
  const std::byte* p = bytes.data();
  std::size_t n = bytes.size();
  for (; n >= 8; n -= 8, p += 8) {
    std::uint64_t v;
    std::memcpy(&v, p, 8);
    v ^= crc;
    crc = 0;
    for (std::size_t k = 0; k < 8; ++k) crc ^= tables[7 - k][(v >> (8 * k)) & 0xff];
  }
  for (; n > 0; --n, ++p) {
    crc = (crc >> 8) ^ tables[0][(crc ^ std::to_integer<std::uint32_t>(*p)) & 0xff];
  }
  return ~crc;
}

}  // namespace radixkv::detail
