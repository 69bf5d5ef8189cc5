#include "csrc/core/block_lists.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <limits>

#include "csrc/core/token_ops.h"

namespace radixkv::detail {

// Four classes per power of two: at most a fifth of a chunk is unused.
int block_lists::class_of(std::uint32_t n) noexcept {
  n = std::max(n, 4u);
  const int log = std::bit_width(n - 1) - 1;                 // 2^log < n ≤ 2^(log+1), log ≥ 1
  const std::uint32_t step = std::max(1u, (1u << log) / 4);  // spacing of classes in this octave
  const std::uint32_t above = n - (1u << log);               // 1 … 2^log
  const auto part = static_cast<int>((above + step - 1) / step);  // 1 … 4
  return (log - 1) * 4 + part;
}

std::uint32_t block_lists::class_size(int c) noexcept {
  const int log = (c - 1) / 4 + 1;
  const int part = (c - 1) % 4 + 1;
  return (1u << log) + static_cast<std::uint32_t>(part) * std::max(1u, (1u << log) / 4);
}

bool block_lists::create(std::int64_t blocks) {
  // Room for the worst case: every chunk a quarter full, and each size class grown to its own peak,
  // since free chunks of one class do not serve another. Address space is not memory.
  const std::uint64_t words =
      std::min<std::uint64_t>(static_cast<std::uint64_t>(blocks) * 96 + (1u << 20),
                              std::numeric_limits<std::uint32_t>::max());
  limit_ = words;
  return arena_.reserve(words);
}

block_lists::chunk block_lists::allocate(std::uint32_t n) {
  const int k = class_of(n);
  const std::uint32_t size = class_size(k);
  assert(size >= n);
  chunk c = free_[static_cast<std::size_t>(k)];
  if (c) {
    free_[static_cast<std::size_t>(k)] = *at(c);
  } else {
    if (std::uint64_t{used_} + header_words + size > limit_) return 0;
    c = used_ + header_words;
    used_ = c + size;
  }
  header(c) = {size, 0, 1};
  return c;
}

void block_lists::drop_reference(chunk c) noexcept {
  if (--header(c).references > 0) return;
  assert(header(c).live == 0);
  const auto k = static_cast<std::size_t>(class_of(header(c).capacity));
  store_word(at(c), free_[k]);
  free_[k] = c;
}

}  // namespace radixkv::detail
