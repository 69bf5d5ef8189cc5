// Splits copies into runs that may be executed at once.
//
// 1. table_[0] is the hash secret; the entries follow. An entry is
//    wave << 32 | destination bit << 31 | (block + 1 of 31 bits), or 0. Entries of earlier waves
//    count as absent, so that nothing is cleared between waves.
// 2. An entry lies at its home position or after it, with no empty (0) position in between.
#include <algorithm>
#include <bit>

#include "csrc/core/mix.h"
#include "radixkv/export.h"
#include "radixkv/step_plan.h"

namespace radixkv {

namespace {

constexpr std::size_t prefix = 1;
constexpr std::uint64_t destination_bit = std::uint64_t{1} << 31;
constexpr std::uint64_t block_mask = destination_bit - 1;

// Uses of blocks within the current wave.
class use_table {
 public:
  use_table(std::uint64_t* entries, std::size_t size, std::uint64_t secret)
      : entries_(entries), mask_(size - 1), secret_(secret) {}

  // Where the block is, or where it would go.
  std::uint64_t& slot(block_id block) {
    const std::uint64_t key = static_cast<std::uint32_t>(block) + std::uint64_t{1};
    std::size_t at = detail::mix(key, secret_) & mask_;
    while (entries_[at] != 0 && (entries_[at] & block_mask) != key) at = (at + 1) & mask_;
    return entries_[at];
  }
  static std::uint64_t entry(std::uint64_t wave, block_id block, bool destination) {
    return wave << 32 | (destination ? destination_bit : 0) |
           (static_cast<std::uint32_t>(block) + std::uint64_t{1});
  }

 private:
  std::uint64_t* entries_;
  std::size_t mask_;
  std::uint64_t secret_;
};

}  // namespace

RADIXKV_EXPORT std::span<const std::uint32_t> copy_waves::split(
    std::span<const block_copy> copies) {
  ends_.clear();
  if (copies.empty()) return ends_;

  // Two blocks a copy: at most half of the entries are ever used.
  const std::size_t size = std::bit_ceil(copies.size() * 4);
  const std::uint64_t secret = table_.empty() ? detail::random_secret() : table_[0];
  if (table_.size() < size + prefix) table_.resize(size + prefix);
  table_[0] = secret;
  std::fill_n(table_.data() + prefix, size, std::uint64_t{0});
  use_table uses(table_.data() + prefix, size, secret);

  std::uint64_t wave = 1;
  for (std::size_t i = 0; i < copies.size(); ++i) {
    const block_copy& c = copies[i];
    const std::uint64_t source = uses.slot(c.source);
    const std::uint64_t destination = uses.slot(c.destination);
    const bool source_written = source >> 32 == wave && (source & destination_bit) != 0;
    const bool destination_used = destination >> 32 == wave;
    if (source_written || destination_used) {
      ends_.push_back(static_cast<std::uint32_t>(i));
      ++wave;
    }
    uses.slot(c.source) = use_table::entry(wave, c.source, false);
    uses.slot(c.destination) = use_table::entry(wave, c.destination, true);
  }
  ends_.push_back(static_cast<std::uint32_t>(copies.size()));
  return ends_;
}

}  // namespace radixkv
