#include "csrc/core/eviction/hazard_model.h"

#include <cmath>
#include <cstring>

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
  by_uses_fresh = by_uses_children + 4 * 5,
  tail_feature = by_uses_fresh + 4 * 8,
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
inline float4 cut(float4 x) {
  x = x < all(-steepest) ? all(-steepest) : x;
  return x > all(steepest) ? all(steepest) : x;
}
inline float cut(float x) { return std::clamp(x, -steepest, steepest); }
// 1/(1 + e^-x).
inline float4 logistic(float4 x) { return all(1) / (all(1) + exponential(-cut(x))); }
inline float logistic(float x) { return logistic(all(x))[0]; }

// 1/√x to 0.2 %, enough for a step's length: one of Newton's steps from the well-known first guess.
inline float4 inverse_root(float4 x) {
  const float4 y = reinterpret_cast<float4>(0x5f375a86 - (reinterpret_cast<int4>(x) >> 1));
  return y * (all(1.5f) - all(0.5f) * x * y * y);
}
inline float inverse_root(float x) { return inverse_root(all(x))[0]; }

inline float4 load_four(const void* from) {
  float4 x;
  std::memcpy(&x, from, sizeof x);
  return x;
}
inline void store_four(float4 x, void* to) { std::memcpy(to, &x, sizeof x); }
inline void transpose(float4 (&x)[4]) {
  const float4 a = __builtin_shufflevector(x[0], x[1], 0, 4, 1, 5),
               b = __builtin_shufflevector(x[2], x[3], 0, 4, 1, 5),
               c = __builtin_shufflevector(x[0], x[1], 2, 6, 3, 7),
               d = __builtin_shufflevector(x[2], x[3], 2, 6, 3, 7);
  x[0] = __builtin_shufflevector(a, b, 0, 1, 4, 5);
  x[1] = __builtin_shufflevector(a, b, 2, 3, 6, 7);
  x[2] = __builtin_shufflevector(c, d, 0, 1, 4, 5);
  x[3] = __builtin_shufflevector(c, d, 2, 3, 6, 7);
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

hazard_model::hazard_model(const hazard_options& options) : options_(options) {
  static_assert(feature_count == features);
  for (std::uint32_t b = 0; b < bins; ++b) {
    const double width = edge(b + 1) - edge(b);
    width_[b] = static_cast<float>(width);
    // Uses per request fall with age as under LRU's assumption: the younger, the likelier.
    const double h = double{options.first_hazard} * width / (edge(b + 1) + 8);
    theta_[b].weight = static_cast<float>(std::log(h / (1 - h)));
  }
  prepare_keys();
}

// REQUIRES: no tail's, which has one row, tail_feature.
inline void hazard_model::list_rows(run_features f, row_list& rows) {
  const std::uint32_t u = std::min(3u, f.get(run_features::uses));
  const std::uint32_t children = f.get(run_features::children), fresh = f.get(run_features::fresh);
  rows[0] = bias;
  rows[1] = by_uses + f.get(run_features::uses);
  rows[2] = by_children + children;
  rows[3] = by_depth + f.get(run_features::depth);
  rows[4] = by_output + f.get(run_features::output);
  rows[5] = by_fresh + fresh;
  rows[6] = by_turn + f.get(run_features::turn);
  rows[7] = by_pause + f.get(run_features::pause);
  rows[8] = by_remnant + f.get(run_features::remnant);
  rows[9] = by_uses_children + u * 5 + children;
  rows[10] = by_uses_fresh + u * 8 + fresh;
}

// The sums of the active features' weights: of all bins and the first groups, and of the last.
struct hazard_model::logits {
  float4 low = all(0);
  float high = 0;

  void add(const row& r) {
    low += load_four(&r.weights[0]);
    high += r.weights[4];
  }
  // Of each group.
  [[nodiscard]] float4 of_groups() const {
    return all(low[0]) + float4{low[1], low[2], low[3], high};
  }
};

inline hazard_model::logits hazard_model::logits_of(run_features f) const {
  logits sums;
  if (f.tail()) {
    sums.add(rows_[tail_feature]);
    return sums;
  }
  row_list list;
  list_rows(f, list);
  for (const std::uint32_t k : list) sums.add(rows_[k]);
  return sums;
}

float hazard_model::hazard(run_features f, std::uint32_t bin) const {
  return logistic(theta_[bin].weight + logits_of(f).of_groups()[group(bin)]);
}

void hazard_model::learn(std::span<const lesson> lessons) {
  for (std::size_t i = 0; i < lessons.size(); i += 4)
    learn_some(&lessons[i],
               static_cast<std::uint32_t>(std::min<std::size_t>(4, lessons.size() - i)));
}

// AdaGrad's step of a row's weights of all bins and of a group, by a gradient of d.
struct hazard_model::step {
  float4 lengths, squared;  // of the cells in the first register: 0 where the lesson is not theirs
  float length, squared_last;
  bool is_last;

  step(const hazard_options& o, std::uint32_t g, float d, float d2)
      : lengths{o.rate * d, g == 0 ? o.group_rate * d : 0, g == 1 ? o.group_rate * d : 0,
                g == 2 ? o.group_rate * d : 0},
        squared{d2, g == 0 ? d2 : 0, g == 1 ? d2 : 0, g == 2 ? d2 : 0},
        length(o.group_rate * d),
        squared_last(d2),
        is_last(g == groups - 1) {}
  void operator()(row& r) const {
    const float4 sum = load_four(&r.squares[0]) + squared;
    store_four(sum, &r.squares[0]);
    store_four(load_four(&r.weights[0]) - lengths * inverse_root(sum + all(1)), &r.weights[0]);
    if (!is_last) return;
    r.squares[4] += squared_last;
    r.weights[4] -= length * inverse_root(r.squares[4] + 1);
  }
};

inline void hazard_model::learn_some(const lesson* lessons, std::uint32_t n) {
  const float most = options_.most_tokens;
  std::array<row_list, 4> rows;
  std::array<float, 4> x{}, used{}, size{}, once;
  for (std::uint32_t i = 0; i < n; ++i) {
    const lesson& l = lessons[i];
    const std::uint32_t g = 1 + group(l.bin);
    float of_all = 0, of_group = 0;
    if (l.features.tail()) {
      of_all = rows_[tail_feature].weights[0];
      of_group = rows_[tail_feature].weights[g];
    } else {
      list_rows(l.features, rows[i]);
      for (const std::uint32_t k : rows[i]) {
        of_all += rows_[k].weights[0];
        of_group += rows_[k].weights[g];
      }
    }
    x[i] = of_all + of_group + theta_[l.bin].weight;
    used[i] = l.used ? 1.0f : 0.0f;
    size[i] = std::min(static_cast<float>(l.tokens), most) * (2 / most);
  }
  const float4 errors =
      (logistic(load_four(x.data())) - load_four(used.data())) * load_four(size.data());
  std::memcpy(once.data(), &errors, sizeof errors);
  for (std::uint32_t i = 0; i < n; ++i) {
    const lesson& l = lessons[i];
    const float d = once[i] * l.times, squared = once[i] * d;
    cell& theta = theta_[l.bin];
    theta.squares += squared;
    theta.weight -= options_.rate * d * inverse_root(theta.squares + 1);
    const step take(options_, group(l.bin), d, squared);
    if (l.features.tail()) {
      take(rows_[tail_feature]);
    } else {
      for (const std::uint32_t k : rows[i]) take(rows_[k]);
    }
  }
}

void hazard_model::prepare_keys() {
  for (std::uint32_t b = 0; b < bins; ++b)
    odds_against_[b] = exponential(all(-cut(theta_[b].weight)))[0];
}

// The hazards h_b = 1 / (1 + e^-θ_b e^-x), x being the same for all bins of a group.
float hazard_model::key(run_features f, std::uint32_t bin) const {
  static_assert(bins == 20 && groups == 4);
  const float4 a = exponential(-cut(logits_of(f).of_groups()));
  // Four bins at a time, some of which are of two groups.
  const float4 against[] = {
      __builtin_shufflevector(a, a, 0, 0, 0, 0), __builtin_shufflevector(a, a, 0, 1, 1, 1),
      __builtin_shufflevector(a, a, 1, 1, 2, 2), __builtin_shufflevector(a, a, 2, 2, 2, 3),
      __builtin_shufflevector(a, a, 3, 3, 3, 3)};
  std::array<float, bins> hazards, uses, held;
  const std::uint32_t first = bin / 4 * 4;
  store_four(all(0), &uses[first]);  // of those before `bin`
  store_four(all(1), &held[first]);
  for (std::uint32_t q = first; q < bins; q += 4)
    store_four(all(1) / (all(1) + load_four(&odds_against_[q]) * against[q / 4]), &hazards[q]);
  float alive = 1, uses_so_far = 0, held_so_far = 0;
  for (std::uint32_t b = bin; b < bins; ++b) {
    const float used = alive * hazards[b];
    uses[b] = uses_so_far += used;
    held[b] = held_so_far += width_[b] * (alive - 0.5f * used);
    alive *= 1 - hazards[b];
  }
  float4 best = all(0);
  for (std::uint32_t q = first; q < bins; q += 4) {
    const float4 ratio = load_four(&uses[q]) / load_four(&held[q]);
    best = ratio > best ? ratio : best;
  }
  return std::max(std::max(best[0], best[1]), std::max(best[2], best[3]));
}

// Four runs at a time, a lane each.
std::array<float, 4> hazard_model::keys(const std::array<run_features, 4>& f,
                                        const std::array<std::uint32_t, 4>& from) const {
  float4 against[4];
  static_assert(groups == 4);
  for (std::uint32_t i = 0; i < 4; ++i) against[i] = logits_of(f[i]).of_groups();
  transpose(against);
  for (float4& a : against) a = exponential(-cut(a));
  float4 alive = all(1), uses = all(0), held = all(0), best = all(0);
  const int4 first = {static_cast<std::int32_t>(from[0]), static_cast<std::int32_t>(from[1]),
                      static_cast<std::int32_t>(from[2]), static_cast<std::int32_t>(from[3])};
  std::uint32_t b = std::min(std::min(from[0], from[1]), std::min(from[2], from[3]));
  const std::uint32_t last = std::max(std::max(from[0], from[1]), std::max(from[2], from[3]));
  const auto pass = [&](int4 begun) {
    const float4 h = all(1) / (all(1) + all(odds_against_[b]) * against[group(b)]);
    const float4 hazard = reinterpret_cast<float4>(reinterpret_cast<int4>(h) & begun);
    const float4 used = alive * hazard;
    const float4 width = reinterpret_cast<float4>(reinterpret_cast<int4>(all(width_[b])) & begun);
    uses += used;
    held += width * (alive - all(0.5f) * used);
    alive *= all(1) - hazard;
    const float4 ratio = uses / (held + all(1e-30f));
    best = ratio > best ? ratio : best;
  };
  for (; b < last; ++b) pass(first <= static_cast<std::int32_t>(b));
  for (; b < bins; ++b) pass(int4{-1, -1, -1, -1});
  return {best[0], best[1], best[2], best[3]};
}

}  // namespace radixkv::detail
