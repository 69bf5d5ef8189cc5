// Random numbers that are the same on every machine and with every standard library (whose
// distributions are not).
#pragma once

#include <cmath>
#include <cstdint>

namespace radixkv::cli {

// SplitMix64 (Steele, Lea and Flood, 2014). Thread-safety: none.
class random_source {
 public:
  explicit random_source(std::uint64_t seed) noexcept : state_(seed) {}

  std::uint64_t next() noexcept {
    std::uint64_t x = state_ += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
  }
  // Uniform in [0, n). REQUIRES: n ≥ 1.
  std::uint64_t below(std::uint64_t n) noexcept {
    return static_cast<std::uint64_t>(static_cast<unsigned __int128>(next()) * n >> 64);
  }
  // Uniform in [0, 1).
  double uniform() noexcept { return static_cast<double>(next() >> 11) * 0x1p-53; }
  bool chance(double probability) noexcept { return uniform() < probability; }
  double exponential(double mean) noexcept { return -mean * std::log(1.0 - uniform()); }
  // exp of a normal variable: half of the values lie below `median`.
  double log_normal(double median, double sigma) noexcept {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return median * std::exp(sigma * radius * std::cos(6.283185307179586 * uniform()));
  }

 private:
  std::uint64_t state_;
};

}  // namespace radixkv::cli
