// What is done for a group of blocks at once, in the processor's widest registers, does what is
// done one by one.
#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/id_table.h"
#include "csrc/core/path_hash.h"

namespace radixkv::detail {
namespace {

TEST(path_hash_group, continues_a_path_as_one_by_one) {
  std::mt19937 random(1);
  for (const std::uint32_t bits : {32u, 9u}) {
    const path_hasher hasher(bits);
    for (const std::size_t size : {1u, 4u, 16u, 32u, 256u}) {
      for (std::size_t n = 0; n <= path_hasher::group; ++n) {
        // Not aligned, and every token's bits are seen.
        std::vector<std::uint32_t> tokens(1 + n * size);
        for (std::uint32_t& t : tokens) t = static_cast<std::uint32_t>(random());
        const std::uint64_t begin = random() % 3 == 0 ? 0xfffffff0u + random() % 64 : random();
        std::uint64_t index = begin;  // of n blocks that are in one group
        while (index % path_hasher::group + n > path_hasher::group) ++index;
        const std::uint64_t start = random();
        path_hasher::group_hashes expected;
        expected.fill(12345);  // where no window ends
        path_hasher::group_hashes hashes = expected;
        const std::uint64_t end = hasher.extend(start, tokens.data() + 1, size, index, n, hashes);
        std::uint64_t path = start;
        for (std::size_t i = 0; i < n; ++i) {
          const std::uint64_t block = index + i;
          path += hasher.block_part(hasher.digest(tokens.data() + 1 + i * size, size), block);
          if ((block + 1) % path_hasher::window != 0) continue;
          expected[block % path_hasher::group / path_hasher::window] = hasher.jump_hash(path);
        }
        EXPECT_EQ(hashes, expected) << n << " blocks of " << size << " from " << index;
        EXPECT_EQ(end, path);
      }
    }
  }
}

// Tables with full lines, hashes that collide, hash 0, and entries that are being moved.
TEST(id_table_group, finds_what_one_by_one_finds) {
  int missed = 0;
  int of_zero = 0;
  for (const std::uint32_t mask : {0xffffffffu, 0xfff00000u, 0xf0000000u}) {
    id_table table;
    ASSERT_TRUE(table.create());
    std::mt19937 random(mask);
    std::vector<std::pair<std::uint32_t, std::uint32_t>> in{{0, 0}};
    ASSERT_TRUE(table.reserve(1));
    table.insert(0, 0);
    const id_table::reader early = table.read();
    for (std::uint32_t i = 0; i < 10'000; ++i) {
      ASSERT_TRUE(table.reserve(1));
      const std::uint32_t hash =
          random() % 50 == 0 ? 0 : static_cast<std::uint32_t>(random()) & mask;
      // An id is no hash, even if it looks like another one of the same line.
      const std::uint32_t id = random() % 2 == 0 ? ~(hash ^ 1) : i;
      in.emplace_back(hash, id);
      table.insert(hash, id);
      if (i % 3 == 0) {  // leaves holes
        const std::size_t k = random() % in.size();
        table.erase(in[k].first, in[k].second);
        in[k] = in.back();
        in.pop_back();
      }
      if (i % 7 != 0) continue;
      const id_table::reader now = table.read();
      for (const id_table::reader& r : {now, early}) {
        for (std::size_t n :
             {id_table::reader::group, std::size_t{random() % id_table::reader::group}}) {
          std::array<std::uint32_t, id_table::reader::group> hashes{};
          for (std::uint32_t& h : hashes) {
            h = random() % 4 == 0   ? static_cast<std::uint32_t>(random()) & mask
                : random() % 9 == 0 ? 0
                                    : in[random() % in.size()].first ^ (random() % 4 == 0);
          }
          std::array<std::uint32_t, id_table::reader::group> ids;
          ids.fill(12345);
          r.first_of(std::span(hashes).first(n), ids.data());
          for (std::size_t k = 0; k < n; ++k) {
            ASSERT_EQ(ids[k], r.first(hashes[k])) << "hash " << hashes[k];
            missed += ids[k] == id_table::none;
            of_zero += hashes[k] == 0;
          }
          for (std::size_t k = n; k < ids.size(); ++k) ASSERT_EQ(ids[k], 12345u);
        }
      }
    }
    ASSERT_EQ(table.check(), "");
  }
  EXPECT_GT(missed, 100);
  EXPECT_GT(of_zero, 100);
}

}  // namespace
}  // namespace radixkv::detail
