// Traffic of logits_topk: k = 64 of 131,072, on rows in every order.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "bench/kernels/topk_batch.h"
#include "bench/kernels/traffic_case.h"

namespace radixkv::bench {
namespace {

constexpr std::uint32_t vocabulary = 131072, k = 64;

using row_maker = float (*)(std::size_t i, std::mt19937& random);

traffic_result run(std::uint32_t row_count, row_maker make) {
  std::mt19937 random(1);
  std::vector<float> content(std::size_t{row_count} * vocabulary);
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = make(i % vocabulary, random);
  const device_topk batch(content, vocabulary, k);
  traffic_result result;
  result.bytes_minimal = static_cast<double>(row_count) * (vocabulary * 4.0 + k * 8.0 + 4);
  result.elements = static_cast<double>(content.size());
  if (const cudaError_t error = kernels::logits_topk(nullptr, batch.arguments());
      error != cudaSuccess) {
    result.error = cudaGetErrorString(error);
    return result;
  }
  const std::vector<std::int32_t> got = batch.ids();
  for (std::uint32_t r = 0; r < row_count; ++r) {
    const float* row = content.data() + std::size_t{r} * vocabulary;
    const auto first = [row](std::int32_t a, std::int32_t b) {
      const bool nan_a = std::isnan(row[a]), nan_b = std::isnan(row[b]);
      if (nan_a != nan_b) return nan_a;
      if (!nan_a && row[a] != row[b]) return row[a] > row[b];
      return a < b;
    };
    std::vector<std::int32_t> order(vocabulary);
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + k, order.end(), first);
    if (!std::equal(order.begin(), order.begin() + k, got.begin() + std::ptrdiff_t{r} * k)) {
      result.error = "wrong ids";
    }
  }
  return result;
}

const traffic_registrar cases([](std::vector<traffic_case>& all) {
  const auto add = [&](const char* name, std::uint32_t rows, row_maker make) {
    all.push_back({"logits_topk", name, "topk_", [rows, make] { return run(rows, make); }});
  };
  const row_maker normal = [](std::size_t, std::mt19937& random) {
    return std::normal_distribution<float>(0, 3)(random);
  };
  add("random", 1, normal);
  add("random_300_rows", 300, normal);
  add("ascending", 1, [](std::size_t i, std::mt19937&) { return static_cast<float>(i) / 8192; });
  add("descending", 1, [](std::size_t i, std::mt19937&) { return -static_cast<float>(i) / 8192; });
  add("constant", 1, [](std::size_t, std::mt19937&) { return 1.0f; });
  add("all_nan", 1, [](std::size_t, std::mt19937&) { return NAN; });
  // Every element of a tile of 4,096 ties, and beats all before it.
  add("steps", 1, [](std::size_t i, std::mt19937&) { return static_cast<float>(i / 4096); });
  // Every tile holds just too many candidates to append, all in the last radix bin.
  add("steps_descending_within", 1, [](std::size_t i, std::mt19937&) {
    return static_cast<float>(i / 4096 + 1) - static_cast<float>(i % 4096) * 1e-6f;
  });
});

}  // namespace
}  // namespace radixkv::bench
