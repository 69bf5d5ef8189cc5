#include "csrc/core/eviction/hazard_model.h"

#include <cmath>
#include <cstring>
#include <string>

namespace radixkv::detail {

namespace {

// Where each one-hot feature's categories begin.
enum : std::uint32_t {
  bias = 0,
  by_uses = bias + 1,
  by_children = by_uses + 8,
  by_depth = by_children + 5,
  by_output = by_depth + 5,
  by_fresh = by_output + 8,
  by_turn = by_fresh + 8,
  by_pause = by_turn + 6,
  by_remnant = by_pause + 8,
  by_uses_children = by_remnant + 8,
  by_uses_depth = by_uses_children + 4 * 5,
  by_uses_output = by_uses_depth + 4 * 5,
  by_uses_fresh = by_uses_output + 4 * 8,
  by_fresh_output = by_uses_fresh + 4 * 8,
  tail_feature = by_fresh_output + 8 * 8,
  feature_count
};

// Four floats in a register: compilers do not turn the loops below into vector code by themselves.
using float4 = float __attribute__((vector_size(16)));
using int4 = std::int32_t __attribute__((vector_size(16)));

constexpr float4 all(float x) { return float4{x, x, x, x}; }

// 1/(1 + e^-x) to 2e-6.
inline float4 logistic(float4 x) {
  float4 t = x * all(-1.44269504f);
  t = t < all(-80.0f) ? all(-80.0f) : t;
  t = t > all(80.0f) ? all(80.0f) : t;
  const float4 rounded = (t + all(12582912.0f)) - all(12582912.0f);
  const float4 f = t - rounded;  // e^-x = 2^rounded × 2^f, |f| ≤ 1/2
  float4 p = all(1.3333558e-3f);
  p = p * f + all(9.6181291e-3f);
  p = p * f + all(5.5504109e-2f);
  p = p * f + all(2.4022651e-1f);
  p = p * f + all(6.9314718e-1f);
  p = p * f + all(1.0f);
  const int4 exponent = __builtin_convertvector(rounded, int4) + 127;
  return all(1.0f) / (all(1.0f) + p * reinterpret_cast<float4>(exponent << 23));
}
inline float logistic(float x) { return logistic(all(x))[0]; }

// 1/√x to 5e-6: Newton's method from the well-known first guess.
inline float4 inverse_root(float4 x) {
  float4 y = reinterpret_cast<float4>(0x5f375a86 - (reinterpret_cast<int4>(x) >> 1));
  y *= all(1.5f) - all(0.5f) * x * y * y;
  y *= all(1.5f) - all(0.5f) * x * y * y;
  return y;
}
inline float inverse_root(float x) { return inverse_root(all(x))[0]; }

constexpr char magic[8] = {'r', 'k', 'v', 'h', 'a', 'z', '0', '1'};

std::uint64_t checksum(std::span<const std::byte> bytes) {  // FNV-1a
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const std::byte b : bytes) h = (h ^ static_cast<std::uint64_t>(b)) * 0x100000001b3u;
  return h;
}

}  // namespace

std::uint32_t run_features::output_category(std::uint32_t tokens) {
  constexpr std::uint32_t edges[] = {16, 64, 128, 256, 384, 512, 768};
  std::uint32_t c = 0;
  while (c < 7 && tokens >= edges[c]) ++c;
  return c;
}

std::uint32_t run_features::pause_category(double seconds) {
  std::uint32_t c = 0;
  for (double edge = 15; c < 7 && !(seconds < edge); edge *= 2) ++c;
  return c;
}

double hazard_model::edge(std::uint32_t bin) { return 8 * (std::exp2(bin / 2.0) - 1); }

hazard_model::hazard_model() {
  static_assert(feature_count == features);
  for (std::uint32_t b = 0; b < bins; ++b) {
    const double width = edge(b + 1) - edge(b);
    width_[b] = static_cast<float>(width);
    // Uses per request fall with age as under LRU's assumption: the younger, the likelier.
    const double h = 0.3 * width / (edge(b + 1) + 8);
    theta_[b] = static_cast<float>(std::log(h / (1 - h)));
  }
}

hazard_model::active hazard_model::active_features(run_features f) {
  if (f.tail()) return {{static_cast<std::uint16_t>(tail_feature)}, 1};
  const std::uint32_t u = std::min(3u, f.get(run_features::uses));
  const std::uint32_t children = f.get(run_features::children), depth = f.get(run_features::depth);
  const std::uint32_t output = f.get(run_features::output), fresh = f.get(run_features::fresh);
  const auto at = [](std::uint32_t i) { return static_cast<std::uint16_t>(i); };
  return {{at(bias), at(by_uses + f.get(run_features::uses)), at(by_children + children),
           at(by_depth + depth), at(by_output + output), at(by_fresh + fresh),
           at(by_turn + f.get(run_features::turn)), at(by_pause + f.get(run_features::pause)),
           at(by_remnant + f.get(run_features::remnant)), at(by_uses_children + u * 5 + children),
           at(by_uses_depth + u * 5 + depth), at(by_uses_output + u * 8 + output),
           at(by_uses_fresh + u * 8 + fresh), at(by_fresh_output + fresh * 8 + output)},
          most_active};
}

float hazard_model::hazard(run_features f, std::uint32_t bin) const {
  const active on = active_features(f);
  float x = theta_[bin];
  for (std::uint32_t i = 0; i < on.count; ++i)
    x += weights_[on.index[i]][0] + weights_[on.index[i]][1 + group(bin)];
  return logistic(x);
}

void hazard_model::learn(run_features f, std::uint32_t bin, bool used, float units, float times) {
  const active on = active_features(f);
  const std::uint32_t g = 1 + group(bin);
  constexpr float rate = 0.1f, group_rate = 0.07f;
  // Gathered, weights first and those of the group behind them.
  constexpr std::uint32_t half = (most_active + 3) / 4 * 4, lanes = 4;
  union gathered {
    float4 v[2 * half / lanes];
    float f[2 * half];
  } w, a;
  for (std::uint32_t i = most_active; i < half; ++i) w.f[i] = w.f[half + i] = 0;
  for (std::uint32_t i = most_active; i < half; ++i) a.f[i] = a.f[half + i] = 0;
  float x = theta_[bin];
  for (std::uint32_t i = 0; i < on.count; ++i) {
    const row& weights = weights_[on.index[i]];
    const row& squares = squares_[on.index[i]];
    w.f[i] = weights[0];
    w.f[half + i] = weights[g];
    a.f[i] = squares[0];
    a.f[half + i] = squares[g];
    x += weights[0] + weights[g];
  }
  const float once = (logistic(x) - (used ? 1.0f : 0.0f)) * std::min(units, 10.0f) / 5.0f;
  const float d = once * times, dd = once * once * times;
  theta_squares_[bin] += dd;
  theta_[bin] -= rate * d * inverse_root(theta_squares_[bin] + 1);
  if (on.count == 1) {  // the tail
    row& weights = weights_[on.index[0]];
    row& squares = squares_[on.index[0]];
    squares[0] += dd;
    squares[g] += dd;
    weights[0] -= rate * d * inverse_root(squares[0] + 1);
    weights[g] -= group_rate * d * inverse_root(squares[g] + 1);
    return;
  }
  for (std::uint32_t i = 0; i < 2 * half / lanes; ++i) {
    a.v[i] += all(dd);
    const float step = d * (i < half / lanes ? rate : group_rate);
    w.v[i] -= all(step) * inverse_root(a.v[i] + all(1.0f));
  }
  for (std::uint32_t i = 0; i < most_active; ++i) {
    row& weights = weights_[on.index[i]];
    row& squares = squares_[on.index[i]];
    weights[0] = w.f[i];
    weights[g] = w.f[half + i];
    squares[0] = a.f[i];
    squares[g] = a.f[half + i];
  }
}

float hazard_model::key(run_features f, std::uint32_t bin) const {
  const active on = active_features(f);
  float4 low = all(0), high = all(0);  // of rows
  for (std::uint32_t i = 0; i < on.count; ++i) {
    float4 part;
    std::memcpy(&part, weights_[on.index[i]].data(), sizeof part);
    low += part;
    std::memcpy(&part, weights_[on.index[i]].data() + 4, sizeof part);
    high += part;
  }
  const float sums[groups] = {low[0] + low[1], low[0] + low[2], low[0] + low[3], low[0] + high[0]};
  union {
    float4 v[bins / 4];
    float f[bins];
  } hazards;
  for (std::uint32_t b = 0; b < bins; ++b) hazards.f[b] = theta_[b] + sums[group(b)];
  for (std::uint32_t i = bin / 4; i < bins / 4; ++i) hazards.v[i] = logistic(hazards.v[i]);
  float alive = 1, uses = 0, held = 0, best = 0, best_held = 1;
  for (std::uint32_t b = bin; b < bins; ++b) {
    const float h = hazards.f[b];
    uses += alive * h;
    held += alive * (1 - h / 2) * width_[b];
    alive *= 1 - h;
    if (uses * best_held > best * held) best = uses, best_held = held;  // compared without dividing
  }
  return best / best_held;
}

std::vector<std::byte> hazard_model::save() const {
  std::vector<std::byte> out;
  const auto put_number = [&out](std::uint64_t x, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) out.push_back(static_cast<std::byte>(x >> (8 * i)));
  };
  const auto put_floats = [&](std::span<const float> floats) {
    for (const float x : floats) put_number(std::bit_cast<std::uint32_t>(x), 4);
  };
  for (const char c : magic) out.push_back(static_cast<std::byte>(c));
  put_number(bins, 4);
  put_number(features, 4);
  put_floats(theta_);
  put_floats(theta_squares_);
  for (const auto* rows : {&weights_, &squares_})
    for (const row& r : *rows) put_floats(std::span(r).first(1 + groups));
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
  hazard_model read;
  bool sound = true;
  const auto floats = [&](std::span<float> to, bool square) {
    for (float& x : to) {
      x = std::bit_cast<float>(static_cast<std::uint32_t>(number(4)));
      sound = sound && std::isfinite(x) && (!square || x >= 0);
    }
  };
  floats(read.theta_, false);
  floats(read.theta_squares_, true);
  for (row& r : read.weights_) floats(std::span(r).first(1 + groups), false);
  for (row& r : read.squares_) floats(std::span(r).first(1 + groups), true);
  if (number(8) != checksum(bytes.first(size - 8)))
    return {errc::corrupt, "policy weights do not match their checksum"};
  if (!sound) return {errc::corrupt, "policy weights hold a number that is not finite"};
  *this = read;
  return {};
}

}  // namespace radixkv::detail
