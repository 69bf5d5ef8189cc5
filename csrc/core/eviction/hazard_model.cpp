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

// e^x to 4e-6. REQUIRES: |x| ≤ 2 × steepest.
inline float4 exponential(float4 x) {
  constexpr float magic = 12582912.0f;  // 1.5 × 2^23: what is added to it is rounded
  const float4 t = x * all(1.44269504f);
  const float4 shifted = t + all(magic);
  const float4 f = t - (shifted - all(magic));  // e^x = 2^rounded × 2^f, |f| ≤ 1/2
  float4 p = all(9.6181291e-3f);
  p = p * f + all(5.5504109e-2f);
  p = p * f + all(2.4022651e-1f);
  p = p * f + all(6.9314718e-1f);
  p = p * f + all(1.0f);
  return reinterpret_cast<float4>(reinterpret_cast<int4>(p) +
                                  (reinterpret_cast<int4>(shifted) << 23));
}

// Log odds are cut here, so that no exponential overflows: what is beyond happens never, or always.
constexpr float steepest = 30;
inline float cut(float x) { return std::clamp(x, -steepest, steepest); }
// 1/(1 + e^-x).
inline float logistic(float x) { return 1 / (1 + exponential(all(-cut(x)))[0]); }

// 1/√x to 0.2 %, enough for a step's length: one of Newton's steps from the well-known first guess.
inline float4 inverse_root(float4 x) {
  const float4 y = reinterpret_cast<float4>(0x5f375a86 - (reinterpret_cast<int4>(x) >> 1));
  return y * (all(1.5f) - all(0.5f) * x * y * y);
}
inline float inverse_root(float x) { return inverse_root(all(x))[0]; }

inline float sum(float4 x) { return (x[0] + x[2]) + (x[1] + x[3]); }

constexpr float rate = 0.1f, group_rate = 0.07f;

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
    width_[b].fill(static_cast<float>(width));
    // Uses per request fall with age as under LRU's assumption: the younger, the likelier.
    const double h = 0.3 * width / (edge(b + 1) + 8);
    theta_[b] = static_cast<float>(std::log(h / (1 - h)));
  }
  prepare_keys();
}

hazard_model::active hazard_model::active_features(run_features f) {
  constexpr std::uint16_t none = features;
  if (f.tail()) {
    active on{{}, true};
    on.index.fill(none);
    on.index[0] = tail_feature;
    return on;
  }
  const std::uint32_t u = std::min(3u, f.get(run_features::uses));
  const std::uint32_t children = f.get(run_features::children), depth = f.get(run_features::depth);
  const std::uint32_t output = f.get(run_features::output), fresh = f.get(run_features::fresh);
  const auto at = [](std::uint32_t i) { return static_cast<std::uint16_t>(i); };
  return {{at(bias), at(by_uses + f.get(run_features::uses)), at(by_children + children),
           at(by_depth + depth), at(by_output + output), at(by_fresh + fresh),
           at(by_turn + f.get(run_features::turn)), at(by_pause + f.get(run_features::pause)),
           at(by_remnant + f.get(run_features::remnant)), at(by_uses_children + u * 5 + children),
           at(by_uses_depth + u * 5 + depth), at(by_uses_output + u * 8 + output),
           at(by_uses_fresh + u * 8 + fresh), at(by_fresh_output + fresh * 8 + output), none, none},
          false};
}

float hazard_model::hazard(run_features f, std::uint32_t bin) const {
  float x = theta_[bin];
  for (const std::uint16_t i : active_features(f).index)
    x += rows_[i].weights[0] + rows_[i].weights[1 + group(bin)];
  return logistic(x);
}

void hazard_model::learn(run_features f, std::uint32_t bin, bool used, std::uint32_t tokens,
                         float times) {
  const active on = active_features(f);
  const std::uint32_t g = 1 + group(bin);
  // Of four rows each: weights, and those of the group.
  constexpr std::uint32_t quads = 4;
  row* rows[quads][4];
  float4 w[quads], wg[quads];
  float4 x = all(0);
  for (std::uint32_t q = 0; q < quads; ++q) {
    for (std::uint32_t i = 0; i < 4; ++i) rows[q][i] = &rows_[on.index[4 * q + i]];
    row* const* const r = rows[q];
    w[q] = float4{r[0]->weights[0], r[1]->weights[0], r[2]->weights[0], r[3]->weights[0]};
    wg[q] = float4{r[0]->weights[g], r[1]->weights[g], r[2]->weights[g], r[3]->weights[g]};
    x += w[q] + wg[q];
    if (on.tail) break;
  }
  constexpr float most = 5120;
  const float size = std::min(static_cast<float>(tokens), most) * (2 / most);
  const float once = (logistic(sum(x) + theta_[bin]) - (used ? 1.0f : 0.0f)) * size;
  const float d = once * times, dd = once * once * times;
  theta_squares_[bin] += dd;
  theta_[bin] -= rate * d * inverse_root(theta_squares_[bin] + 1);
  if (on.tail) {
    row& only = rows_[tail_feature];
    only.squares[0] += dd;
    only.squares[g] += dd;
    only.weights[0] -= rate * d * inverse_root(only.squares[0] + 1);
    only.weights[g] -= group_rate * d * inverse_root(only.squares[g] + 1);
    return;
  }
  for (std::uint32_t q = 0; q < quads; ++q) {
    row* const* const r = rows[q];
    const std::uint32_t n = q + 1 < quads ? 4 : most_active % 4;
    const float4 a =
        all(dd) + float4{r[0]->squares[0], r[1]->squares[0], r[2]->squares[0], r[3]->squares[0]};
    const float4 ag =
        all(dd) + float4{r[0]->squares[g], r[1]->squares[g], r[2]->squares[g], r[3]->squares[g]};
    w[q] -= all(rate * d) * inverse_root(a + all(1));
    wg[q] -= all(group_rate * d) * inverse_root(ag + all(1));
    for (std::uint32_t i = 0; i < n; ++i) {
      r[i]->weights[0] = w[q][i];
      r[i]->weights[g] = wg[q][i];
      r[i]->squares[0] = a[i];
      r[i]->squares[g] = ag[i];
    }
  }
}

void hazard_model::prepare_keys() {
  for (std::uint32_t b = 0; b < bins; ++b)
    odds_against_[b].fill(exponential(all(-cut(theta_[b])))[0]);
}

float hazard_model::key(run_features f, std::uint32_t bin) const {
  return keys({f, f, f, f}, {bin, bin, bin, bin})[0];
}

// Four at a time, a lane each.
std::array<float, 4> hazard_model::keys(const std::array<run_features, 4>& f,
                                        const std::array<std::uint32_t, 4>& from) const {
  const auto load = [](const float* at) {
    float4 x;
    std::memcpy(&x, at, sizeof x);
    return x;
  };
  float4 low[4], high[4];  // of rows: the weights of the feature and of groups 0 … 2; of group 3
  for (std::uint32_t i = 0; i < 4; ++i) {
    const active on = active_features(f[i]);
    low[i] = load(rows_[on.index[0]].weights.data());
    high[i] = load(rows_[on.index[0]].weights.data() + 4);
    if (on.tail) continue;
    for (std::uint32_t k = 1; k < most_active; ++k) {
      low[i] += load(rows_[on.index[k]].weights.data());
      high[i] += load(rows_[on.index[k]].weights.data() + 4);
    }
  }
  // h_b = 1 / (1 + e^-θ_b e^-x), x being the same for all bins of a group.
  float4 against[groups];
  for (std::uint32_t g = 0; g < groups; ++g) {
    float4 x;
    for (std::uint32_t i = 0; i < 4; ++i)
      x[i] = low[i][0] + (g + 1 < 4 ? low[i][(g + 1) % 4] : high[i][0]);
    x = x < all(-steepest) ? all(-steepest) : x;
    x = x > all(steepest) ? all(steepest) : x;
    against[g] = exponential(-x);
  }
  float4 alive = all(1), uses = all(0), held = all(0), best = all(0);
  const int4 first = {static_cast<std::int32_t>(from[0]), static_cast<std::int32_t>(from[1]),
                      static_cast<std::int32_t>(from[2]), static_cast<std::int32_t>(from[3])};
  std::uint32_t b = std::min(std::min(from[0], from[1]), std::min(from[2], from[3]));
  const std::uint32_t last = std::max(std::max(from[0], from[1]), std::max(from[2], from[3]));
  const auto step = [&](float4 now) {  // now: a lane's `alive` once it has begun, else 0
    const float4 used = now / (all(1) + load(odds_against_[b].data()) * against[group(b)]);
    uses += used;
    held += load(width_[b].data()) * (now - all(0.5f) * used);
    alive -= used;
    const float4 ratio = uses / (held + all(1e-30f));
    best = ratio > best ? ratio : best;
  };
  for (; b < last; ++b) {
    const int4 begun = first <= static_cast<std::int32_t>(b);
    step(reinterpret_cast<float4>(reinterpret_cast<int4>(alive) & begun));
  }
  for (; b < bins; ++b) step(alive);
  return {best[0], best[1], best[2], best[3]};
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
  for (const auto part : {&row::weights, &row::squares})
    for (std::uint32_t i = 0; i < features; ++i)
      put_floats(std::span(rows_[i].*part).first(1 + groups));
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
  for (const auto part : {&row::weights, &row::squares})
    for (std::uint32_t i = 0; i < features; ++i)
      floats(std::span(read.rows_[i].*part).first(1 + groups), part == &row::squares);
  if (number(8) != checksum(bytes.first(size - 8)))
    return {errc::corrupt, "policy weights do not match their checksum"};
  if (!sound) return {errc::corrupt, "policy weights hold a number that is not finite"};
  *this = read;
  prepare_keys();
  return {};
}

}  // namespace radixkv::detail
