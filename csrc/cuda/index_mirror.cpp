#include "csrc/cuda/index_mirror.h"

#include <algorithm>
#include <new>
#include <utility>

namespace radixkv::detail {

slot_table::slot_table(std::uint32_t log2_slots)
    : log2_slots_(log2_slots),
      slots_(std::size_t{1} << log2_slots, no_block),
      is_changed_(slots_.size(), false) {
  // So that no change fails for memory. Pages are committed as they are used.
  changed_.reserve(slots_.size());
}

std::uint32_t slot_table::home(std::uint64_t key) const noexcept {
  return kernels::home_slot(key, log2_slots_);
}

void slot_table::write(std::uint32_t slot, block_id block) {
  if (!is_changed_[slot]) {
    changed_.push_back(slot);
    is_changed_[slot] = true;
  }
  slots_[slot] = block;
}

void slot_table::insert(block_id block, std::span<const std::uint64_t> hashes, std::uint64_t mask) {
  const auto wrap = static_cast<std::uint32_t>(slots_.size() - 1);
  std::uint32_t slot = home(hashes[static_cast<std::size_t>(block)] & mask);
  while (slots_[slot] != no_block) slot = (slot + 1) & wrap;
  write(slot, block);
}

void slot_table::erase(block_id block, std::span<const std::uint64_t> hashes, std::uint64_t mask) {
  const auto wrap = static_cast<std::uint32_t>(slots_.size() - 1);
  std::uint32_t hole = home(hashes[static_cast<std::size_t>(block)] & mask);
  while (slots_[hole] != block) hole = (hole + 1) & wrap;
  for (std::uint32_t slot = (hole + 1) & wrap; slots_[slot] != no_block; slot = (slot + 1) & wrap) {
    const std::uint32_t from = home(hashes[static_cast<std::size_t>(slots_[slot])] & mask);
    if (((slot - from) & wrap) >= ((slot - hole) & wrap)) {
      write(hole, slots_[slot]);
      hole = slot;
    }
  }
  write(hole, no_block);
}

void slot_table::forget_changes() noexcept {
  for (const std::uint32_t slot : changed_) is_changed_[slot] = false;
  changed_.clear();
}

result<index_mirror> index_mirror::create(const index_mirror_options& options) {
  if (options.block_count < 1 || options.block_count > max_blocks) {
    return {errc::invalid_argument, "block_count is " + std::to_string(options.block_count) +
                                        ", must be 1 to " + std::to_string(max_blocks)};
  }
  const std::uint32_t tokens = options.block_tokens;
  if (tokens < 1 || tokens > kernels::max_match_block_tokens || (tokens & (tokens - 1)) != 0) {
    return {errc::invalid_argument, "block_tokens is " + std::to_string(tokens) +
                                        ", must be a power of two up to " +
                                        std::to_string(kernels::max_match_block_tokens)};
  }
  if (options.hash_bits < 1 || options.hash_bits > kernels::max_hash_bits) {
    return {errc::invalid_argument, "hash_bits is " + std::to_string(options.hash_bits) +
                                        ", must be 1 to " + std::to_string(kernels::max_hash_bits)};
  }
  try {
    return index_mirror(options);
  } catch (const std::bad_alloc&) {
    return {errc::out_of_memory,
            "no memory for an index of " + std::to_string(options.block_count) + " blocks"};
  }
}

index_mirror::index_mirror(const index_mirror_options& options)
    : options_(options),
      key_(kernels::make_prefix_hash_key(options.secret, options.hash_bits)),
      log2_slots_(kernels::table_log2_slots(options.block_count)),
      sums_(static_cast<std::size_t>(options.block_count)),
      parents_(sums_.size()),
      depths_(sums_.size()),
      children_(sums_.size()),
      token_rows_(sums_.size(), -1),
      blocks_(log2_slots_),
      groups_(kernels::uses_groups(options.block_tokens) ? log2_slots_ : 0) {}

bool index_mirror::contains(block_id block) const noexcept {
  return block >= 0 && block < options_.block_count &&
         depths_[static_cast<std::size_t>(block)] != 0;
}

bool index_mirror::ends_group(block_id block) const noexcept {
  return kernels::uses_groups(options_.block_tokens) &&
         depths_[static_cast<std::size_t>(block)] % kernels::group_blocks == 0;
}

bool index_mirror::keep_tokens(block_id block, std::span<const token_id> tokens) noexcept {
  const auto at = static_cast<std::size_t>(block);
  if (token_rows_[at] >= 0) {  // added, removed and added again between two deltas
    std::copy(tokens.begin(), tokens.end(),
              pending_tokens_.begin() +
                  static_cast<std::ptrdiff_t>(token_rows_[at]) * options_.block_tokens);
    return true;
  }
  const std::size_t rows = pending_blocks_.size();
  try {
    pending_tokens_.insert(pending_tokens_.end(), tokens.begin(), tokens.end());
    pending_blocks_.push_back(block);
  } catch (const std::bad_alloc&) {
    pending_tokens_.resize(rows * options_.block_tokens);
    return false;
  }
  token_rows_[at] = static_cast<std::int32_t>(rows);
  return true;
}

status index_mirror::add(block_id block, std::int32_t parent, std::span<const token_id> tokens) {
  if (block < 0 || block >= options_.block_count) {
    return {errc::invalid_argument, "block " + std::to_string(block) + " is outside of 0 to " +
                                        std::to_string(options_.block_count - 1)};
  }
  if (contains(block)) {
    return {errc::invalid_argument, "block " + std::to_string(block) + " is in the index already"};
  }
  if (parent >= 0 && !contains(parent)) {
    return {errc::invalid_argument, "parent " + std::to_string(parent) + " of block " +
                                        std::to_string(block) + " is not in the index"};
  }
  if (tokens.size() != options_.block_tokens) {
    return {errc::invalid_argument, "block " + std::to_string(block) + " has " +
                                        std::to_string(tokens.size()) + " tokens, must be " +
                                        std::to_string(options_.block_tokens)};
  }
  const auto at = static_cast<std::size_t>(block);
  const auto above = static_cast<std::size_t>(parent);
  // First what may fail: nothing has changed yet.
  if (!keep_tokens(block, tokens)) {
    return {errc::out_of_memory, "no memory for the tokens of block " + std::to_string(block) +
                                     ", " + std::to_string(pending_blocks_.size()) +
                                     " blocks are pending"};
  }
  const std::uint32_t depth = parent >= 0 ? depths_[above] : 0;
  const std::uint64_t before =
      parent >= 0 ? sums_[above] : kernels::root_sum(key_, kernels::root_parent(parent));
  sums_[at] = kernels::extend_sum(
      key_, before, std::uint64_t{depth} * kernels::block_units(options_.block_tokens),
      tokens.data(), options_.block_tokens);
  parents_[at] = parent;
  depths_[at] = depth + 1;
  children_[at] = 0;
  if (parent >= 0) ++children_[above];
  blocks_.insert(block, sums_, key_.mask);
  if (ends_group(block)) groups_.insert(block, sums_, key_.mask);
  ++pending_changes_;
  ++size_;
  return {};
}

status index_mirror::remove(block_id block) {
  if (!contains(block)) {
    return {errc::not_found, "block " + std::to_string(block) + " is not in the index"};
  }
  const auto at = static_cast<std::size_t>(block);
  if (children_[at] != 0) {
    return {errc::invalid_argument, "block " + std::to_string(block) + " has " +
                                        std::to_string(children_[at]) +
                                        " children in the index, must have none"};
  }
  if (ends_group(block)) groups_.erase(block, sums_, key_.mask);
  blocks_.erase(block, sums_, key_.mask);
  if (parents_[at] >= 0) --children_[static_cast<std::size_t>(parents_[at])];
  depths_[at] = 0;
  ++pending_changes_;
  --size_;
  return {};
}

kernels::block_entry index_mirror::entry_of(block_id block) const noexcept {
  if (block == no_block) return {~std::uint64_t{0}, -1, -1};
  const auto at = static_cast<std::size_t>(block);
  return {kernels::index_key(key_, sums_[at]), block, parents_[at]};
}

kernels::group_entry index_mirror::group_of(block_id block) const noexcept {
  if (block == no_block) return {~std::uint64_t{0}, -1, {-1, -1, -1, -1}, ~0u};
  kernels::group_entry entry = {};
  entry.key = kernels::index_key(key_, sums_[static_cast<std::size_t>(block)]);
  entry.unused = ~0u;
  for (std::uint32_t i = kernels::group_blocks; i-- > 0;) {
    entry.blocks[i] = block;
    block = parents_[static_cast<std::size_t>(block)];
  }
  entry.parent = block;
  return entry;
}

void index_mirror::take_delta(index_delta& delta) {
  // Sorted, because neighbouring slots share a sector when neighbouring threads write them; a
  // cleared slot's flag sorts it to the end.
  const auto collect = [](const slot_table& table, std::vector<std::uint32_t>& slots, auto& entries,
                          auto&& entry_of_block) {
    slots.clear();
    for (const std::uint32_t slot : table.changed()) {
      slots.push_back(table.slots()[slot] == no_block ? slot | kernels::clears_slot : slot);
    }
    std::sort(slots.begin(), slots.end());
    entries.clear();
    for (const std::uint32_t slot : slots) {
      entries.push_back(entry_of_block(table.slots()[slot & ~kernels::clears_slot]));
    }
  };
  collect(blocks_, delta.block_slots, delta.block_entries,
          [this](block_id block) { return entry_of(block); });
  collect(groups_, delta.group_slots, delta.group_entries,
          [this](block_id block) { return group_of(block); });
  blocks_.forget_changes();
  groups_.forget_changes();
  for (const block_id block : pending_blocks_) token_rows_[static_cast<std::size_t>(block)] = -1;
  std::swap(delta.token_blocks, pending_blocks_);
  std::swap(delta.tokens, pending_tokens_);
  pending_blocks_.clear();
  pending_tokens_.clear();
  delta.changes = std::exchange(pending_changes_, 0);
}

std::string index_mirror::check_invariants() const {
  const auto check = [this](const slot_table& table, bool groups) -> std::string {
    const auto slots = table.slots();
    std::int64_t found = 0;
    std::int64_t expected = 0;
    for (block_id b = 0; b < options_.block_count; ++b) {
      expected += contains(b) && (!groups || ends_group(b)) ? 1 : 0;
    }
    std::vector<bool> seen(sums_.size(), false);
    for (std::size_t s = 0; s < slots.size(); ++s) {
      const block_id block = slots[s];
      if (block == no_block) continue;
      const std::string name = "block " + std::to_string(block);
      if (!contains(block) || (groups && !ends_group(block))) return name + " is in a slot (1, 2)";
      const auto at = static_cast<std::size_t>(block);
      if (parents_[at] >= 0 && !contains(parents_[at])) return name + " has no parent (1)";
      if (seen[at]) return name + " is in two slots (1, 2)";
      seen[at] = true;
      ++found;
      for (std::size_t h = kernels::home_slot(sums_[at] & key_.mask, log2_slots_); h != s;
           h = (h + 1) & (slots.size() - 1)) {
        if (slots[h] == no_block) return name + " is behind an empty slot (3)";
      }
    }
    if (found != expected) {
      return std::to_string(found) + " blocks in slots, must be " + std::to_string(expected);
    }
    if (2 * found > static_cast<std::int64_t>(slots.size())) return "a table is too full (3)";
    return {};
  };
  if (std::string error = check(blocks_, false); !error.empty()) return error;
  if (kernels::uses_groups(options_.block_tokens)) return check(groups_, true);
  return {};
}

}  // namespace radixkv::detail
