// Where the bytes of a block are: the only place that turns a block id into an address.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#define RADIXKV_HOST_DEVICE __host__ __device__
#else
#define RADIXKV_HOST_DEVICE
#endif

namespace radixkv::kernels {

// A strided array of blocks. A block holds `inner_count` segments (heads in HND layouts, 1 in NHD
// and MLA layouts) of block_tokens × bytes_per_token bytes. Strides are in bytes.
struct plane {
  std::byte* base;
  std::int64_t block_stride;
  std::int64_t inner_stride;
  std::uint32_t inner_count;
  std::uint32_t bytes_per_token;
};

// Address of the first byte of `token` in segment `inner` of `block`. 64-bit throughout: a pool of
// a few GiB overflows 32 bits long before the block id does.
RADIXKV_HOST_DEVICE inline std::byte* token_address(const plane& p, std::int32_t block,
                                                    std::uint32_t inner, std::uint32_t token) {
  return p.base + std::int64_t{block} * p.block_stride + std::int64_t{inner} * p.inner_stride +
         std::int64_t{token} * std::int64_t{p.bytes_per_token};
}

}  // namespace radixkv::kernels
