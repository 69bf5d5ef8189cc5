// A transformer small enough to run in a test: random weights, fp32, one token at a time.
//
// Deterministic bit for bit: the order of every sum depends on the position alone, never on what
// was computed in the same pass or where the keys and values came from.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "radixkv/types.h"

namespace radixkv::toy {

inline constexpr std::size_t layers = 2;
inline constexpr std::size_t heads = 2;
inline constexpr std::size_t head_dim = 8;
inline constexpr std::size_t hidden = heads * head_dim;
inline constexpr std::size_t inner = 24;  // of the feed-forward layer
inline constexpr std::size_t vocabulary = 61;

using vec = std::array<float, hidden>;
using logits_row = std::array<float, vocabulary>;

// Keys and values of positions 0 … size()-1 of one sequence, per layer.
struct kv_context {
  std::array<std::vector<vec>, layers> keys, values;

  [[nodiscard]] std::size_t size() const { return keys[0].size(); }
  void truncate(std::size_t n) {
    for (std::size_t l = 0; l < layers; ++l) {
      keys[l].resize(std::min(n, keys[l].size()));
      values[l].resize(std::min(n, values[l].size()));
    }
  }
};

class model {
 public:
  explicit model(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    for (auto& row : embedding_) fill(row, random, 1.0f);
    for (layer& l : layers_) {
      for (auto* m : {&l.query, &l.key, &l.value, &l.output}) {
        for (vec& row : *m) fill(row, random, 0.5f);
      }
      for (vec& row : l.up) fill(row, random, 0.5f);
      for (auto& row : l.down) fill(row, random, 0.5f);
    }
  }

  // Appends the token's keys and values to the context, at position context.size(), and returns the
  // logits that follow it.
  logits_row forward(token_id token, kv_context& context) const {
    const std::size_t position = context.size();
    vec x = embedding_[token];
    for (std::size_t i = 0; i < hidden; ++i) {
      x[i] +=
          std::sin(static_cast<float>(position) / std::pow(50.0f, static_cast<float>(i) / hidden));
    }
    for (std::size_t l = 0; l < layers; ++l) {
      const layer& w = layers_[l];
      const vec in = normalised(x);
      context.keys[l].push_back(times(w.key, in));
      context.values[l].push_back(times(w.value, in));
      const vec mixed = attend(times(w.query, in), context.keys[l], context.values[l]);
      add(x, times(w.output, mixed));
      feed_forward(w, x);
    }
    x = normalised(x);
    logits_row logits;
    for (std::size_t t = 0; t < vocabulary; ++t) logits[t] = dot(embedding_[t], x);
    return logits;
  }

 private:
  using matrix = std::array<vec, hidden>;
  struct layer {
    matrix query, key, value, output;
    std::array<vec, inner> up;
    std::array<std::array<float, inner>, hidden> down;
  };

  template <typename Row>
  static void fill(Row& row, std::mt19937_64& random, float scale) {
    for (float& v : row) {
      v = scale * (static_cast<float>(random() >> 40) * 0x1p-23f - 1.0f);
    }
  }
  static float dot(const vec& a, const vec& b) {
    float sum = 0;
    for (std::size_t i = 0; i < hidden; ++i) sum += a[i] * b[i];
    return sum;
  }
  static vec times(const matrix& m, const vec& v) {
    vec out;
    for (std::size_t i = 0; i < hidden; ++i) out[i] = dot(m[i], v);
    return out;
  }
  static void add(vec& x, const vec& y) {
    for (std::size_t i = 0; i < hidden; ++i) x[i] += y[i];
  }
  static vec normalised(const vec& x) {
    const float scale = 1.0f / std::sqrt(dot(x, x) / hidden + 1e-6f);
    vec out;
    for (std::size_t i = 0; i < hidden; ++i) out[i] = x[i] * scale;
    return out;
  }
  static vec attend(const vec& query, const std::vector<vec>& keys,
                    const std::vector<vec>& values) {
    vec out{};
    std::vector<float> weights(keys.size());
    for (std::size_t h = 0; h < heads; ++h) {
      const std::size_t first = h * head_dim;
      float most = -INFINITY;
      for (std::size_t p = 0; p < keys.size(); ++p) {
        float score = 0;
        for (std::size_t i = first; i < first + head_dim; ++i) score += query[i] * keys[p][i];
        weights[p] = score / std::sqrt(static_cast<float>(head_dim));
        most = std::max(most, weights[p]);
      }
      float total = 0;
      for (float& w : weights) total += w = std::exp(w - most);
      for (std::size_t p = 0; p < keys.size(); ++p) {
        for (std::size_t i = first; i < first + head_dim; ++i) {
          out[i] += weights[p] / total * values[p][i];
        }
      }
    }
    return out;
  }
  static void feed_forward(const layer& w, vec& x) {
    const vec in = normalised(x);
    std::array<float, inner> middle;
    for (std::size_t i = 0; i < inner; ++i) middle[i] = std::max(0.0f, dot(w.up[i], in));
    for (std::size_t i = 0; i < hidden; ++i) {
      float sum = 0;
      for (std::size_t j = 0; j < inner; ++j) sum += w.down[i][j] * middle[j];
      x[i] += sum;
    }
  }

  std::array<vec, vocabulary> embedding_;
  std::array<layer, layers> layers_;
};

// Greedy, or sampled from the softmax by a number that depends on (seed, position) alone.
struct sampler {
  bool greedy = true;
  std::uint64_t seed = 0;

  [[nodiscard]] token_id pick(const logits_row& logits, std::size_t position) const {
    const auto best = std::max_element(logits.begin(), logits.end());
    if (greedy) return static_cast<token_id>(best - logits.begin());
    double total = 0;
    for (const float l : logits) total += std::exp(static_cast<double>(l - *best));
    std::mt19937_64 random(seed * 1'000'003 + position);
    double rest = static_cast<double>(random() >> 11) * 0x1p-53 * total;
    for (token_id t = 0; t + 1 < vocabulary; ++t) {
      rest -= std::exp(static_cast<double>(logits[t] - *best));
      if (rest < 0) return t;
    }
    return vocabulary - 1;
  }
};

// The same model without a cache: every token is computed, nothing is shared.
class reference {
 public:
  // Computes what is missing of the tokens' contexts. REQUIRES: it has only seen a prefix of them.
  void extend(const model& m, std::span<const token_id> tokens) {
    for (std::size_t p = context_.size(); p < tokens.size(); ++p) {
      logits_.push_back(m.forward(tokens[p], context_));
    }
  }
  void truncate(std::size_t n) {
    context_.truncate(n);
    logits_.resize(context_.size());
  }
  // Logits that follow the token at a position.
  [[nodiscard]] const logits_row& logits(std::size_t position) const {
    return logits_.at(position);
  }

 private:
  kv_context context_;
  std::vector<logits_row> logits_;
};

}  // namespace radixkv::toy
