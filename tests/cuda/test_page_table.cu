// Page tables against lists kept on the host, updated by random deltas.

#include <map>
#include <random>
#include <set>

#include "kernels/page_table.h"
#include "tests/cuda/cuda_test.h"

namespace radixkv::kernels {
namespace {

using radixkv::testing::device_array;
using radixkv::testing::test_stream;

constexpr std::int32_t untouched = -77;

struct tables {
  std::int32_t rows, capacity, block_tokens;
  std::vector<std::vector<std::int32_t>> lists;  // the oracle
  std::vector<std::int32_t> tokens;
  device_array<std::int32_t> device_blocks, device_tokens;
  test_stream stream;

  tables(std::int32_t r, std::int32_t c, std::int32_t t)
      : rows(r),
        capacity(c),
        block_tokens(t),
        lists(static_cast<std::size_t>(r)),
        tokens(static_cast<std::size_t>(r)),
        device_blocks(static_cast<std::size_t>(r) * static_cast<std::size_t>(c)),
        device_tokens(tokens) {}

  page_table_store store() const {
    return {device_blocks.data(), device_tokens.data(), rows, capacity, block_tokens};
  }
  std::int32_t blocks(std::size_t row) const {
    return (tokens[row] + block_tokens - 1) / block_tokens;
  }

  void apply(const std::vector<page_table_delta>& deltas, std::uint32_t wanted_rejected = 0) {
    device_array<page_table_delta> device(deltas);
    device_array<std::uint32_t> rejected(std::vector<std::uint32_t>{0});
    RADIXKV_ASSERT_CUDA(page_table_update(stream, store(), device.data(),
                                          static_cast<std::uint32_t>(deltas.size()), nullptr,
                                          rejected.data()));
    stream.synchronize();
    EXPECT_EQ(rejected.download()[0], wanted_rejected);
  }

  void check_dense(const std::vector<std::int32_t>& batch, std::int32_t max_blocks,
                   std::int64_t stride) {
    device_array<std::int32_t> device_batch(batch);
    std::vector<std::int32_t> wanted(batch.size() * static_cast<std::size_t>(stride), untouched);
    device_array<std::int32_t> out(wanted);
    RADIXKV_ASSERT_CUDA(page_table_dense(
        stream, store(), {device_batch.data(), static_cast<std::uint32_t>(batch.size())},
        out.data(), stride, max_blocks, -5));
    stream.synchronize();
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const bool known = batch[i] >= 0 && batch[i] < rows;
      for (std::int32_t j = 0; j < max_blocks; ++j) {
        const bool filled = known && j < blocks(static_cast<std::size_t>(batch[i]));
        wanted[i * static_cast<std::size_t>(stride) + static_cast<std::size_t>(j)] =
            filled ? lists[static_cast<std::size_t>(batch[i])][static_cast<std::size_t>(j)] : -5;
      }
    }
    ASSERT_EQ(out.download(), wanted);
  }

  void check_csr(const std::vector<std::int32_t>& batch, std::int64_t spare) {
    device_array<std::int32_t> device_batch(batch);
    std::vector<std::int32_t> indptr{0}, indices, last;
    for (const std::int32_t row : batch) {
      const bool known = row >= 0 && row < rows;
      const std::int32_t n = known ? blocks(static_cast<std::size_t>(row)) : 0;
      for (std::int32_t j = 0; j < n; ++j)
        indices.push_back(lists[static_cast<std::size_t>(row)][static_cast<std::size_t>(j)]);
      indptr.push_back(indptr.back() + n);
      last.push_back(n == 0 ? 0 : tokens[static_cast<std::size_t>(row)] - (n - 1) * block_tokens);
    }
    const std::size_t capacity_given = static_cast<std::size_t>(
        std::max<std::int64_t>(0, static_cast<std::int64_t>(indices.size()) + spare));
    std::vector<std::int32_t> wanted(capacity_given + 8, untouched);
    std::copy_n(indices.begin(), std::min(indices.size(), capacity_given), wanted.begin());
    device_array<std::int32_t> out_indptr(indptr.size()), out_last(last.size()),
        out_indices(std::vector<std::int32_t>(wanted.size(), untouched));
    std::size_t bytes = 0;
    RADIXKV_ASSERT_CUDA(page_table_scratch_bytes(static_cast<std::uint32_t>(batch.size()), bytes));
    device_array<std::byte> scratch(bytes);
    const page_table_csr_arguments out{out_indptr.data(), out_indices.data(),
                                       out_last.data(),   static_cast<std::int64_t>(capacity_given),
                                       scratch.data(),    bytes};
    RADIXKV_ASSERT_CUDA(page_table_csr(
        stream, store(), {device_batch.data(), static_cast<std::uint32_t>(batch.size())}, out));
    stream.synchronize();
    ASSERT_EQ(out_indptr.download(), indptr);
    ASSERT_EQ(out_last.download(), last);
    ASSERT_EQ(out_indices.download(), wanted);
  }
};

TEST(page_table, random_deltas) {
  std::mt19937 random(1);
  for (const std::int32_t block_tokens : {1, 16, 64}) {
    tables t(40, 37, block_tokens);
    for (int step = 0; step < 30; ++step) {
      // Grow, shrink, restart or leave alone each of some sequences, as a scheduler does.
      std::vector<page_table_delta> deltas;
      for (std::int32_t row = 0; row < t.rows; ++row) {
        auto& list = t.lists[static_cast<std::size_t>(row)];
        std::int32_t& tokens = t.tokens[static_cast<std::size_t>(row)];
        switch (random() % 4) {
          case 0:
            continue;
          case 1:
            tokens = static_cast<std::int32_t>(random() % static_cast<unsigned>(tokens + 1));
            break;
          case 2:
            tokens = std::min(tokens + 1, t.capacity * block_tokens);
            break;
          default:
            tokens = static_cast<std::int32_t>(
                random() % static_cast<unsigned>(t.capacity * block_tokens + 1));
        }
        const std::int32_t blocks = t.blocks(static_cast<std::size_t>(row));
        const auto old = static_cast<std::int32_t>(list.size());
        list.resize(static_cast<std::size_t>(blocks));
        bool sent_tokens = false;
        for (std::int32_t p = 0; p < blocks; ++p) {
          if (p < old && random() % 8 != 0)
            continue;  // a copy-on-write replaces a block now and then
          list[static_cast<std::size_t>(p)] = static_cast<std::int32_t>(random() >> 1);
          deltas.push_back({row, p, list[static_cast<std::size_t>(p)], sent_tokens ? -1 : tokens});
          sent_tokens = true;
        }
        if (!sent_tokens) deltas.push_back({row, -1, -1, tokens});
      }
      std::shuffle(deltas.begin(), deltas.end(), random);
      t.apply(deltas);
      std::vector<std::int32_t> batch;
      for (std::uint32_t i = random() % 60; i > 0; --i) {
        batch.push_back(static_cast<std::int32_t>(random() % 42) - 1);  // −1 and 40 are no rows
      }
      t.check_dense(batch, 37, 40);
      t.check_dense(batch, 5, 5);
      t.check_csr(batch, 3);
      t.check_csr(batch, -4);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(page_table, long_sequences_and_big_batches) {
  tables t(3, 70000, 16);
  std::vector<page_table_delta> deltas;
  for (std::int32_t p = 0; p < 70000; ++p) {
    deltas.push_back({1, p, p * 3, p == 0 ? 70000 * 16 - 5 : -1});
    t.lists[1].push_back(p * 3);
  }
  t.tokens[1] = 70000 * 16 - 5;
  t.apply(deltas);
  t.check_csr({1, 0, 1, 2}, 0);
  t.check_dense({0, 1}, 70000, 70000);
  tables small(8, 2, 16);
  small.apply({{3, 0, 9, 17}, {3, 1, 8, -1}, {5, 0, 4, 1}});
  small.lists[3] = {9, 8};
  small.tokens[3] = 17;
  small.lists[5] = {4};
  small.tokens[5] = 1;
  std::vector<std::int32_t> batch(70000);
  for (std::size_t i = 0; i < batch.size(); ++i) batch[i] = static_cast<std::int32_t>(i % 9) - 1;
  small.check_csr(batch, 1);
  small.check_dense(batch, 2, 2);
  small.check_csr({}, 0);
}

TEST(page_table, bad_deltas_change_nothing_and_are_counted) {
  tables t(4, 8, 16);
  t.apply({{0, 0, 1, 16},
           {-1, 0, 1, 16},
           {4, 0, 1, 16},
           {1, 8, 1, 16},
           {1, -2, 1, 16},
           {1, 0, -1, 16},
           {1, 0, 5, -2},
           {1, 0, 5, 129},
           {INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX}},
          8);
  t.lists[0] = {1};
  t.tokens[0] = 16;
  t.check_csr({0, 1, 2, 3}, 0);
}

TEST(page_table, captured_graph_takes_other_deltas_and_rows) {
  tables t(4, 8, 4);
  device_array<page_table_delta> deltas(std::vector<page_table_delta>(4));
  device_array<std::uint32_t> count(std::vector<std::uint32_t>{0});
  device_array<std::int32_t> batch(std::vector<std::int32_t>{-1, -1}), dense(16), indptr(3),
      indices(16), last(2);
  std::size_t bytes = 0;
  RADIXKV_ASSERT_CUDA(page_table_scratch_bytes(2, bytes));
  device_array<std::byte> scratch(bytes);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  RADIXKV_ASSERT_CUDA(cudaStreamBeginCapture(t.stream, cudaStreamCaptureModeThreadLocal));
  RADIXKV_ASSERT_CUDA(
      page_table_update(t.stream, t.store(), deltas.data(), 4, count.data(), nullptr));
  RADIXKV_ASSERT_CUDA(
      page_table_dense(t.stream, t.store(), {batch.data(), 2}, dense.data(), 8, 8, 0));
  RADIXKV_ASSERT_CUDA(
      page_table_csr(t.stream, t.store(), {batch.data(), 2},
                     {indptr.data(), indices.data(), last.data(), 16, scratch.data(), bytes}));
  RADIXKV_ASSERT_CUDA(cudaStreamEndCapture(t.stream, &graph));
  RADIXKV_ASSERT_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  for (std::int32_t step = 0; step < 4; ++step) {
    deltas.upload(
        std::vector<page_table_delta>{{step, 0, 100 + step, 6}, {step, 1, 200 + step, -1}});
    count.upload(std::vector<std::uint32_t>{2});
    batch.upload(std::vector<std::int32_t>{step, -1});
    RADIXKV_ASSERT_CUDA(cudaGraphLaunch(executable, t.stream));
    t.stream.synchronize();
    EXPECT_EQ(dense.download(0, 8),
              (std::vector<std::int32_t>{100 + step, 200 + step, 0, 0, 0, 0, 0, 0}));
    EXPECT_EQ(indptr.download(), (std::vector<std::int32_t>{0, 2, 2}));
    EXPECT_EQ(indices.download(0, 2), (std::vector<std::int32_t>{100 + step, 200 + step}));
    EXPECT_EQ(last.download(), (std::vector<std::int32_t>{2, 0}));
  }
  RADIXKV_ASSERT_CUDA(cudaGraphExecDestroy(executable));
  RADIXKV_ASSERT_CUDA(cudaGraphDestroy(graph));
}

TEST(page_table, bad_arguments_are_refused_before_launch) {
  tables t(4, 8, 16);
  const page_table_store good = t.store();
  device_array<page_table_delta> deltas(1);
  device_array<std::int32_t> out(64);
  device_array<std::byte> scratch(1 << 16);
  const auto refused = [&](auto change, cudaError_t error) {
    page_table_store s = good;
    change(s);
    EXPECT_EQ(page_table_update(t.stream, s, deltas.data(), 1, nullptr, nullptr), error);
    EXPECT_EQ(page_table_dense(t.stream, s, {nullptr, 1}, out.data(), 8, 8, 0), error);
    EXPECT_EQ(page_table_csr(t.stream, s, {nullptr, 1},
                             {out.data(), out.data() + 8, out.data() + 32, 16, scratch.data(),
                              scratch.size()}),
              error);
  };
  refused([](auto& s) { s.blocks = nullptr; }, cudaErrorInvalidValue);
  refused([](auto& s) { s.tokens = nullptr; }, cudaErrorInvalidValue);
  refused([](auto& s) { s.store_rows = 0; }, cudaErrorInvalidValue);
  refused([](auto& s) { s.row_capacity = -1; }, cudaErrorInvalidValue);
  refused([](auto& s) { s.block_tokens = 0; }, cudaErrorInvalidValue);
  refused([](auto& s) { s.block_tokens = 1 << 30; }, cudaErrorInvalidValue);
  refused(
      [](auto& s) {
        s.blocks = reinterpret_cast<std::int32_t*>(reinterpret_cast<std::uintptr_t>(s.blocks) + 2);
      },
      cudaErrorMisalignedAddress);
  EXPECT_EQ(page_table_update(t.stream, good, nullptr, 1, nullptr, nullptr), cudaErrorInvalidValue);
  const auto* misaligned = reinterpret_cast<const page_table_delta*>(out.data() + 2);
  EXPECT_EQ(page_table_update(t.stream, good, misaligned, 1, nullptr, nullptr),
            cudaErrorMisalignedAddress);
  EXPECT_EQ(page_table_dense(t.stream, good, {nullptr, 5}, out.data(), 8, 8, 0),
            cudaErrorInvalidValue);
  EXPECT_EQ(page_table_dense(t.stream, good, {nullptr, 1}, out.data(), 7, 8, 0),
            cudaErrorInvalidValue);
  EXPECT_EQ(page_table_dense(t.stream, good, {nullptr, 1}, nullptr, 8, 8, 0),
            cudaErrorInvalidValue);
  EXPECT_EQ(page_table_csr(t.stream, good, {nullptr, 1},
                           {out.data(), out.data(), out.data(), 16, scratch.data(), 0}),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
}

}  // namespace
}  // namespace radixkv::kernels
