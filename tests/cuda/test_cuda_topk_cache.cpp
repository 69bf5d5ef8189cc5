// The top-k store against sorting rows on the host: plans on several streams, all element types of
// rows that convert exactly, and input it must refuse.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>

#include "radixkv/cuda_topk_cache.h"
#include "tests/cuda/executor_test.h"

namespace radixkv::testing {
namespace {

constexpr std::int32_t vocabulary = 1003, k = 12, slots = 9, row_count = 14;
constexpr std::int32_t row_stride = vocabulary + 5;  // elements

cuda_topk_options small_options() {
  return {.slots = slots, .k = k, .vocabulary = vocabulary, .max_rows = 8, .staging_slots = 32};
}

struct entry {
  std::vector<float> values;
  std::vector<std::int32_t> ids;
  float log_sum_exp = 0;
};

entry expected(const float* row) {
  std::vector<std::int32_t> order(vocabulary);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int32_t a, std::int32_t b) { return row[a] > row[b]; });
  entry e;
  double sum = 0;
  for (std::int32_t i = 0; i < vocabulary; ++i) {
    sum += std::exp(static_cast<double>(row[i]) - static_cast<double>(row[order[0]]));
  }
  e.log_sum_exp = static_cast<float>(row[order[0]] + std::log(sum));
  for (std::int32_t i = 0; i < k; ++i) {
    e.values.push_back(row[order[static_cast<std::size_t>(i)]]);
    e.ids.push_back(order[static_cast<std::size_t>(i)]);
  }
  return e;
}

TEST(cuda_topk_cache, slots_hold_what_the_last_store_said) {
  std::mt19937 random(5);
  cuda_topk_cache cache = cuda_topk_cache::create(small_options()).value();
  EXPECT_EQ(cache.view().slots, slots);
  EXPECT_EQ(cache.view().k, k);
  test_stream streams[2];
  device_array<float> device[2] = {device_array<float>(row_count * row_stride),
                                   device_array<float>(row_count * row_stride)};
  std::vector<float> host[2];
  std::vector<entry> held(slots);
  std::vector<bool> filled(slots);
  for (int round = 0; round < 12; ++round) {
    for (int i = 0; i < 2; ++i) {
      // Few values, so that ties are common.
      host[i].resize(row_count * row_stride);
      for (float& x : host[i]) x = static_cast<float>(static_cast<int>(random() % 200) - 100) / 8;
      require_cuda(cudaMemcpyAsync(device[i].data(), host[i].data(), host[i].size() * sizeof(float),
                                   cudaMemcpyHostToDevice, streams[i]));
    }
    for (int i = 0; i < 2; ++i) {
      step_plan plan;
      plan.copies.push_back({0, 1, 1});  // not this store's to do
      for (std::size_t moves = random() % 12; moves > 0; --moves) {
        const logits_move m{random() % 4 ? logits_direction::store : logits_direction::load,
                            static_cast<logits_slot>(random() % slots),
                            static_cast<std::int32_t>(random() % row_count)};
        plan.logits.push_back(m);
        if (m.direction == logits_direction::load) continue;
        held[static_cast<std::size_t>(m.slot)] = expected(host[i].data() + m.row * row_stride);
        filled[static_cast<std::size_t>(m.slot)] = true;
      }
      RADIXKV_ASSERT_OK(cache.store(streams[i], plan,
                                    {.data = device[i].data(),
                                     .row_stride_bytes = row_stride * 4,
                                     .rows = row_count,
                                     .type = logits_type::fp32}));
    }
    RADIXKV_ASSERT_OK(cache.synchronize());
  }
  const cuda_topk_view view = cache.view();
  std::vector<float> values(slots * k), sums(slots);
  std::vector<std::int32_t> ids(slots * k);
  require_cuda(cudaMemcpy(values.data(), view.values, values.size() * 4, cudaMemcpyDeviceToHost));
  require_cuda(cudaMemcpy(ids.data(), view.ids, ids.size() * 4, cudaMemcpyDeviceToHost));
  require_cuda(cudaMemcpy(sums.data(), view.log_sum_exp, slots * 4, cudaMemcpyDeviceToHost));
  for (std::size_t s = 0; s < slots; ++s) {
    ASSERT_TRUE(filled[s]);
    for (std::size_t i = 0; i < k; ++i) {
      EXPECT_EQ(values[s * k + i], held[s].values[i]) << "slot " << s << ", place " << i;
      EXPECT_EQ(ids[s * k + i], held[s].ids[i]) << "slot " << s << ", place " << i;
    }
    EXPECT_NEAR(sums[s], held[s].log_sum_exp, 1e-4) << "slot " << s;
  }
}

// A row a launch: a plan takes as many staging slots as it has rows.
TEST(cuda_topk_cache, a_plan_that_staging_does_not_hold_enqueues_nothing) {
  cuda_topk_cache cache =
      cuda_topk_cache::create(
          {.slots = slots, .k = 1, .vocabulary = 4, .max_rows = 1, .staging_slots = 3})
          .value();
  test_stream stream;
  std::vector<float> host(4 * slots);
  std::iota(host.begin(), host.end(), 1.0f);
  const device_array<float> rows(host);
  const logits_rows_view view{rows.data(), 16, slots, logits_type::fp32};
  const auto plan = [](std::initializer_list<std::int32_t> stored) {
    step_plan p;
    for (const std::int32_t i : stored) p.logits.push_back({logits_direction::store, i, i});
    return p;
  };
  std::vector<float> expected(slots, 0.0f);
  const auto check = [&] {
    RADIXKV_ASSERT_OK(cache.synchronize());
    std::vector<float> values(slots);
    require_cuda(cudaMemcpy(values.data(), cache.view().values, 4 * slots, cudaMemcpyDeviceToHost));
    EXPECT_EQ(values, expected);
  };
  expect_refused(cache.store(stream, plan({0, 1, 2, 3}), view), errc::invalid_argument,
                 "needs 4 staging slots");
  check();
  int busy = 0;
  for (int round = 0; round < 4; ++round) {
    RADIXKV_ASSERT_OK(cache.store(stream, plan({0, 1}), view));
    for (const std::int32_t i : {0, 1}) expected[static_cast<std::size_t>(i)] = 4.0f * (i + 1);
    const status s = cache.store(stream, plan({4, 5}), view);
    if (s.ok()) {
      for (const std::int32_t i : {4, 5}) expected[static_cast<std::size_t>(i)] = 4.0f * (i + 1);
    } else {
      expect_refused(s, errc::busy, "are free: earlier plans are in flight");
      ++busy;
    }
    check();
  }
  const char* mode = std::getenv("CUDASIM_ASYNC");
  if (mode != nullptr && std::string(mode) == "lazy") {
    EXPECT_EQ(busy, 4);
  }
}

TEST(cuda_topk_cache, bad_input_enqueues_nothing) {
  const auto create = [](auto change) {
    cuda_topk_options o = small_options();
    change(o);
    return cuda_topk_cache::create(o);
  };
  expect_refused(create([](auto& o) { o.slots = 0; }), errc::invalid_argument, "slots 0");
  expect_refused(create([](auto& o) { o.k = 0; }), errc::invalid_argument, "k 0");
  expect_refused(create([](auto& o) { o.k = 257; }), errc::invalid_argument, "[1, 256]");
  expect_refused(create([](auto& o) { o.vocabulary = 8; }), errc::invalid_argument, "k 12");
  expect_refused(create([](auto& o) { o.max_rows = 0; }), errc::invalid_argument, "max_rows 0");
  expect_refused(create([](auto& o) { o.staging_slots = 5000; }), errc::invalid_argument, "5000");
  expect_refused(create([](auto& o) {
                   o.slots = std::numeric_limits<std::int32_t>::max();
                   o.vocabulary = 1000;
                   o.k = 256;  // 2 TB
                 }),
                 errc::out_of_memory, "device memory for the top values");
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);

  cuda_topk_cache cache = cuda_topk_cache::create(small_options()).value();
  test_stream stream;
  device_array<float> rows(row_count * row_stride);
  const logits_rows_view good{rows.data(), row_stride * 4, row_count, logits_type::fp32};
  const auto store = [&](logits_slot slot, std::int32_t row, auto change) {
    step_plan plan;
    plan.logits.push_back({logits_direction::store, slot, row});
    logits_rows_view view = good;
    change(view);
    return cache.store(stream, plan, view);
  };
  const auto as_is = [](auto&) {};
  expect_refused(store(slots, 0, as_is), errc::invalid_argument, "slot 9 is not in [0, 8]");
  expect_refused(store(-1, 0, as_is), errc::invalid_argument, "slot -1");
  expect_refused(store(0, row_count, as_is), errc::invalid_argument, "row 14");
  expect_refused(store(0, -1, as_is), errc::invalid_argument, "row -1");
  expect_refused(store(0, 0, [](auto& v) { v.data = nullptr; }), errc::invalid_argument, "null");
  expect_refused(store(0, 0, [](auto& v) { v.row_stride_bytes = 4 * vocabulary - 4; }),
                 errc::invalid_argument, "row stride");
  expect_refused(store(0, 0, [](auto& v) { v.data = static_cast<char*>(v.data) + 2; }),
                 errc::invalid_argument, "multiple");
  expect_refused(store(0, 0, [](auto& v) { v.type = static_cast<logits_type>(3); }),
                 errc::invalid_argument, "type 3");
  // Memory that kernels cannot read: the host's, and behind the end of an allocation.
  std::vector<float> host(row_count * row_stride);
  expect_refused(store(0, 0, [&](auto& v) { v.data = host.data(); }), errc::invalid_argument,
                 "logits rows: its first byte is not memory of device");
  expect_refused(store(0, 0, [](auto& v) { v.rows = 1 << 30; }), errc::invalid_argument,
                 "logits rows: its last byte is not memory of device");
  RADIXKV_ASSERT_OK(cache.synchronize());
  RADIXKV_ASSERT_OK(cache.store(stream, {}, {}));
  cudaStream_t capturing = nullptr;
  require_cuda(cudaStreamCreate(&capturing));
  require_cuda(cudaStreamBeginCapture(capturing, cudaStreamCaptureModeThreadLocal));
  step_plan plan;
  plan.logits.push_back({logits_direction::store, 0, 0});
  expect_refused(cache.store(capturing, plan, good), errc::invalid_argument, "not captured");
  cudaGraph_t graph = nullptr;
  require_cuda(cudaStreamEndCapture(capturing, &graph));
  require_cuda(cudaGraphDestroy(graph));
  require_cuda(cudaStreamDestroy(capturing));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

}  // namespace
}  // namespace radixkv::testing
