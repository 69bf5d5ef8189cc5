#include <algorithm>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/layout.h"

namespace radixkv {
namespace {

// Marks every byte of a layout; what a byte is marked with twice overlaps.
struct byte_map {
  bool within_plane = false;   // a byte is twice in one plane
  bool across_planes = false;  // a byte is in two planes
  std::uint64_t end = 0;

  explicit byte_map(const memory_layout& l) {
    std::vector<int> owner;
    for (std::size_t i = 0; i < l.planes.size(); ++i) {
      const plane_layout& p = l.planes[i];
      std::vector<bool> own;
      for (std::int64_t b = 0; b < l.blocks; ++b) {
        for (std::int64_t r = 0; r < p.inner_count; ++r) {
          for (std::int64_t n = 0; n < std::int64_t{l.block_tokens} * p.bytes_per_token; ++n) {
            const auto at =
                p.offset + static_cast<std::uint64_t>(b * p.block_stride + r * p.inner_stride + n);
            end = std::max(end, at + 1);
            if (own.size() <= at) own.resize(at + 1);
            if (owner.size() <= at) owner.resize(at + 1, -1);
            within_plane |= own[at];
            own[at] = true;
            across_planes |= owner[at] >= 0 && owner[at] != static_cast<int>(i);
            owner[at] = static_cast<int>(i);
          }
        }
      }
    }
  }
};

layout_shape small_shape() {
  return {.blocks = 5,
          .block_tokens = 4,
          .layers = 3,
          .heads = 2,
          .head_bytes = 6,
          .kv = 2,
          .scale_bytes = 0};
}

void expect_sound(const memory_layout& l, std::size_t planes, std::uint64_t payload) {
  ASSERT_TRUE(l.validate().ok()) << l.validate().error().message;
  ASSERT_TRUE(l.validate_disjoint().ok()) << l.validate_disjoint().error().message;
  EXPECT_EQ(l.planes.size(), planes);
  const byte_map map(l);
  EXPECT_FALSE(map.within_plane);
  EXPECT_FALSE(map.across_planes);
  EXPECT_EQ(map.end, l.bytes());
  std::uint64_t bytes = 0;
  for (const plane_layout& p : l.planes) {
    bytes +=
        static_cast<std::uint64_t>(l.blocks) * l.block_tokens * p.inner_count * p.bytes_per_token;
  }
  EXPECT_EQ(bytes, payload);
}

TEST(layout, the_usual_layouts_hold_every_byte_once) {
  layout_shape s = small_shape();
  const std::uint64_t tokens = 5 * 4 * 3;  // blocks × tokens × layers
  expect_sound(layout_nhd(s), 6, tokens * 2 * 12);
  expect_sound(layout_hnd(s), 6, tokens * 2 * 12);
  expect_sound(layout_slab(s), 6, tokens * 2 * 12);
  expect_sound(layout_mla(s, 9), 3, tokens * 9);
  s.scale_bytes = 2;
  expect_sound(layout_nhd(s), 12, tokens * 2 * (12 + 4));
  expect_sound(layout_hnd(s), 12, tokens * 2 * (12 + 4));
  expect_sound(layout_slab(s), 12, tokens * 2 * (12 + 4));
  expect_sound(layout_mla(s, 9), 6, tokens * (9 + 2));
  s.kv = 1;
  expect_sound(layout_hnd(s), 6, tokens * (12 + 4));
}

TEST(layout, the_usual_layouts_lie_where_engines_expect_them) {
  const layout_shape s = small_shape();
  const memory_layout slab = layout_slab(s);  // [block][layer][kv][token][head]
  for (std::size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(slab.planes[i].offset, i * 4 * 12);
    EXPECT_EQ(slab.planes[i].block_stride, 6 * 4 * 12);
  }
  const memory_layout hnd = layout_hnd(s);  // [block][head][token] per layer and K or V
  EXPECT_EQ(hnd.planes[1], (plane_layout{256, 48, 24, 2, 6}));
  const memory_layout nhd = layout_nhd(s);
  EXPECT_EQ(nhd.planes[2].offset, 512u);
  EXPECT_EQ(nhd.planes[2].block_stride, 48);
}

memory_layout one_plane(plane_layout p, std::int64_t blocks = 4, std::uint32_t tokens = 2) {
  memory_layout l;
  l.blocks = blocks;
  l.block_tokens = tokens;
  l.planes = {p};
  return l;
}

TEST(layout, each_refusal_names_value_and_limit) {
  const auto refused = [](const memory_layout& l, const std::string& part) {
    const status s = l.validate();
    ASSERT_FALSE(s.ok()) << part;
    EXPECT_EQ(s.error().code, errc::invalid_argument);
    EXPECT_NE(s.error().message.find(part), std::string::npos) << s.error().message;
  };
  const plane_layout good{0, 16, 8, 2, 4};
  ASSERT_TRUE(one_plane(good).validate().ok());
  refused(one_plane(good, 0), "blocks 0 is not in [1, 1073741824]");
  refused(one_plane(good, max_blocks + 1), "blocks 1073741825");
  refused(one_plane(good, 4, 0), "block_tokens 0 is not in [1, 4096]");
  refused(one_plane(good, 4, 4097), "block_tokens 4097");
  memory_layout none = one_plane(good);
  none.planes.clear();
  refused(none, "planes 0 is not in [1, 65536]");
  refused(one_plane({0, 16, 8, 2, 0}), "plane 0: bytes_per_token 0");
  refused(one_plane({0, 16, 8, 0, 4}), "plane 0: inner_count 0");
  refused(one_plane({0, -16, 8, 2, 4}), "plane 0: block_stride -16");
  refused(one_plane({0, 16, -8, 2, 4}), "plane 0: inner_stride -8");
  refused(one_plane({0, 15, 8, 2, 4}), "block_stride 15");
  refused(one_plane({0, 16, 7, 2, 4}), "inner_stride 7");
  refused(one_plane({0, 0, 8, 2, 4}), "blocks overlap");
  refused(one_plane({std::uint64_t{1} << 63, 16, 8, 2, 4}), "the limit is 9223372036854775807");
  refused(one_plane({~std::uint64_t{0}, 16, 8, 2, 4}), "the limit is 9223372036854775807");
  const std::int64_t huge = std::numeric_limits<std::int64_t>::max();
  refused(one_plane({0, huge, 8, 2, 4}), "the limit is");
  refused(one_plane({0, huge, huge, 0xffffffffu, 4}, max_blocks), "more than 2^64-1");
  memory_layout logits = one_plane(good);
  logits.logits_rows = 1;
  refused(logits, "vocabulary 0 is not in [1, 2147483647]");
  logits.vocabulary = -1;
  refused(logits, "vocabulary -1");
  logits.vocabulary = 1;
  logits.logits = static_cast<logits_type>(3);
  refused(logits, "logits type 3 is not in [0, 2]");
  logits.logits_rows = -1;
  refused(logits, "logits_rows -1");
}

TEST(layout, hostile_shapes_give_no_layout) {
  const auto refused = [](auto change, const std::string& part) {
    layout_shape s = small_shape();
    change(s);
    ASSERT_FALSE(s.validate().ok()) << part;
    EXPECT_NE(s.validate().error().message.find(part), std::string::npos)
        << s.validate().error().message;
    for (const memory_layout& l : {layout_nhd(s), layout_hnd(s), layout_slab(s)}) {
      EXPECT_TRUE(l.planes.empty());
      EXPECT_FALSE(l.validate().ok());
    }
  };
  refused([](auto& s) { s.layers = 0; }, "layers 0 is not in [1, 32768]");
  refused([](auto& s) { s.layers = 0xffffffffu; }, "layers 4294967295");
  refused(
      [](auto& s) {
        s.heads = 0x10000;
        s.head_bytes = 0x10000;
      },
      "heads × head_bytes 4294967296");
  refused(
      [](auto& s) {
        s.heads = 0xffffffffu;
        s.scale_bytes = 2;
        s.head_bytes = 1;
      },
      "heads × scale_bytes");
  refused([](auto& s) { s.kv = 3; }, "kv 3 is not in [1, 2]");
  refused([](auto& s) { s.blocks = -1; }, "blocks -1");
  refused([](auto& s) { s.block_tokens = 5000; }, "block_tokens 5000");
  refused([](auto& s) { s.head_bytes = 0; }, "head_bytes 0");
  // In range one by one, too large together: the reach saturates and is refused.
  layout_shape s{.blocks = max_blocks,
                 .block_tokens = max_block_tokens,
                 .layers = 1000,
                 .heads = 1,
                 .head_bytes = 0xffffffffu,
                 .kv = 2,
                 .scale_bytes = 0};
  for (const memory_layout& l : {layout_nhd(s), layout_hnd(s), layout_slab(s)}) {
    EXPECT_FALSE(l.validate().ok());
  }
}

// Random strides: what is accepted has no byte twice, and what has none in the documented nestings
// is accepted.
TEST(layout, random_planes_agree_with_a_byte_map) {
  std::mt19937_64 random(1);
  int accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    memory_layout l = one_plane({}, 1 + static_cast<std::int64_t>(random() % 4),
                                1 + static_cast<std::uint32_t>(random() % 3));
    l.planes[0] = {random() % 20, static_cast<std::int64_t>(random() % 60),
                   static_cast<std::int64_t>(random() % 60),
                   1 + static_cast<std::uint32_t>(random() % 3),
                   1 + static_cast<std::uint32_t>(random() % 4)};
    const plane_layout& p = l.planes[0];
    const byte_map map(l);
    EXPECT_EQ(map.end, l.bytes());
    if (l.validate().ok()) {
      ++accepted;
      ASSERT_FALSE(map.within_plane);
    } else if (!map.within_plane) {
      // A legal layout may only be refused where neither nesting holds.
      const std::int64_t run = std::int64_t{l.block_tokens} * p.bytes_per_token;
      ASSERT_LT(p.block_stride, (p.inner_count - 1) * p.inner_stride + run);
      ASSERT_LT(p.inner_stride, (l.blocks - 1) * p.block_stride + run);
    }
  }
  EXPECT_GT(accepted, 2000);
}

TEST(layout, random_planes_of_one_memory_never_share_a_byte_when_accepted) {
  std::mt19937_64 random(2);
  int accepted = 0, interleaved = 0;
  for (int i = 0; i < 60000; ++i) {
    memory_layout l;
    l.blocks = 1 + static_cast<std::int64_t>(random() % 4);
    l.block_tokens = 1 + static_cast<std::uint32_t>(random() % 2);
    const std::size_t planes = 2 + random() % 3;
    const auto block_stride = static_cast<std::int64_t>(random() % 48);
    const auto inner_stride = static_cast<std::int64_t>(random() % 16);
    for (std::size_t k = 0; k < planes; ++k) {
      l.planes.push_back({random() % 40, random() % 8 ? block_stride : 24,
                          random() % 8 ? inner_stride : 6,
                          1 + static_cast<std::uint32_t>(random() % 3),
                          1 + static_cast<std::uint32_t>(random() % 3)});
    }
    if (!l.validate().ok() || !l.validate_disjoint().ok()) continue;
    ++accepted;
    ASSERT_FALSE(byte_map(l).across_planes);
    std::vector<memory_layout> alone;
    for (const plane_layout& p : l.planes) {
      alone.push_back(l);
      alone.back().planes = {p};
    }
    interleaved += l.blocks > 1 && alone[0].bytes() > l.planes[1].offset &&
                   alone[1].bytes() > l.planes[0].offset;
  }
  EXPECT_GT(accepted, 500);
  EXPECT_GT(interleaved, 100);
}

TEST(layout, interleaving_by_block_and_by_run_is_accepted) {
  memory_layout l;
  l.blocks = 4;
  l.block_tokens = 2;
  // [block][layer][head][K or V][token]: 2 layers × 3 heads × 2 × 8 bytes.
  for (std::uint64_t layer = 0; layer < 2; ++layer) {
    for (std::uint64_t kv = 0; kv < 2; ++kv) {
      l.planes.push_back({layer * 48 + kv * 8, 96, 16, 3, 4});
    }
  }
  ASSERT_TRUE(l.validate().ok());
  EXPECT_FALSE(byte_map(l).across_planes);
  EXPECT_TRUE(l.validate_disjoint().ok()) << l.validate_disjoint().error().message;
  // [head][block][K or V][token]: heads outermost.
  l.planes = {{0, 16, 64, 3, 4}, {8, 16, 64, 3, 4}};
  ASSERT_TRUE(l.validate().ok());
  EXPECT_TRUE(l.validate_disjoint().ok()) << l.validate_disjoint().error().message;
  l.planes[1].offset = 7;
  EXPECT_NE(l.validate_disjoint().error().message.find("planes 0 and 1"), std::string::npos);
}

TEST(layout, planes_of_separate_memories_are_placed_by_their_bases) {
  memory_layout l;
  l.blocks = 4;
  l.block_tokens = 2;
  l.planes = {{0, 8, 0, 1, 4}, {0, 8, 0, 1, 4}};
  EXPECT_FALSE(l.validate_disjoint().ok());
  const std::uint64_t apart[] = {1000, 1032}, touching[] = {1000, 1031}, one[] = {1};
  EXPECT_TRUE(l.validate_disjoint(apart).ok());
  EXPECT_FALSE(l.validate_disjoint(touching).ok());
  EXPECT_NE(l.validate_disjoint(one).error().message.find("1 base addresses for 2 planes"),
            std::string::npos);
}

TEST(layout, many_planes_are_checked_quickly) {
  const memory_layout l = layout_slab(
      {.blocks = 1000, .block_tokens = 16, .layers = 32768, .heads = 1, .head_bytes = 16});
  ASSERT_EQ(l.planes.size(), max_planes);
  EXPECT_TRUE(l.validate().ok());
  EXPECT_TRUE(l.validate_disjoint().ok());
}

}  // namespace
}  // namespace radixkv
