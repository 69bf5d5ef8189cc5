// What the model has learnt, as bytes.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "csrc/core/eviction/hazard_model.h"

namespace radixkv::detail {

namespace {

constexpr char magic[8] = {'r', 'k', 'v', 'h', 'a', 'z', '0', '1'};

// What a saved number may be: far beyond what is learnt, and so that no sum of them overflows.
struct number_range {
  float least, most;
};
constexpr number_range range_of(bool squares) {
  return squares ? number_range{0, 1e30f} : number_range{-1e4f, 1e4f};
}

std::uint64_t checksum(std::span<const std::byte> bytes) {  // FNV-1a
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const std::byte b : bytes) h = (h ^ static_cast<std::uint64_t>(b)) * 0x100000001b3u;
  return h;
}

}  // namespace

std::vector<std::byte> hazard_model::save() const {
  std::vector<std::byte> out;
  const auto put_number = [&out](std::uint64_t x, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) out.push_back(static_cast<std::byte>(x >> (8 * i)));
  };
  // Steps from the edge of the range may leave it; what is saved can be loaded.
  const auto put_float = [&](float x, bool squares) {
    const number_range r = range_of(squares);
    put_number(std::bit_cast<std::uint32_t>(std::clamp(x, r.least, r.most)), 4);
  };
  for (const char c : magic) out.push_back(static_cast<std::byte>(c));
  put_number(bins, 4);
  put_number(features, 4);
  for (const auto part : {&cell::weight, &cell::squares})
    for (const cell& c : theta_) put_float(c.*part, part == &cell::squares);
  for (const auto part : {&row::weights, &row::squares})
    for (const row& r : rows_)
      for (std::uint32_t i = 0; i < 1 + groups; ++i) put_float((r.*part)[i], part == &row::squares);
  put_number(checksum(out), 8);
  return out;
}

status hazard_model::load(std::span<const std::byte> bytes) {
  constexpr std::size_t size = sizeof magic + 8 + 8 * bins + 8 * features * (1 + groups) + 8;
  if (bytes.size() != size)
    return {errc::corrupt, "policy weights have " + std::to_string(bytes.size()) + " bytes, not " +
                               std::to_string(size)};
  std::size_t at = 0;
  const auto number = [&](std::size_t n) {
    std::uint64_t x = 0;
    for (std::size_t i = 0; i < n; ++i) x |= static_cast<std::uint64_t>(bytes[at++]) << (8 * i);
    return x;
  };
  if (std::memcmp(bytes.data(), magic, sizeof magic) != 0)
    return {errc::corrupt, "policy weights do not begin with rkvhaz01"};
  at = sizeof magic;
  if (const std::uint64_t b = number(4), f = number(4); b != bins || f != features)
    return {errc::corrupt, "policy weights for " + std::to_string(b) + " bins and " +
                               std::to_string(f) + " features, not " + std::to_string(bins) +
                               " and " + std::to_string(features)};
  hazard_model read(options_);
  bool sound = true;
  const auto get_float = [&](float& x, bool squares) {
    x = std::bit_cast<float>(static_cast<std::uint32_t>(number(4)));
    const number_range r = range_of(squares);
    sound = sound && x >= r.least && x <= r.most;  // neither is true of NaN
  };
  for (const auto part : {&cell::weight, &cell::squares})
    for (cell& c : read.theta_) get_float(c.*part, part == &cell::squares);
  for (const auto part : {&row::weights, &row::squares})
    for (row& r : read.rows_)
      for (std::uint32_t i = 0; i < 1 + groups; ++i) get_float((r.*part)[i], part == &row::squares);
  if (number(8) != checksum(bytes.first(size - 8)))
    return {errc::corrupt, "policy weights do not match their checksum"};
  if (!sound) return {errc::corrupt, "policy weights hold a number that is out of range"};
  *this = read;
  prepare_keys();
  return {};
}

}  // namespace radixkv::detail
