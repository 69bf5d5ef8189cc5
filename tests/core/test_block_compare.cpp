// Comparing a stretch of blocks says what comparing them word by word says, in each form that the
// processor at hand can run.
#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/block_compare.h"

namespace radixkv::detail {
namespace {

struct stretch_case {
  std::uint32_t shift;
  std::vector<std::uint32_t> rows;
  std::vector<std::uint32_t> ids;
  std::vector<std::uint32_t> tokens;

  // `broken`: how many of 100 ids do not follow the one before.
  stretch_case(std::uint32_t block_shift, std::size_t blocks, std::uint32_t broken,
               std::mt19937& random)
      : shift(block_shift) {
    constexpr std::uint32_t rows_there = 200;
    rows.resize(std::size_t{rows_there} << shift);
    for (auto& w : rows) w = static_cast<std::uint32_t>(random());
    std::uint32_t id = static_cast<std::uint32_t>(random()) % rows_there;
    for (std::size_t i = 0; i < blocks; ++i) {
      id = random() % 100 < broken ? static_cast<std::uint32_t>(random()) % rows_there
                                   : (id + 1) % rows_there;
      ids.push_back(id);
      const std::uint32_t* const row = rows.data() + (std::size_t{id} << shift);
      tokens.insert(tokens.end(), row, row + (1u << shift));
    }
  }
  [[nodiscard]] std::uint32_t limit() const {
    return static_cast<std::uint32_t>(rows.size() >> shift);
  }
  // What all forms say.
  [[nodiscard]] std::size_t equal(std::uint32_t below) const {
    const block_stretch s{tokens.data(), ids.data(), ids.size(),    rows.data(),
                          below,         shift,      tokens.data(), ids.data()};
    const std::size_t n = equal_blocks(s);
    for (const block_comparison_form& f : block_comparison_forms()) {
      if (s.blocks == 0 || (f.shift != any_shift && f.shift != shift)) continue;
      EXPECT_EQ(f.compare(s), n) << f.name;
    }
    return n;
  }
  // Word by word.
  [[nodiscard]] std::size_t expected(std::uint32_t below) const {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] >= below) return i;
      for (std::size_t w = 0; w < std::size_t{1} << shift; ++w) {
        if (tokens[(i << shift) + w] != rows[(std::size_t{ids[i]} << shift) + w]) return i;
      }
    }
    return ids.size();
  }
};

TEST(block_compare, finds_the_first_word_that_differs_wherever_it_is) {
  std::mt19937 random(3);
  for (const std::uint32_t shift : {0u, 1u, 3u, 4u, 5u, 8u}) {
    stretch_case c(shift, 9, 20, random);
    ASSERT_EQ(c.equal(c.limit()), 9u);
    for (std::size_t w = 0; w < c.tokens.size(); ++w) {
      for (const std::uint32_t bit : {0u, 31u}) {
        c.tokens[w] ^= 1u << bit;
        ASSERT_EQ(c.equal(c.limit()), w >> shift) << "word " << w << " shift " << shift;
        c.tokens[w] ^= 1u << bit;
      }
    }
  }
}

TEST(block_compare, random_stretches_agree_with_words) {
  std::mt19937 random(4);
  for (int round = 0; round < 3000; ++round) {
    const auto shift = static_cast<std::uint32_t>(random() % 2 == 0 ? 4 : random() % 7);
    stretch_case c(shift, random() % 40, static_cast<std::uint32_t>(random() % 101), random);
    for (std::size_t k = random() % 3; k > 0 && !c.tokens.empty(); --k) {
      c.tokens[random() % c.tokens.size()] ^= 1u << random() % 32;
    }
    const std::uint32_t below = random() % 4 == 0 ? 1 + random() % c.limit() : c.limit();
    ASSERT_EQ(c.equal(below), c.expected(below)) << "round " << round;
  }
}

// A reader may meet any id while a writer replaces a list: it must not be followed.
TEST(block_compare, an_id_without_a_row_ends_the_stretch) {
  std::mt19937 random(5);
  for (const std::uint32_t shift : {4u, 6u}) {
    stretch_case c(shift, 12, 0, random);
    for (std::size_t i = 0; i < c.ids.size(); ++i) {
      const std::uint32_t id = c.ids[i];
      for (const std::uint32_t wild : {c.limit(), 0x7fffffffu, 0xffffffffu}) {
        c.ids[i] = wild;
        EXPECT_EQ(c.equal(c.limit()), i);
      }
      c.ids[i] = id;
    }
  }
}

}  // namespace
}  // namespace radixkv::detail
