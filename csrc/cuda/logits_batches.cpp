#include "csrc/cuda/logits_batches.h"

#include <algorithm>
#include <bit>

namespace radixkv::detail {

namespace {

constexpr std::uint64_t slot_key(logits_slot slot) {
  return (std::uint64_t{1} << 32) | static_cast<std::uint32_t>(slot);
}

}  // namespace

logits_batches::entry& logits_batches::visit(std::uint64_t key, bool& met) {
  const std::size_t mask = table_.size() - 1;
  std::size_t i = static_cast<std::size_t>((key * 0x9e3779b97f4a7c15u) >> 32) & mask;
  while (table_[i].wave_stamp == stamp_ && table_[i].key != key) i = (i + 1) & mask;
  entry& e = table_[i];
  met = e.wave_stamp == stamp_;
  if (!met) e = {key, stamp_, false};
  return e;
}

bool logits_batches::joins_wave(const logits_move& m) {
  bool row_met = false, slot_met = false;
  const bool stores = m.direction == logits_direction::store;
  (void)visit(static_cast<std::uint32_t>(m.row), row_met);
  entry& slot = visit(slot_key(m.slot), slot_met);
  if (row_met || (slot_met && (stores || slot.written))) return false;
  slot.written = stores;
  return true;
}

void logits_batches::emit(std::span<const logits_move> wave, std::uint32_t max_rows) {
  sorted_.assign(wave.begin(), wave.end());
  std::sort(sorted_.begin(), sorted_.end(), [](const logits_move& a, const logits_move& b) {
    return a.direction != b.direction ? a.direction < b.direction : a.row < b.row;
  });
  for (std::size_t i = 0; i < sorted_.size();) {
    logits_batch batch{sorted_[i].direction, waves_, sorted_[i].row, 0, {}};
    begins_.push_back(slots_.size());
    for (; i < sorted_.size() && sorted_[i].direction == batch.direction; ++i) {
      const auto distance = static_cast<std::uint32_t>(sorted_[i].row - batch.first_row);
      if (distance >= max_rows) break;
      slots_.resize(begins_.back() + distance, no_slot);
      slots_.push_back(sorted_[i].slot);
      ++batch.moves;
    }
    batches_.push_back(batch);
  }
  ++waves_;
}

std::span<const logits_batch> logits_batches::split(std::span<const logits_move> moves,
                                                    std::uint32_t max_rows) {
  slots_.clear();
  begins_.clear();
  batches_.clear();
  waves_ = 0;
  // A quarter full at most: two keys a move.
  if (table_.size() < moves.size() * 8) table_.assign(std::bit_ceil(moves.size() * 8), {});
  std::size_t first = 0;
  ++stamp_;
  for (std::size_t i = 0; i < moves.size(); ++i) {
    if (joins_wave(moves[i])) continue;
    emit(moves.subspan(first, i - first), max_rows);
    first = i;
    ++stamp_;
    (void)joins_wave(moves[i]);
  }
  if (first < moves.size()) emit(moves.subspan(first), max_rows);
  for (std::size_t b = 0; b < batches_.size(); ++b) {
    const std::size_t end = b + 1 < batches_.size() ? begins_[b + 1] : slots_.size();
    batches_[b].slots = std::span(slots_).subspan(begins_[b], end - begins_[b]);
  }
  return batches_;
}

}  // namespace radixkv::detail
