// Traffic of the page tables: 1,024 sequences of up to 2,048 blocks of 16 tokens. `decode`: a step
// of each, in which one of 16 gets a block; `prefill`: 32 sequences come, of 500 blocks on average;
// `dense` and `csr`: tables of a batch of 256 sequences of 1 to 1,024 blocks.

#include <numeric>
#include <random>

#include "bench/kernels/bench_memory.h"
#include "bench/kernels/bench_result.h"
#include "bench/kernels/traffic_case.h"
#include "csrc/cuda/device_memory.h"
#include "kernels/page_table.h"

namespace radixkv::bench {
namespace {

constexpr std::int32_t rows = 1024, capacity = 2048, block_tokens = 16;
constexpr std::uint32_t batch_rows = 256;

// The store, and the lengths of its sequences in blocks.
struct tables {
  explicit tables(std::uint32_t longest) : blocks(std::size_t{rows} * capacity), tokens(rows) {
    std::mt19937 random(1);
    for (std::int32_t r = 0; r < rows; ++r) {
      lengths.push_back(1 + static_cast<std::int32_t>(random() % longest));
    }
    std::vector<std::int32_t> content(blocks.size());
    std::iota(content.begin(), content.end(), 0);
    blocks.upload(content.data(), content.size());
    std::vector<std::int32_t> token_counts;
    for (const std::int32_t length : lengths) token_counts.push_back(length * block_tokens - 3);
    tokens.upload(token_counts.data(), token_counts.size());
    std::vector<std::int32_t> order(rows);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    batch.assign(order.begin(), order.begin() + batch_rows);
  }
  [[nodiscard]] kernels::page_table_store store() const {
    return {blocks.data(), tokens.data(), rows, capacity, block_tokens};
  }
  [[nodiscard]] double used_blocks() const {
    double sum = 0;
    for (const std::int32_t row : batch) sum += lengths[static_cast<std::size_t>(row)];
    return sum;
  }

  std::vector<std::int32_t> lengths, batch;
  bench_memory<std::int32_t> blocks, tokens;
};

traffic_result update(const std::vector<kernels::page_table_delta>& deltas) {
  const tables t(1);
  const std::size_t bytes = deltas.size() * sizeof(deltas[0]);
  const detail::pinned_buffer staged = created(detail::allocate_pinned("deltas", bytes));
  auto* const from = reinterpret_cast<kernels::page_table_delta*>(staged.get());
  std::copy(deltas.begin(), deltas.end(), from);
  require(kernels::page_table_update(nullptr, t.store(), from,
                                     static_cast<std::uint32_t>(deltas.size()), nullptr, nullptr),
          "page_table_update");
  require(cudaDeviceSynchronize(), "page_table_update");
  traffic_result result;
  result.deltas = static_cast<double>(deltas.size());
  const auto blocks = t.blocks.download();
  const auto tokens = t.tokens.download();
  for (const kernels::page_table_delta& d : deltas) {
    const auto row = static_cast<std::size_t>(d.row);
    if (d.position >= 0) {
      result.bytes_minimal += 4;
      if (blocks[row * capacity + static_cast<std::size_t>(d.position)] != d.block) {
        result.error = "a block was not written";
      }
    }
    if (d.tokens >= 0) {
      result.bytes_minimal += 4;
      if (tokens[row] != d.tokens) result.error = "tokens were not written";
    }
  }
  return result;
}

traffic_result decode() {
  std::vector<kernels::page_table_delta> deltas;
  for (std::int32_t row = 0; row < rows; ++row) {
    const bool grows = row % block_tokens == 0;
    deltas.push_back({row, grows ? 100 + row : -1, grows ? 7 * row : 0, 1600 + row});
  }
  return update(deltas);
}

traffic_result prefill() {
  std::mt19937 random(2);
  std::vector<kernels::page_table_delta> deltas;
  for (std::int32_t row = 0; row < rows; row += 32) {
    const std::int32_t length = 200 + static_cast<std::int32_t>(random() % 600);
    for (std::int32_t p = 0; p < length; ++p) {
      deltas.push_back({row, p, static_cast<std::int32_t>(random() % 100'000),
                        p + 1 < length ? -1 : 16 * length});
    }
  }
  return update(deltas);
}

traffic_result dense() {
  const tables t(1024);
  constexpr std::int32_t width = 1024, padding = -1;
  const bench_memory<std::int32_t> batch(t.batch), out(std::size_t{batch_rows} * width);
  require(kernels::page_table_dense(nullptr, t.store(), {batch.data(), batch_rows}, out.data(),
                                    width, width, padding),
          "page_table_dense");
  require(cudaDeviceSynchronize(), "page_table_dense");
  traffic_result result;
  result.bytes_minimal = 4 * t.used_blocks() + 4.0 * batch_rows * width + 8.0 * batch_rows;
  const auto written = out.download();
  for (std::size_t i = 0; i < batch_rows; ++i) {
    const auto row = static_cast<std::size_t>(t.batch[i]);
    for (std::int32_t p = 0; p < width; ++p) {
      const std::int32_t wanted =
          p < t.lengths[row] ? static_cast<std::int32_t>(row) * capacity + p : padding;
      if (written[i * width + static_cast<std::size_t>(p)] != wanted)
        result.error = "a wrong block";
    }
  }
  return result;
}

traffic_result csr() {
  const tables t(1024);
  const auto used = static_cast<std::size_t>(t.used_blocks());
  const bench_memory<std::int32_t> batch(t.batch), indptr(batch_rows + 1), indices(used),
      last(batch_rows);
  std::size_t scratch_bytes = 0;
  require(kernels::page_table_scratch_bytes(batch_rows, scratch_bytes), "scratch");
  const bench_memory<std::byte> scratch(scratch_bytes);
  require(kernels::page_table_csr(nullptr, t.store(), {batch.data(), batch_rows},
                                  {indptr.data(), indices.data(), last.data(),
                                   static_cast<std::int64_t>(used), scratch.data(), scratch_bytes}),
          "page_table_csr");
  require(cudaDeviceSynchronize(), "page_table_csr");
  traffic_result result;
  result.bytes_minimal = 8 * t.used_blocks() + 16.0 * batch_rows + 4;
  const auto written = indices.download();
  std::size_t at = 0;
  for (const std::int32_t row : t.batch) {
    for (std::int32_t p = 0; p < t.lengths[static_cast<std::size_t>(row)]; ++p) {
      if (written[at++] != row * capacity + p) result.error = "a wrong block";
    }
  }
  return result;
}

const traffic_registrar cases([](std::vector<traffic_case>& all) {
  all.push_back({"page_table", "decode", "", decode});
  all.push_back({"page_table", "prefill", "", prefill});
  all.push_back({"page_table", "dense", "", dense});
  all.push_back({"page_table", "csr", "", csr});
});

}  // namespace
}  // namespace radixkv::bench
