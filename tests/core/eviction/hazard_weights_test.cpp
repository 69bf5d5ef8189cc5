// Saved weights byte by byte: files of today mean the same tomorrow, and numbers that a hostile
// file may hold, with a checksum that is right, are refused or do no harm.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/eviction/hazard_model.h"

namespace radixkv::detail {
namespace {

constexpr std::size_t bins = 20, rows = 110, of_row = 5;
constexpr std::size_t bin_weights = 0, bin_squares = bins, row_weights = 2 * bins,
                      row_squares = row_weights + rows * of_row,
                      numbers = row_squares + rows * of_row;

std::vector<float> values_of(const std::vector<std::byte>& file) {
  std::vector<float> values(numbers);
  for (std::size_t i = 0; i < numbers; ++i) {
    std::uint32_t x = 0;
    for (std::size_t k = 4; k-- > 0;) {
      x = x << 8 | std::to_integer<std::uint32_t>(file[16 + 4 * i + k]);
    }
    values[i] = std::bit_cast<float>(x);
  }
  return values;
}

bool is_square(std::size_t i) { return (i >= bin_squares && i < row_weights) || i >= row_squares; }

// The file: a name, the numbers of bins and of rows, the weights, FNV-1a over all that; little
// endian.
std::vector<std::byte> file_of(const std::vector<float>& values) {
  std::vector<std::byte> out;
  const auto put = [&](std::uint64_t x, int bytes) {
    for (int i = 0; i < bytes; ++i) out.push_back(static_cast<std::byte>(x >> (8 * i)));
  };
  for (const char c : std::string_view("rkvhaz01")) put(static_cast<unsigned char>(c), 1);
  put(bins, 4);
  put(rows, 4);
  for (const float x : values) put(std::bit_cast<std::uint32_t>(x), 4);
  std::uint64_t sum = 0xcbf29ce484222325u;
  for (const std::byte b : out) {
    sum = (sum ^ std::to_integer<std::uint64_t>(b)) * 0x100000001b3u;
  }
  put(sum, 8);
  return out;
}

// All different, and sums of them.
std::vector<float> some_values() {
  std::vector<float> values(numbers);
  for (std::size_t i = 0; i < numbers; ++i) {
    const float x = static_cast<float>(i * 37 % 1201) / 4096;
    values[i] = is_square(i) ? x : x - 0.25f;
  }
  return values;
}

run_features some_features(std::mt19937& random) {
  // Categories of uses, children, depth, output, fresh, turn, pause, remnant.
  constexpr std::uint32_t categories[] = {8, 5, 5, 8, 8, 6, 8, 8};
  run_features f;
  for (std::uint32_t i = 0; i < run_features::fields; ++i) {
    f.set(static_cast<run_features::field>(i), random() % categories[i]);
  }
  return f;
}

// What a file says of a run, in double precision.
double hazard_of(const std::vector<float>& values, run_features f, std::uint32_t bin) {
  using enum run_features::field;
  std::vector<std::size_t> active;
  if (f.tail()) {
    active = {109};
  } else {
    const std::uint32_t u = std::min(3u, f.get(uses));
    active = {0,
              1 + f.get(uses),
              9 + f.get(children),
              14 + f.get(depth),
              19 + f.get(output),
              27 + f.get(fresh),
              35 + f.get(turn),
              41 + f.get(pause),
              49 + f.get(remnant),
              57 + u * 5 + f.get(children),
              77 + u * 8 + f.get(fresh)};
  }
  double x = values[bin_weights + bin];
  for (const std::size_t k : active) {
    x += values[row_weights + k * of_row] + values[row_weights + k * of_row + 1 + bin / 5];
  }
  return 1 / (1 + std::exp(-x));
}

TEST(hazard_weights, bytes_mean_what_they_have_meant) {
  const std::vector<float> values = some_values();
  const std::vector<std::byte> file = file_of(values);
  ASSERT_EQ(file.size(), 4'584u);
  hazard_model m;
  ASSERT_TRUE(m.load(file).ok());
  EXPECT_EQ(m.save(), file);
  std::mt19937 random(4);
  for (int i = 0; i < 500; ++i) {
    const run_features f = i % 20 == 0 ? run_features::of_tail() : some_features(random);
    const std::uint32_t bin = random() % bins;
    ASSERT_NEAR(m.hazard(f, bin), hazard_of(values, f, bin), 1e-5) << i;
  }
}

TEST(hazard_weights, refuses_numbers_that_nobody_has_learnt) {
  hazard_model m;
  const std::vector<std::byte> before = m.save();
  constexpr float infinite = std::numeric_limits<float>::infinity();
  for (const std::size_t i : {bin_weights, bin_squares - 1, bin_squares, row_weights - 1,
                              row_weights, row_squares - 1, row_squares, numbers - 1}) {
    std::vector<float> wrong = {std::numeric_limits<float>::quiet_NaN(),
                                -std::numeric_limits<float>::quiet_NaN(),
                                std::numeric_limits<float>::signaling_NaN(),
                                infinite,
                                -infinite,
                                std::numeric_limits<float>::max(),
                                std::numeric_limits<float>::lowest()};
    if (is_square(i)) {
      wrong.insert(wrong.end(), {1.001e30f, -1e-45f, -1});
    } else {
      wrong.insert(wrong.end(), {10'001, -10'001});
    }
    for (const float x : wrong) {
      std::vector<float> values = some_values();
      values[i] = x;
      const status s = m.load(file_of(values));
      ASSERT_FALSE(s.ok()) << i << ": " << x;
      EXPECT_EQ(s.error().code, errc::corrupt);
      EXPECT_NE(s.error().message.find("a number that is out of range"), std::string::npos);
      EXPECT_EQ(m.save(), before);
    }
  }
}

// What is accepted, however strange, ranks runs by numbers, and is learnt from.
TEST(hazard_weights, extremes_that_are_accepted_do_no_harm) {
  constexpr float least = std::numeric_limits<float>::denorm_min();
  constexpr float weights[] = {10'000, -10'000, least, -least, -0.0f};
  constexpr float squares[] = {1e30f, 1e30f, least, 0, -0.0f};
  std::mt19937 random(5);
  for (int chosen = 0; chosen < 12; ++chosen) {  // one for all, then any mix
    std::vector<float> values(numbers);
    for (std::size_t i = 0; i < numbers; ++i) {
      const std::size_t k = chosen < 5 ? static_cast<std::size_t>(chosen) : random() % 5;
      values[i] = is_square(i) ? squares[k] : weights[k];
    }
    hazard_model m;
    ASSERT_TRUE(m.load(file_of(values)).ok()) << chosen;
    for (int i = 0; i < 2'000; ++i) {
      const run_features f = i % 20 == 0 ? run_features::of_tail() : some_features(random);
      const std::uint32_t bin = random() % bins;
      const float h = m.hazard(f, bin), key = m.key(f, bin);
      ASSERT_TRUE(h >= 0 && h <= 1) << chosen << ": " << h;
      ASSERT_TRUE(key >= 0 && std::isfinite(key)) << chosen << ": " << key;
      m.learn({f, bin, random() % 2 == 0, static_cast<std::uint32_t>(random() % 100'000)});
      if (i % 100 == 0) m.prepare_keys();
    }
    // Steps from the edge of the range may leave it, but what is saved can be loaded.
    const std::vector<std::byte> learnt = m.save();
    const status loaded = m.load(learnt);
    ASSERT_TRUE(loaded.ok()) << chosen << ": " << loaded.error().message;
    ASSERT_EQ(m.save(), learnt);
  }
}

}  // namespace
}  // namespace radixkv::detail
