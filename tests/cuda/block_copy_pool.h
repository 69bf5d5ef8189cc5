// Pools of KV blocks for tests of block_copy: on the device, and on the host as an oracle.
#pragma once

#include <algorithm>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "kernels/block_copy.h"
#include "tests/cuda/cuda_test.h"

namespace radixkv::kernels {

using radixkv::testing::device_array;
using radixkv::testing::test_stream;

// A pool on the device with a mirror on the host, whose planes are at offsets into one allocation.
struct pool {
  std::vector<plane> planes;  // bases are offsets, as pointers
  std::int32_t blocks = 0;
  std::uint32_t block_tokens = 0;
  std::vector<std::byte> mirror;
};

inline std::size_t offset_of(const plane& p, std::int32_t block, std::uint32_t inner,
                             std::uint32_t token) {
  return reinterpret_cast<std::size_t>(p.base) +
         static_cast<std::size_t>(std::int64_t{block} * p.block_stride +
                                  std::int64_t{inner} * p.inner_stride +
                                  std::int64_t{token} * p.bytes_per_token);
}

inline void copy_on_host(pool& pool, std::span<const block_copy_item> items) {
  for (const block_copy_item& item : items) {
    for (const plane& p : pool.planes) {
      for (std::uint32_t i = 0; i < p.inner_count; ++i) {
        for (std::int32_t t = 0; t < item.tokens; ++t) {
          std::memcpy(pool.mirror.data() + offset_of(p, item.destination, i, t),
                      pool.mirror.data() + offset_of(p, item.source, i, t), p.bytes_per_token);
        }
      }
    }
  }
}

struct plane_shape {
  std::uint32_t inner_count, bytes_per_token;
  std::size_t phase;        // of the base, bytes beyond a multiple of 256
  std::size_t segment_gap;  // bytes between segments
  std::size_t block_gap;    // bytes between blocks
};

inline void add_plane(pool& pool, const plane_shape& s) {
  const std::size_t begin = (pool.mirror.size() + 255) / 256 * 256 + s.phase;
  plane p{};
  p.base = reinterpret_cast<std::byte*>(begin);
  p.inner_count = s.inner_count;
  p.bytes_per_token = s.bytes_per_token;
  p.inner_stride = static_cast<std::int64_t>(pool.block_tokens * s.bytes_per_token + s.segment_gap);
  p.block_stride = p.inner_stride * s.inner_count + static_cast<std::int64_t>(s.block_gap);
  pool.planes.push_back(p);
  pool.mirror.resize(begin + static_cast<std::size_t>(p.block_stride) * pool.blocks);
}

template <class Random>
void fill(pool& pool, Random& random) {
  for (std::byte& b : pool.mirror) b = static_cast<std::byte>(random());
}

// Independent copies: sources from the lower half of the blocks, destinations from the upper half.
template <class Random>
std::vector<block_copy_item> random_items(const pool& pool, std::size_t count, Random& random) {
  std::vector<std::int32_t> destinations;
  for (std::int32_t b = pool.blocks / 2; b < pool.blocks; ++b) destinations.push_back(b);
  std::shuffle(destinations.begin(), destinations.end(), random);
  destinations.resize(std::min(count, destinations.size()));
  std::vector<block_copy_item> items;
  for (const std::int32_t d : destinations) {
    const bool whole = random() % 3 == 0;
    items.push_back({static_cast<std::int32_t>(random() % (pool.blocks / 2)), d,
                     whole ? static_cast<std::int32_t>(pool.block_tokens)
                           : static_cast<std::int32_t>(1 + random() % pool.block_tokens)});
  }
  return items;
}

inline block_copy_planes planes_of(std::span<const plane> planes, std::int32_t block_count,
                                   std::uint32_t block_tokens,
                                   const plane* device_planes = nullptr) {
  block_copy_planes all;
  radixkv::testing::require_cuda(all.set(planes, block_count, block_tokens, device_planes));
  return all;
}

inline std::vector<plane> placed(const pool& pool, std::byte* memory) {
  std::vector<plane> planes = pool.planes;
  for (plane& p : planes) p.base = memory + reinterpret_cast<std::size_t>(p.base);
  return planes;
}

inline void run_and_compare(pool& pool, const std::vector<block_copy_item>& items,
                            std::uint32_t max_thread_blocks = 1u << 15) {
  test_stream stream;
  device_array<std::byte> memory(pool.mirror);
  device_array<block_copy_item> device_items(items);
  const std::vector<plane> planes = placed(pool, memory.data());
  device_array<plane> device_planes(planes);
  block_copy_arguments a;
  a.items = device_items.data();
  a.item_count = static_cast<std::uint32_t>(items.size());
  a.max_thread_blocks = max_thread_blocks;
  RADIXKV_ASSERT_CUDA(
      block_copy(stream,
                 planes_of(planes, pool.blocks, pool.block_tokens,
                           planes.size() > max_parameter_planes ? device_planes.data() : nullptr),
                 a));
  stream.synchronize();
  copy_on_host(pool, items);
  const std::vector<std::byte> got = memory.download();
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(static_cast<int>(got[i]), static_cast<int>(pool.mirror[i])) << "byte " << i;
  }
}

inline pool make_pool(std::int32_t blocks, std::uint32_t block_tokens,
                      std::span<const plane_shape> shapes, std::uint32_t seed) {
  pool p;
  p.blocks = blocks;
  p.block_tokens = block_tokens;
  for (const plane_shape& s : shapes) add_plane(p, s);
  std::mt19937 random(seed);
  fill(p, random);
  return p;
}

}  // namespace radixkv::kernels
