// block_copy with many planes, and with many segments to a plane.
#include <random>

#include "radixkv/layout.h"
#include "tests/cuda/block_copy_pool.h"

namespace radixkv::kernels {
namespace {

TEST(block_copy_planes, many_planes_of_mixed_kinds_in_one_launch) {
  std::mt19937 random(14);
  for (const std::uint32_t count : {1u, 31u, 33u, 121u, 385u, 1000u, 1001u, 1500u}) {
    SCOPED_TRACE(count);
    std::vector<plane_shape> shapes;
    for (std::uint32_t i = 0; i < count; ++i) {
      switch (random() % 3) {
        case 0:
          shapes.push_back({1, 64, 0, 0, 0});
          break;
        case 1:
          shapes.push_back({4, 16, 16, 0, 0});
          break;
        default:
          shapes.push_back({2, 4, 4, 8, 4});
          break;
      }
    }
    pool p = make_pool(6, 4, shapes, 14);
    run_and_compare(p, random_items(p, 3, random));
    if (HasFatalFailure()) return;
  }
}

// As many as a layout may have, each of so many tiles that eight warps would share it, which makes
// more groups of planes than a grid has room for. The planes lie a token apart, and one is copied.
TEST(block_copy_planes, as_many_as_a_layout_may_have_of_long_blocks) {
  constexpr std::uint32_t count = max_planes, token_bytes = 16, block_tokens = 3840;
  constexpr std::size_t stride = std::size_t{count} * token_bytes;
  std::vector<std::uint32_t> start(2 * stride / 4);
  std::mt19937 random(20);
  for (std::uint32_t& word : start) word = static_cast<std::uint32_t>(random());
  device_array<std::uint32_t> memory(start);
  std::vector<plane> planes;
  for (std::uint32_t i = 0; i < count; ++i) {
    planes.push_back({reinterpret_cast<std::byte*>(memory.data()) + std::size_t{i} * token_bytes,
                      stride, 0, 1, token_bytes});
  }
  device_array<plane> device_planes(planes);
  device_array<block_copy_item> items(std::vector<block_copy_item>{{0, 1, 1}, {0, 2, 1}});
  device_array<std::uint32_t> rejected(std::vector<std::uint32_t>{0});
  test_stream stream;
  block_copy_arguments a;
  a.items = items.data();
  a.item_count = 2;
  a.rejected = rejected.data();
  RADIXKV_ASSERT_CUDA(
      block_copy(stream, planes_of(planes, 2, block_tokens, device_planes.data()), a));
  stream.synchronize();
  std::copy_n(start.begin(), stride / 4, start.begin() + stride / 4);
  EXPECT_EQ(memory.download(), start);
  EXPECT_EQ(rejected.download()[0], 1u);  // counted once
}

// Segments of whole tiles at other phases than the first one reach into one tile more than it.
TEST(block_copy_planes, segments_at_other_phases_than_the_first) {
  std::mt19937 random(21);
  constexpr std::size_t tile_bytes = 4096;
  for (const std::size_t phase : {0, 5, 16, 127}) {
    for (const std::size_t gap : {1, 8, 16, 100, 127}) {
      for (const std::size_t bytes :
           {tile_bytes - 127, tile_bytes - 1, tile_bytes, 2 * tile_bytes}) {
        SCOPED_TRACE(::testing::Message()
                     << "phase " << phase << ", gap " << gap << ", " << bytes << " bytes");
        const plane_shape shape{5, static_cast<std::uint32_t>(bytes), phase, gap, random() % 130};
        pool p = make_pool(4, 1, std::span(&shape, 1), 21);
        run_and_compare(p, random_items(p, 2, random));
        if (HasFatalFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace radixkv::kernels
