// Rows that are hard to read whole, through the top-k store: at every alignment, cut into slices,
// with infinities and NaNs. Against a stable sort on the host.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>

#include "radixkv/cuda_topk_cache.h"
#include "tests/cuda/executor_test.h"

namespace radixkv::testing {
namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

// Stored as bf16 where `type` says so: only values that convert exactly.
void write_row(std::byte* to, logits_type type, const std::vector<float>& row) {
  for (std::size_t i = 0; i < row.size(); ++i) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &row[i], 4);
    if (type == logits_type::bf16) {
      const auto high = static_cast<std::uint16_t>(bits >> 16);
      std::memcpy(to + 2 * i, &high, 2);
    } else {
      std::memcpy(to + 4 * i, &bits, 4);
    }
  }
}

std::vector<std::int32_t> best(const std::vector<float>& row, std::size_t k) {
  std::vector<std::int32_t> order(row.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    const float x = row[static_cast<std::size_t>(a)], y = row[static_cast<std::size_t>(b)];
    if (std::isnan(x) || std::isnan(y)) return std::isnan(x) && !std::isnan(y);
    return x > y;
  });
  order.resize(k);
  return order;
}

// Stores `rows`, the first of which begins `phase` elements behind an aligned address, in slots 0,
// 1, …, all in one plan.
void store_and_compare(cuda_topk_cache& cache, std::int32_t vocabulary, logits_type type,
                       std::size_t phase, const std::vector<std::vector<float>>& rows) {
  const std::size_t element = bytes_of(type);
  const std::size_t stride = static_cast<std::size_t>(vocabulary) + 3;
  std::vector<std::byte> host((phase + rows.size() * stride) * element);
  step_plan plan;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    write_row(host.data() + (phase + r * stride) * element, type, rows[r]);
    plan.logits.push_back(
        {logits_direction::store, static_cast<logits_slot>(r), static_cast<std::int32_t>(r)});
  }
  const device_array<std::byte> device(host);
  test_stream stream;
  RADIXKV_ASSERT_OK(cache.store(stream, plan,
                                {.data = device.data() + phase * element,
                                 .row_stride_bytes = static_cast<std::int64_t>(stride * element),
                                 .rows = static_cast<std::int32_t>(rows.size()),
                                 .type = type}));
  RADIXKV_ASSERT_OK(cache.synchronize());
  const auto k = static_cast<std::size_t>(cache.view().k);
  std::vector<std::int32_t> ids(rows.size() * k);
  require_cuda(cudaMemcpy(ids.data(), cache.view().ids, ids.size() * 4, cudaMemcpyDeviceToHost));
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const auto at = ids.begin() + static_cast<std::ptrdiff_t>(r * k);
    ASSERT_EQ(std::vector<std::int32_t>(at, at + static_cast<std::ptrdiff_t>(k)), best(rows[r], k))
        << "row " << r << ", vocabulary " << vocabulary << ", phase " << phase;
  }
}

// The largest logits come last, where a misaligned row's last tile may be forgotten. Whole tiles
// are 4,096 elements, slices eight of them.
TEST(cuda_topk_rows, the_last_logits_of_a_misaligned_row) {
  for (const std::int32_t vocabulary : {4096, 8192, 65536}) {
    cuda_topk_cache cache =
        cuda_topk_cache::create({.slots = 1, .k = 5, .vocabulary = vocabulary}).value();
    std::vector<float> row(static_cast<std::size_t>(vocabulary));
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>(i / 512);
    for (std::size_t i = 0; i < 8; ++i) row[row.size() - 1 - i] = static_cast<float>(200 - i);
    for (const logits_type type : {logits_type::fp32, logits_type::bf16}) {
      for (std::size_t phase = 0; phase < 8; ++phase) {
        store_and_compare(cache, vocabulary, type, phase, {row});
        if (HasFatalFailure()) return;
      }
    }
  }
}

// A real vocabulary, and as few rows as are cut into slices: more scratch than max_rows rows take.
TEST(cuda_topk_rows, few_rows_of_a_large_vocabulary) {
  constexpr std::int32_t vocabulary = 131072;
  cuda_topk_cache cache =
      cuda_topk_cache::create({.slots = 3, .k = 64, .vocabulary = vocabulary, .max_rows = 1024})
          .value();
  std::mt19937 random(6);
  for (const std::size_t count : {1, 3}) {
    std::vector<std::vector<float>> rows(count, std::vector<float>(vocabulary));
    for (auto& row : rows) {
      for (float& x : row) x = static_cast<float>(static_cast<int>(random() % 200) - 100);
    }
    store_and_compare(cache, vocabulary, logits_type::bf16, 1, rows);
    if (HasFatalFailure()) return;
  }
}

// As many infinities as are kept do not make a NaN that comes later too late.
TEST(cuda_topk_rows, a_nan_behind_infinities) {
  constexpr std::int32_t vocabulary = 16384;
  cuda_topk_cache cache =
      cuda_topk_cache::create({.slots = 3, .k = 4, .vocabulary = vocabulary}).value();
  std::vector<std::vector<float>> rows(3, std::vector<float>(vocabulary, inf));
  rows[0].back() = nan;
  rows[1][9000] = nan;
  rows[1][3] = -inf;
  store_and_compare(cache, vocabulary, logits_type::fp32, 0, rows);
}

}  // namespace
}  // namespace radixkv::testing
