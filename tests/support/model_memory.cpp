#include "tests/support/model_memory.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace radixkv::testing {

namespace {

constexpr std::int32_t vocabulary = 4;
using logits = std::array<float, vocabulary>;

memory_layout layout_for(const cache_options& o, bool mixed) {
  memory_layout l;
  l.blocks = o.blocks;
  l.block_tokens = o.block_tokens;
  const std::int64_t stride = std::int64_t{8} * o.block_tokens;
  l.planes.push_back({.offset = 0,
                      .block_stride = stride,
                      .inner_stride = 0,
                      .inner_count = 1,
                      .bytes_per_token = 8});
  if (mixed) {
    l.planes.push_back({.offset = static_cast<std::uint64_t>(stride * o.blocks),
                        .block_stride = stride,
                        .inner_stride = stride / 2,
                        .inner_count = 2,
                        .bytes_per_token = 4});
  }
  l.logits_rows = o.logits_rows;
  l.vocabulary = vocabulary;
  return l;
}

// 16 bits an element: numbers that every conversion keeps.
logits logits_of(std::uint64_t hash) {
  logits row;
  for (float& x : row) {
    x = static_cast<float>(hash & 0xffff);
    hash >>= 16;
  }
  return row;
}

}  // namespace

model_memory::model_memory(const cache_options& options, bool mixed)
    : block_tokens_(options.block_tokens),
      mixed_(mixed),
      executor_(host_executor::create(layout_for(options, mixed)).value()),
      batch_(static_cast<std::size_t>(batch_rows * vocabulary)) {}

void model_memory::write(std::span<const block_id> table, std::int64_t first,
                         std::span<const std::uint64_t> hashes) {
  while (!hashes.empty()) {
    const auto block = static_cast<std::size_t>(first / block_tokens_);
    const auto at = static_cast<std::uint32_t>(first % block_tokens_);
    const std::size_t n = std::min<std::size_t>(block_tokens_ - at, hashes.size());
    std::memcpy(executor_.token_bytes(0, table[block], 0, at).data(), hashes.data(), n * 8);
    for (std::uint32_t i = 0; mixed_ && i < n; ++i) {
      for (std::uint32_t half = 0; half < 2; ++half) {
        const auto word = static_cast<std::uint32_t>(hashes[i] >> (32 * half));
        std::memcpy(executor_.token_bytes(1, table[block], half, at + i).data(), &word, 4);
      }
    }
    hashes = hashes.subspan(n);
    first += static_cast<std::int64_t>(n);
  }
}

bool model_memory::holds(std::span<const block_id> table, std::int64_t first,
                         std::span<const std::uint64_t> hashes) const {
  while (!hashes.empty()) {
    const auto block = static_cast<std::size_t>(first / block_tokens_);
    const auto at = static_cast<std::uint32_t>(first % block_tokens_);
    const std::size_t n = std::min<std::size_t>(block_tokens_ - at, hashes.size());
    if (std::memcmp(executor_.token_bytes(0, table[block], 0, at).data(), hashes.data(), n * 8)) {
      return false;
    }
    for (std::uint32_t i = 0; mixed_ && i < n; ++i) {
      for (std::uint32_t half = 0; half < 2; ++half) {
        const auto word = static_cast<std::uint32_t>(hashes[i] >> (32 * half));
        if (std::memcmp(executor_.token_bytes(1, table[block], half, at + i).data(), &word, 4)) {
          return false;
        }
      }
    }
    hashes = hashes.subspan(n);
    first += static_cast<std::int64_t>(n);
  }
  return true;
}

void model_memory::write_batch(std::int32_t row, std::uint64_t hash) {
  const logits l = logits_of(hash);
  std::copy(l.begin(), l.end(), batch_.begin() + row * vocabulary);
}

bool model_memory::batch_holds(std::int32_t row, std::uint64_t hash) const {
  const logits l = logits_of(hash);
  return std::equal(l.begin(), l.end(), batch_.begin() + row * vocabulary);
}

bool model_memory::store_holds(logits_slot slot, std::uint64_t hash) const {
  const logits l = logits_of(hash);
  return std::memcmp(executor_.logits_row(slot).data(), l.data(), sizeof(l)) == 0;
}

status model_memory::run(const step_plan& plan, std::int64_t fail_at) {
  executor_.fail_operation(fail_at);
  const logits_rows_view rows{batch_.data(), vocabulary * std::int64_t{sizeof(float)}, batch_rows,
                              logits_type::fp32};
  status ran = executor_.run(plan, rows);
  executor_.fail_operation(-1);
  return ran;
}

}  // namespace radixkv::testing
