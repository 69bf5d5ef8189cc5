// Keyed hash of a token prefix, the same on the host and on the device.
//
// A block is cut into units of at most 16 tokens; a unit's digest is a sum of products with secret
// multipliers (multilinear hashing, Lemire and Kaser 2014; 32-bit products summed to 64 bits). The
// prefix's hash is root(namespace) + Σ mix(digest(unit i) + i × step): a sum, so that it can be
// computed in parallel, in any order and from any point on. A hash is never trusted: whoever finds
// an entry by it compares tokens and the parent block, so that a collision costs time and nothing
// else.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define RADIXKV_HOST_DEVICE __host__ __device__
#else
#define RADIXKV_HOST_DEVICE
#endif

namespace radixkv::kernels {

inline constexpr std::uint32_t max_unit_tokens = 16;
// Sums are kept modulo 2⁶²: a published sum shares its 8 bytes with two bits of state.
inline constexpr std::uint32_t max_hash_bits = 62;
inline constexpr std::uint64_t hash_sum_mask = (std::uint64_t{1} << max_hash_bits) - 1;

// What a token is multiplied with, for the two sums of a digest.
struct alignas(8) unit_multipliers {
  std::uint32_t low;
  std::uint32_t high;
};

// The secrets of one index. All ranks that share an index's updates need the same one.
struct prefix_hash_key {
  unit_multipliers multipliers[max_unit_tokens];  // by position in a unit
  std::uint64_t step;
  std::uint64_t root;
  std::uint64_t mixers[2];
  std::uint64_t mask;  // of the bits of a prefix's hash that the index uses
};

RADIXKV_HOST_DEVICE inline std::uint64_t mix(const prefix_hash_key& key, std::uint64_t x) {
  x = (x ^ (x >> 32)) * key.mixers[0];
  x = (x ^ (x >> 29)) * key.mixers[1];
  return x ^ (x >> 32);
}

// The digest of a unit while its tokens are added, in order of their position.
struct unit_digest {
  std::uint64_t low = 0;
  std::uint64_t high = 0;

  // The multipliers are those of the token's position in the unit.
  RADIXKV_HOST_DEVICE void add(const unit_multipliers& by, std::uint32_t token) {
#if defined(__CUDA_ARCH__)
    // One instruction each; the compiler would multiply and add.
    asm("mad.wide.u32 %0, %1, %2, %0;" : "+l"(low) : "r"(token), "r"(by.low));
    asm("mad.wide.u32 %0, %1, %2, %0;" : "+l"(high) : "r"(token), "r"(by.high));
#else
    low += std::uint64_t{token} * by.low;
    high += std::uint64_t{token} * by.high;
#endif
  }
  RADIXKV_HOST_DEVICE std::uint64_t value() const { return low + (high << 32 | high >> 32); }
};

// What unit `position` of a prompt adds to the hash of every prefix that contains it.
RADIXKV_HOST_DEVICE inline std::uint64_t unit_part(const prefix_hash_key& key, std::uint64_t digest,
                                                   std::uint64_t position) {
  return mix(key, digest + position * key.step);
}

// Hash of the empty prefix of a namespace.
RADIXKV_HOST_DEVICE inline std::uint64_t root_sum(const prefix_hash_key& key,
                                                  std::int32_t namespace_id) {
  return mix(key, key.root + static_cast<std::uint32_t>(namespace_id)) & hash_sum_mask;
}

// The key under which an index keeps the prefix whose sum this is.
RADIXKV_HOST_DEVICE inline std::uint64_t index_key(const prefix_hash_key& key, std::uint64_t sum) {
  return sum & key.mask;
}

// Tokens of a unit and units of a block. block_tokens is a power of two.
RADIXKV_HOST_DEVICE inline std::uint32_t unit_tokens(std::uint32_t block_tokens) {
  return block_tokens < max_unit_tokens ? block_tokens : max_unit_tokens;
}
RADIXKV_HOST_DEVICE inline std::uint32_t block_units(std::uint32_t block_tokens) {
  return block_tokens / unit_tokens(block_tokens);
}

// The sum of the prefix that ends with a block, from the sum before it. `first_unit` is the number
// of units before the block.
inline std::uint64_t extend_sum(const prefix_hash_key& key, std::uint64_t sum,
                                std::uint64_t first_unit, const std::uint32_t* tokens,
                                std::uint32_t block_tokens) {
  const std::uint32_t unit = unit_tokens(block_tokens);
  for (std::uint32_t at = 0; at < block_tokens; at += unit) {
    unit_digest digest;
    for (std::uint32_t i = 0; i < unit; ++i) digest.add(key.multipliers[i], tokens[at + i]);
    sum += unit_part(key, digest.value(), first_unit++);
  }
  return sum & hash_sum_mask;
}

// Expands a random secret (splitmix64, Steele et al. 2014). `hash_bits` below 62 force collisions
// and are for tests. REQUIRES: 1 ≤ hash_bits ≤ 62.
inline prefix_hash_key make_prefix_hash_key(std::uint64_t secret,
                                            std::uint32_t hash_bits = max_hash_bits) {
  const auto next = [&secret] {
    std::uint64_t z = secret += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  };
  prefix_hash_key key = {};
  for (unit_multipliers& by : key.multipliers) {
    by = {static_cast<std::uint32_t>(next() >> 32) | 1,
          static_cast<std::uint32_t>(next() >> 32) | 1};
  }
  key.step = next() | 1;
  key.root = next();
  for (std::uint64_t& mixer : key.mixers) mixer = next() | 1;
  key.mask = (std::uint64_t{1} << hash_bits) - 1;
  return key;
}

}  // namespace radixkv::kernels
