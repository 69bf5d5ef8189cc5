// logits_topk against a full sort on the host: random rows, every order, ties, NaNs and infinities.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <random>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/logits_topk.h"
#include "tests/cuda/cuda_test.h"

namespace radixkv::kernels {
namespace {

using radixkv::testing::device_array;
using radixkv::testing::test_stream;

constexpr element_type types[] = {element_type::fp32, element_type::fp16, element_type::bf16};

// The element as a row of type t holds it.
float rounded(float f, element_type t) {
  switch (t) {
    case element_type::fp32:
      return f;
    case element_type::fp16:
      return __half2float(__float2half_rn(f));
    default:
      return __bfloat162float(__float2bfloat16_rn(f));
  }
}

void write_element(std::byte* p, element_type t, float f) {
  if (t == element_type::fp32) {
    std::memcpy(p, &f, 4);
  } else if (t == element_type::fp16) {
    const __half h = __float2half_rn(f);
    std::memcpy(p, &h, 2);
  } else {
    const __nv_bfloat16 b = __float2bfloat16_rn(f);
    std::memcpy(p, &b, 2);
  }
}

bool comes_first(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && !std::isnan(b);
  return a > b;
}

struct batch {
  element_type type = element_type::fp32;
  std::uint32_t k = 1;
  std::size_t phase = 0;    // elements between an aligned address and the first row
  std::size_t padding = 0;  // elements between rows
  std::vector<std::vector<float>> rows;
};

// The arguments for rows of fp32 with nothing between them, but for where results go.
logits_topk_arguments dense_rows(device_array<float>& rows, std::uint32_t count, std::uint32_t k,
                                 device_array<float>& values, device_array<std::int32_t>& ids,
                                 device_array<float>& sums) {
  logits_topk_arguments a;
  a.rows = rows.data();
  a.row_count = count;
  a.vocabulary = static_cast<std::uint32_t>(rows.size() / count);
  a.row_stride = a.vocabulary;
  a.k = k;
  a.values = values.data();
  a.ids = ids.data();
  a.log_sum_exp = sums.data();
  return a;
}

bool same_bits(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || std::memcmp(&a, &b, 4) == 0;
}

void expect_row(const std::vector<float>& row, std::uint32_t k, const float* values,
                const std::int32_t* ids, float log_sum_exp) {
  std::vector<std::int32_t> order(row.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return comes_first(row[static_cast<std::size_t>(a)], row[static_cast<std::size_t>(b)]);
  });
  for (std::uint32_t i = 0; i < k; ++i) {
    ASSERT_EQ(ids[i], order[i]) << "rank " << i;
    ASSERT_TRUE(same_bits(values[i], row[static_cast<std::size_t>(order[i])])) << "rank " << i;
  }
  double peak = -std::numeric_limits<double>::infinity(), sum = 0;
  bool nan = false;
  for (const float f : row) {
    nan = nan || std::isnan(f);
    peak = std::max(peak, static_cast<double>(f));
  }
  if (nan) {
    EXPECT_TRUE(std::isnan(log_sum_exp));
  } else if (std::isinf(peak)) {
    EXPECT_EQ(log_sum_exp, static_cast<float>(peak));
  } else {
    for (const float f : row) sum += std::exp(static_cast<double>(f) - peak);
    const double wanted = peak + std::log(sum);
    EXPECT_NEAR(log_sum_exp, wanted, 2e-5 + std::abs(wanted) * 1e-6);
  }
}

void run_and_compare(batch& b) {
  const std::size_t vocabulary = b.rows[0].size(), stride = vocabulary + b.padding;
  std::vector<std::byte> bytes((b.phase + b.rows.size() * stride - b.padding) * bytes_of(b.type));
  for (std::size_t r = 0; r < b.rows.size(); ++r) {
    for (std::size_t i = 0; i < vocabulary; ++i) {
      write_element(&bytes[(b.phase + r * stride + i) * bytes_of(b.type)], b.type, b.rows[r][i]);
      b.rows[r][i] = rounded(b.rows[r][i], b.type);
    }
    for (std::size_t i = 0; r + 1 < b.rows.size() && i < b.padding; ++i) {
      write_element(&bytes[(b.phase + r * stride + vocabulary + i) * bytes_of(b.type)], b.type,
                    NAN);
    }
  }
  test_stream stream;
  const std::size_t n = b.rows.size();
  const auto rows = static_cast<std::uint32_t>(n);
  device_array<std::byte> device(bytes);
  device_array<float> values(n * b.k), sums(n);
  device_array<std::int32_t> ids(n * b.k);
  const std::size_t scratch_bytes =
      logits_topk_scratch_bytes(rows, static_cast<std::uint32_t>(vocabulary), b.k);
  device_array<std::byte> scratch(scratch_bytes);
  logits_topk_arguments a;
  a.rows = device.data() + b.phase * bytes_of(b.type);
  a.row_stride = static_cast<std::int64_t>(stride);
  a.row_type = b.type;
  a.row_count = rows;
  a.vocabulary = static_cast<std::uint32_t>(vocabulary);
  a.k = b.k;
  a.slot_count = static_cast<std::int32_t>(n);
  a.values = values.data();
  a.ids = ids.data();
  a.log_sum_exp = sums.data();
  a.scratch = scratch.data();
  a.scratch_bytes = scratch_bytes;
  RADIXKV_ASSERT_CUDA(logits_topk(stream, a));
  stream.synchronize();
  const auto got_values = values.download();
  const auto got_ids = ids.download();
  const auto got_sums = sums.download();
  for (std::size_t r = 0; r < n; ++r) {
    SCOPED_TRACE(::testing::Message() << "row " << r);
    expect_row(b.rows[r], b.k, &got_values[r * b.k], &got_ids[r * b.k], got_sums[r]);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

using row_maker = std::function<float(std::size_t, std::mt19937&)>;

const std::vector<std::pair<const char*, row_maker>> kinds = {
    {"normal",
     [](std::size_t, std::mt19937& r) { return std::normal_distribution<float>(0, 5)(r); }},
    {"ascending", [](std::size_t i, std::mt19937&) { return static_cast<float>(i) * 1e-3f; }},
    {"descending", [](std::size_t i, std::mt19937&) { return -static_cast<float>(i) * 1e-3f; }},
    {"constant", [](std::size_t, std::mt19937&) { return -3.5f; }},
    {"all NaN", [](std::size_t, std::mt19937&) { return NAN; }},
    {"all -inf", [](std::size_t, std::mt19937&) { return -INFINITY; }},
    {"all +inf", [](std::size_t, std::mt19937&) { return INFINITY; }},
    {"few values", [](std::size_t, std::mt19937& r) { return static_cast<float>(r() % 5); }},
    {"mostly -inf", [](std::size_t, std::mt19937& r) { return r() % 300 == 0 ? 1.0f : -INFINITY; }},
    {"zeros of both signs", [](std::size_t, std::mt19937& r) { return r() % 2 ? 0.0f : -0.0f; }},
    {"some NaN",
     [](std::size_t i, std::mt19937& r) { return r() % 500 == 0 ? NAN : static_cast<float>(i); }},
    {"one +inf", [](std::size_t i, std::mt19937&) { return i == 777 ? INFINITY : 0.5f; }},
    {"huge", [](std::size_t i, std::mt19937&) { return i % 3 ? -3e38f : 3e38f; }},
    {"steps", [](std::size_t i, std::mt19937&) { return static_cast<float>(i / 4096); }},
    {"saw", [](std::size_t i,
               std::mt19937&) { return static_cast<float>(i / 4096 * 4096 + 4096 - i % 4096); }},
    {"subnormal",
     [](std::size_t i, std::mt19937&) { return static_cast<float>(i % 1000) * 1e-45f; }},
};

TEST(logits_topk, every_kind_of_row) {
  std::mt19937 random(1);
  for (const element_type type : types) {
    for (const std::uint32_t k : {1u, 64u, 256u}) {
      for (const auto& [name, make] : kinds) {
        SCOPED_TRACE(::testing::Message()
                     << name << ", type " << static_cast<int>(type) << ", k " << k);
        batch b;
        b.type = type;
        b.k = k;
        b.rows.assign(1, std::vector<float>(20000));
        for (std::size_t i = 0; i < 20000; ++i) b.rows[0][i] = make(i, random);
        run_and_compare(b);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(logits_topk, rows_cut_into_slices) {
  std::mt19937 random(2);
  for (const auto& [name, make] : kinds) {
    SCOPED_TRACE(name);
    batch b;
    b.type = types[random() % 3];
    b.k = random() % 2 ? 64 : 200;
    b.phase = random() % 9;
    b.rows.assign(1, std::vector<float>(128257));
    for (std::size_t i = 0; i < b.rows[0].size(); ++i) b.rows[0][i] = make(i, random);
    run_and_compare(b);
    if (HasFatalFailure()) return;
  }
}

TEST(logits_topk, small_vocabularies_and_every_phase) {
  std::mt19937 random(3);
  for (int round = 0; round < 120; ++round) {
    batch b;
    b.type = types[random() % 3];
    const std::size_t vocabulary = 1 + random() % (round % 4 == 0 ? 9000 : 700);
    b.k = static_cast<std::uint32_t>(1 + random() % std::min<std::size_t>(vocabulary, 256));
    b.phase = random() % 16;
    b.padding = random() % 3;
    b.rows.resize(1 + random() % 4);
    SCOPED_TRACE(::testing::Message()
                 << "round " << round << ", vocabulary " << vocabulary << ", k " << b.k);
    for (auto& row : b.rows) {
      const row_maker& make = kinds[random() % kinds.size()].second;
      for (std::size_t i = 0; i < vocabulary; ++i) row.push_back(make(i, random));
    }
    run_and_compare(b);
    if (HasFatalFailure()) return;
  }
}

TEST(logits_topk, slots_choose_where_results_go) {
  std::mt19937 random(4);
  constexpr std::uint32_t vocabulary = 500, k = 3;
  std::vector<float> rows(5 * vocabulary);
  for (float& f : rows) f = static_cast<float>(random());
  device_array<float> device(rows), values(std::vector<float>(4 * k, -1)),
      sums(std::vector<float>(4, -1));
  device_array<std::int32_t> ids(std::vector<std::int32_t>(4 * k, -1)),
      slots(std::vector<std::int32_t>{2, -1, 4, 0, INT32_MIN});
  device_array<std::uint32_t> rejected(std::vector<std::uint32_t>{0});
  test_stream stream;
  logits_topk_arguments a = dense_rows(device, 5, k, values, ids, sums);
  a.slots = slots.data();
  a.slot_count = 4;
  a.rejected = rejected.data();
  RADIXKV_ASSERT_CUDA(logits_topk(stream, a));
  stream.synchronize();
  EXPECT_EQ(rejected.download()[0], 2u);
  for (const auto& [row, slot] : {std::pair{0, 2}, {3, 0}}) {
    expect_row({rows.begin() + row * int{vocabulary}, rows.begin() + (row + 1) * int{vocabulary}},
               k, values.download(static_cast<std::size_t>(slot) * k, k).data(),
               ids.download(static_cast<std::size_t>(slot) * k, k).data(),
               sums.download()[static_cast<std::size_t>(slot)]);
  }
  for (const std::size_t slot : {1, 3}) {
    EXPECT_EQ(values.download(slot * k, k), std::vector<float>(k, -1));
    EXPECT_EQ(ids.download(slot * k, k), std::vector<std::int32_t>(k, -1));
    EXPECT_EQ(sums.download()[slot], -1);
  }
}

// Slices of a row are worked on apart.
TEST(logits_topk, a_slot_out_of_range_counts_once_however_many_slices) {
  constexpr std::uint32_t vocabulary = 128'257;
  device_array<float> rows(std::vector<float>(vocabulary, 1)), values(1), sums(1);
  device_array<std::int32_t> ids(1), slots(std::vector<std::int32_t>{1});
  device_array<std::uint32_t> rejected(std::vector<std::uint32_t>{0});
  device_array<std::byte> scratch(logits_topk_scratch_bytes(1, vocabulary, 1));
  ASSERT_GT(scratch.size(), 0u);
  test_stream stream;
  logits_topk_arguments a = dense_rows(rows, 1, 1, values, ids, sums);
  a.slots = slots.data();
  a.slot_count = 1;
  a.rejected = rejected.data();
  a.scratch = scratch.data();
  a.scratch_bytes = scratch.size();
  RADIXKV_ASSERT_CUDA(logits_topk(stream, a));
  stream.synchronize();
  EXPECT_EQ(rejected.download()[0], 1u);
}

TEST(logits_topk, bad_arguments_are_refused_before_launch) {
  test_stream stream;
  device_array<float> rows(100000), values(64), sums(1);
  device_array<std::int32_t> ids(64);
  device_array<std::byte> scratch(1 << 16);
  logits_topk_arguments good = dense_rows(rows, 1, 64, values, ids, sums);
  good.slot_count = 1;
  good.scratch = scratch.data();
  good.scratch_bytes = scratch.size();
  const auto refused = [&](auto change, cudaError_t error) {
    logits_topk_arguments bad = good;
    change(bad);
    EXPECT_EQ(logits_topk(stream, bad), error);
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
  };
  refused([](auto& b) { b.rows = nullptr; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.values = nullptr; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.ids = nullptr; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.log_sum_exp = nullptr; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.k = 0; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.k = max_top_k + 1; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.vocabulary = b.k - 1; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.vocabulary = 0; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.row_stride = 99999; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.slot_count = 0; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.row_count = 2; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.row_type = static_cast<element_type>(7); }, cudaErrorInvalidValue);
  refused([](auto& b) { b.scratch = nullptr; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.scratch_bytes = 100; }, cudaErrorInvalidValue);
  refused([&](auto& b) { b.scratch = scratch.data() + 4; }, cudaErrorMisalignedAddress);
  refused([&](auto& b) { b.rows = scratch.data() + 2; }, cudaErrorMisalignedAddress);
  logits_topk_arguments none = good;
  none.row_count = 0;
  EXPECT_EQ(logits_topk(stream, none), cudaSuccess);
}

}  // namespace
}  // namespace radixkv::kernels
