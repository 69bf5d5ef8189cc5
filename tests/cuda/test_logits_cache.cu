// logits_scatter and logits_gather against a plain host loop: types × vocabularies × alignments.

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/logits_cache.h"
#include "tests/cuda/cuda_test.h"

namespace radixkv::kernels {
namespace {

using radixkv::testing::device_array;
using radixkv::testing::test_stream;

constexpr element_type types[] = {element_type::fp32, element_type::fp16, element_type::bf16};

float read_element(const std::byte* p, element_type t) {
  switch (t) {
    case element_type::fp32: {
      float f;
      std::memcpy(&f, p, 4);
      return f;
    }
    case element_type::fp16: {
      __half h;
      std::memcpy(&h, p, 2);
      return __half2float(h);
    }
    default: {
      __nv_bfloat16 b;
      std::memcpy(&b, p, 2);
      return __bfloat162float(b);
    }
  }
}

void write_element(std::byte* p, element_type t, float f) {
  switch (t) {
    case element_type::fp32:
      std::memcpy(p, &f, 4);
      break;
    case element_type::fp16: {
      const __half h = __float2half_rn(f);
      std::memcpy(p, &h, 2);
      break;
    }
    default: {
      const __nv_bfloat16 b = __float2bfloat16_rn(f);
      std::memcpy(p, &b, 2);
    }
  }
}

// A matrix in memory that starts `phase` elements after an aligned address.
struct matrix {
  element_type type;
  std::int64_t stride;
  std::size_t phase;
  std::vector<std::byte> bytes;

  matrix(element_type t, std::size_t rows, std::int64_t row_stride, std::size_t at)
      : type(t),
        stride(row_stride),
        phase(at),
        bytes((at + rows * static_cast<std::size_t>(row_stride)) * bytes_of(t)) {}
  std::byte* at(std::size_t row, std::size_t column) {
    return bytes.data() +
           (phase + row * static_cast<std::size_t>(stride) + column) * bytes_of(type);
  }
};

template <class Random>
void fill(matrix& m, Random& random) {
  // Random bits: NaNs with payloads, infinities, subnormals and values beyond fp16 among them.
  for (std::size_t i = 0; i < m.bytes.size(); i += bytes_of(m.type)) {
    const std::uint32_t kind = random() % 8;
    if (kind == 0) {
      for (std::size_t b = 0; b < bytes_of(m.type); ++b)
        m.bytes[i + b] = static_cast<std::byte>(random());
    } else {
      constexpr float specials[] = {0.0f, -0.0f,    INFINITY, -INFINITY,
                                    NAN,  65504.0f, 65536.0f, 1e30f};
      const float f = kind == 1 ? specials[random() % 8]
                                : static_cast<float>(static_cast<std::int32_t>(random())) / 1e8f;
      write_element(m.bytes.data() + i, m.type, f);
    }
  }
}

void move_on_host(matrix& from, std::size_t a, matrix& to, std::size_t b,
                  std::uint32_t vocabulary) {
  for (std::uint32_t i = 0; i < vocabulary; ++i) {
    if (from.type == to.type) {
      std::memcpy(to.at(b, i), from.at(a, i), bytes_of(from.type));
    } else {
      write_element(to.at(b, i), to.type, read_element(from.at(a, i), from.type));
    }
  }
}

// Equal bytes, or both NaN where a conversion chose the payload.
void expect_equal(const matrix& wanted, const std::vector<std::byte>& got, bool converted) {
  ASSERT_EQ(got.size(), wanted.bytes.size());
  for (std::size_t i = 0; i < got.size(); i += bytes_of(wanted.type)) {
    if (std::memcmp(&got[i], &wanted.bytes[i], bytes_of(wanted.type)) == 0) continue;
    const float g = read_element(&got[i], wanted.type);
    const float w = read_element(&wanted.bytes[i], wanted.type);
    ASSERT_TRUE(converted && std::isnan(g) && std::isnan(w))
        << "element " << i / bytes_of(wanted.type) << ": " << g << " instead of " << w;
  }
}

void run_and_compare(matrix& rows, matrix& store, const std::vector<std::int32_t>& slots,
                     std::int32_t slot_count, std::uint32_t vocabulary, bool scatter,
                     std::uint32_t wanted_rejected = 0) {
  test_stream stream;
  device_array<std::byte> device_rows(rows.bytes), device_store(store.bytes);
  device_array<std::int32_t> device_slots(slots);
  device_array<std::uint32_t> rejected(std::vector<std::uint32_t>{0});
  logits_arguments a;
  a.rows = device_rows.data() + rows.phase * bytes_of(rows.type);
  a.row_stride = rows.stride;
  a.row_type = rows.type;
  a.row_count = static_cast<std::uint32_t>(slots.size());
  a.store = device_store.data() + store.phase * bytes_of(store.type);
  a.slot_stride = store.stride;
  a.slot_type = store.type;
  a.slot_count = slot_count;
  a.vocabulary = vocabulary;
  a.slots = device_slots.data();
  a.rejected = rejected.data();
  RADIXKV_ASSERT_CUDA(scatter ? logits_scatter(stream, a) : logits_gather(stream, a));
  stream.synchronize();
  for (std::size_t r = 0; r < slots.size(); ++r) {
    if (slots[r] < 0 || slots[r] >= slot_count) continue;
    const auto s = static_cast<std::size_t>(slots[r]);
    scatter ? move_on_host(rows, r, store, s, vocabulary)
            : move_on_host(store, s, rows, r, vocabulary);
  }
  const bool converted = rows.type != store.type;
  expect_equal(rows, device_rows.download(), converted);
  expect_equal(store, device_store.download(), converted);
  EXPECT_EQ(rejected.download()[0], wanted_rejected);
}

TEST(logits_cache, every_type_pair_vocabulary_and_phase) {
  std::mt19937 random(1);
  for (const element_type row_type : types) {
    for (const element_type slot_type : types) {
      for (const std::uint32_t vocabulary :
           {1u, 2u, 3u, 7u, 31u, 128u, 1000u, 1023u, 1025u, 5003u}) {
        const std::size_t row_phase = random() % 17, slot_phase = random() % 17;
        matrix rows(row_type, 4, vocabulary + random() % 3, row_phase);
        matrix store(slot_type, 5, vocabulary + random() % 3, slot_phase);
        fill(rows, random);
        fill(store, random);
        SCOPED_TRACE(::testing::Message()
                     << "rows " << static_cast<int>(row_type) << ", slots "
                     << static_cast<int>(slot_type) << ", vocabulary " << vocabulary << ", phases "
                     << row_phase << " and " << slot_phase);
        run_and_compare(rows, store, {3, -1, 0, 4}, 5, vocabulary, true);
        run_and_compare(rows, store, {2, 2, -1, 1}, 5, vocabulary, false);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(logits_cache, aligned_vocabulary_of_a_model) {
  std::mt19937 random(2);
  for (const element_type row_type : types) {
    for (const element_type slot_type : types) {
      matrix rows(row_type, 3, 32064, 0), store(slot_type, 4, 32064, 0);
      fill(rows, random);
      fill(store, random);
      run_and_compare(rows, store, {1, 3, 0}, 4, 32064, true);
      run_and_compare(rows, store, {0, 2, 2}, 4, 32064, false);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(logits_cache, slots_out_of_range_are_left_alone_and_counted) {
  std::mt19937 random(3);
  matrix rows(element_type::fp32, 6, 100, 0), store(element_type::bf16, 3, 100, 0);
  fill(rows, random);
  fill(store, random);
  const std::vector<std::int32_t> slots = {3, -2, 1, INT32_MAX, INT32_MIN, -1};
  run_and_compare(rows, store, slots, 3, 100, true, 4);
  run_and_compare(rows, store, slots, 3, 100, false, 4);
}

TEST(logits_cache, a_slot_out_of_range_counts_once_however_wide_its_row) {
  std::mt19937 random(5);
  constexpr std::uint32_t vocabulary = 40000;  // several thread blocks a row
  matrix rows(element_type::fp32, 2, vocabulary, 0), store(element_type::fp32, 1, vocabulary, 0);
  fill(rows, random);
  fill(store, random);
  run_and_compare(rows, store, {1, 0}, 1, vocabulary, true, 1);
  run_and_compare(rows, store, {0, -2}, 1, vocabulary, false, 1);
}

TEST(logits_cache, more_rows_than_the_grid_is_high) {
  std::mt19937 random(4);
  constexpr std::size_t count = 66000;
  matrix rows(element_type::fp32, count, 3, 0), store(element_type::fp16, count, 3, 0);
  fill(rows, random);
  fill(store, random);
  std::vector<std::int32_t> slots(count, -1);
  for (std::size_t r = 0; r < count; r += 997) slots[r] = static_cast<std::int32_t>(count - 1 - r);
  slots[count - 1] = 0;
  run_and_compare(rows, store, slots, count, 3, true);
}

TEST(logits_cache, a_captured_graph_reads_its_slots_when_it_runs) {
  std::mt19937 random(5);
  matrix rows(element_type::bf16, 2, 64, 0), store(element_type::fp32, 8, 64, 0);
  fill(rows, random);
  fill(store, random);
  test_stream stream;
  device_array<std::byte> device_rows(rows.bytes), device_store(store.bytes);
  device_array<std::int32_t> slots(std::vector<std::int32_t>{-1, -1});
  logits_arguments a{
      device_rows.data(), 64,     rows.type, 2, device_store.data(), 64, store.type, 8, 64,
      slots.data(),       nullptr};
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  RADIXKV_ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  RADIXKV_ASSERT_CUDA(logits_scatter(stream, a));
  RADIXKV_ASSERT_CUDA(cudaStreamEndCapture(stream, &graph));
  RADIXKV_ASSERT_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  for (const auto& now : {std::vector<std::int32_t>{7, -1}, {0, 3}, {-1, -1}, {5, 6}}) {
    slots.upload(now);
    RADIXKV_ASSERT_CUDA(cudaGraphLaunch(executable, stream));
    stream.synchronize();
    for (std::size_t r = 0; r < 2; ++r) {
      if (now[r] >= 0) move_on_host(rows, r, store, static_cast<std::size_t>(now[r]), 64);
    }
    expect_equal(store, device_store.download(), true);
  }
  RADIXKV_ASSERT_CUDA(cudaGraphExecDestroy(executable));
  RADIXKV_ASSERT_CUDA(cudaGraphDestroy(graph));
}

TEST(logits_cache, bad_arguments_are_refused_before_launch) {
  test_stream stream;
  device_array<float> rows(200), store(300);
  device_array<std::int32_t> slots(std::vector<std::int32_t>{0, 1});
  const logits_arguments good{
      rows.data(), 100, element_type::fp32, 2,      store.data(), 100, element_type::fp32,
      3,           100, slots.data(),       nullptr};
  const auto refused = [&](auto change, cudaError_t error) {
    logits_arguments bad = good;
    change(bad);
    EXPECT_EQ(logits_scatter(stream, bad), error);
    EXPECT_EQ(logits_gather(stream, bad), error);
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
  };
  const auto off = [](auto* p) {
    return reinterpret_cast<decltype(p)>(reinterpret_cast<std::uintptr_t>(p) + 1);
  };
  refused([](auto& b) { b.rows = nullptr; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.store = nullptr; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.slots = nullptr; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.slot_count = 0; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.vocabulary = 0; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.vocabulary = 101; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.vocabulary = max_vocabulary + 1; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.row_stride = 99; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.slot_stride = -100; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.row_type = static_cast<element_type>(3); }, cudaErrorInvalidValue);
  refused([](auto& b) { b.slot_type = static_cast<element_type>(200); }, cudaErrorInvalidValue);
  refused([&](auto& b) { b.store = rows.data() + 150; }, cudaErrorInvalidValue);
  refused([&](auto& b) { b.rows = off(rows.data()); }, cudaErrorMisalignedAddress);
  refused([&](auto& b) { b.slots = off(b.slots); }, cudaErrorMisalignedAddress);
  refused([&](auto& b) { b.rejected = off(reinterpret_cast<std::uint32_t*>(slots.data())); },
          cudaErrorMisalignedAddress);
  logits_arguments none = good;
  none.row_count = 0;
  EXPECT_EQ(logits_scatter(stream, none), cudaSuccess);
}

}  // namespace
}  // namespace radixkv::kernels
