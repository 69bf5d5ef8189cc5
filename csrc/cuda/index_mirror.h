// The host's side of the device index: knows which slot holds what, and turns changes into slot
// writes.
//
// Invariants (check_invariants()):
// 1. A block is in the block table iff it was added and not removed; then so is its parent.
// 2. A block is in the group table iff its depth in blocks is a multiple of kernels::group_blocks.
// 3. A block stands at or after its home slot, with no empty slot between (linear probing; removal
//    shifts back, Knuth vol. 3, 6.4 R). At most half of the slots are in use.
// 4. Applying every delta taken so far, in order, to an empty table gives what the mirror holds,
//    except for what changed since the last one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/prefix_hash.h"
#include "kernels/prefix_table.h"
#include "radixkv/result.h"
#include "radixkv/types.h"

namespace radixkv::detail {

// Writes that take a device table from one state to a later one. A slot or block occurs at most
// once, so their order does not matter and applying a delta twice does no harm.
struct index_delta {
  std::vector<std::uint32_t> block_slots;  // those that become empty last, with clears_slot
  std::vector<kernels::block_entry> block_entries;  // one per block slot
  std::vector<std::uint32_t> group_slots;           // the same
  std::vector<kernels::group_entry> group_entries;  // one per group slot
  std::vector<block_id> token_blocks;
  std::vector<token_id> tokens;  // block_tokens per token block
  std::int64_t changes = 0;      // blocks added and removed

  [[nodiscard]] bool empty() const noexcept {
    return block_slots.empty() && group_slots.empty() && token_blocks.empty();
  }
};

// Block ids in an open-addressing table, placed by a hash that the caller keeps per block.
class slot_table {
 public:
  explicit slot_table(std::uint32_t log2_slots);

  // `hashes[block]` is the table key of every block that is or will be in the table.
  void insert(block_id block, std::span<const std::uint64_t> hashes, std::uint64_t mask);
  // REQUIRES: block is in the table.
  void erase(block_id block, std::span<const std::uint64_t> hashes, std::uint64_t mask);

  [[nodiscard]] std::span<const block_id> slots() const noexcept { return slots_; }
  // Slots written since the last call of forget_changes(), each once.
  [[nodiscard]] std::span<const std::uint32_t> changed() const noexcept { return changed_; }
  void forget_changes() noexcept;

 private:
  [[nodiscard]] std::uint32_t home(std::uint64_t key) const noexcept;
  void write(std::uint32_t slot, block_id block);

  std::uint32_t log2_slots_;
  std::vector<block_id> slots_;
  std::vector<bool> is_changed_;
  std::vector<std::uint32_t> changed_;
};

struct index_mirror_options {
  std::int32_t block_count = 0;    // block ids are 0 … block_count − 1
  std::uint32_t block_tokens = 0;  // power of two, 1 … 1024
  std::uint64_t secret = 0;        // random; the same on all ranks that share deltas
  std::uint32_t hash_bits = kernels::max_hash_bits;  // fewer force collisions: for tests
};

// Driven by the cache's events: a block became matchable, a block stopped being matchable. A block
// must be added after its parent and removed before it; a path's blocks are unique (no two blocks
// have the same parent and the same tokens). Thread-safety: none; the caller serialises.
class index_mirror {
 public:
  // Errors: invalid_argument, out_of_memory.
  [[nodiscard]] static result<index_mirror> create(const index_mirror_options& options);

  // `parent` is a block of the index, or kernels::root_parent(namespace) for a path's first block;
  // `tokens` are the block's own.
  // Errors (nothing changes): invalid_argument (an id out of range, a block that is there already,
  // a parent that is not, a wrong number of tokens), out_of_memory.
  [[nodiscard]] status add(block_id block, std::int32_t parent, std::span<const token_id> tokens);
  // Errors (nothing changes): not_found, invalid_argument (the block has children).
  [[nodiscard]] status remove(block_id block);

  // What changed since the last call; to be applied to every table in the order taken. The next
  // call may reuse `delta`'s memory.
  void take_delta(index_delta& delta);

  [[nodiscard]] const kernels::prefix_hash_key& hash_key() const noexcept { return key_; }
  [[nodiscard]] std::uint32_t log2_slots() const noexcept { return log2_slots_; }
  [[nodiscard]] bool contains(block_id block) const noexcept;
  [[nodiscard]] std::int64_t size() const noexcept { return size_; }

  // Empty when the invariants hold, else the first violation. Takes time proportional to the table.
  [[nodiscard]] std::string check_invariants() const;

 private:
  explicit index_mirror(const index_mirror_options& options);

  // Puts the tokens into the pending delta; false, with nothing changed, if there is no memory.
  [[nodiscard]] bool keep_tokens(block_id block, std::span<const token_id> tokens) noexcept;
  [[nodiscard]] bool ends_group(block_id block) const noexcept;
  [[nodiscard]] kernels::block_entry entry_of(block_id block) const noexcept;
  [[nodiscard]] kernels::group_entry group_of(block_id block) const noexcept;

  index_mirror_options options_;
  kernels::prefix_hash_key key_;
  std::uint32_t log2_slots_;
  std::int64_t size_ = 0;
  // Per block id.
  std::vector<std::uint64_t> sums_;  // hash sum of the prefix that ends with the block
  std::vector<std::int32_t> parents_;
  std::vector<std::uint32_t> depths_;  // in blocks, the first has 1; 0: not in the index
  std::vector<std::uint32_t> children_;
  std::vector<std::int32_t> token_rows_;  // row of the pending delta, −1: none
  slot_table blocks_;
  slot_table groups_;
  std::vector<block_id> pending_blocks_;
  std::vector<token_id> pending_tokens_;
  std::int64_t pending_changes_ = 0;
};

}  // namespace radixkv::detail
