// CRC-32 as in IEEE 802.3 and zlib: polynomial 0x04c11db7, reflected.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace radixkv::detail {

[[nodiscard]] std::uint32_t crc32(std::span<const std::byte> bytes) noexcept;

}  // namespace radixkv::detail
