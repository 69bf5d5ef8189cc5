// The tree of runs that a policy remembers: those cached, and ghosts of evicted ones.
//
// A run is a maximal stretch of blocks on a path that were used by the same requests. The tree is
// cut wherever a request ended or turned off, like the cache's own tree, but forgets nothing on
// eviction: a run counts how many of its blocks, from its head, are cached. Paths are recognised
// after eviction by their hashes, one per chunk of tokens, of which 16 bits are kept per run and
// chunk (32 for a run's first). A collision costs a wrong statistic, nothing else.
//
// Invariants
// 1. A run begins where its parent ends. Cached runs' ancestors are wholly cached.
// 2. children and cached_blocks/ghost_blocks count what is there.
// 3. A run that has a chunk end whose hash is kept is in the table under (parent, hash at its first
//    chunk end). Runs too short to have one are passed on the way to what follows them; of several
//    below one parent only the last is known.
//
// Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "csrc/core/eviction/hazard_model.h"
#include "csrc/core/eviction/mapped_array.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::detail {

using run_id = std::uint32_t;
inline constexpr run_id no_run = 0xffffffffu;
inline constexpr run_id root_run = 0;
inline constexpr std::uint32_t no_hashes = 0xffffffffu;

// One cache line.
struct alignas(64) run {
  run_id parent = no_run;
  std::uint32_t first = 0;   // depth of the first block
  std::uint32_t blocks = 0;  // evicted ones too; 0: not in use (but for the root)
  std::uint32_t cached = 0;  // of them, from the head
  std::uint32_t tail = 0;    // of them, from the end: the last tokens of the path of its last turn
  std::uint32_t children = 0;
  std::uint32_t hashes =
      0;  // where its chunk hashes begin; no_hashes: there was no memory for them
  std::uint32_t head_hash = 0;     // 32 bits at its first chunk end
  std::uint32_t turn = 0;          // last request that used it
  run_features features;           // of that turn; those of its tail are always the same
  node_id node = no_node;          // the cache's, while its last cached block is a leaf's
  std::uint32_t log = 0;           // where its user notes it, low bits
  std::uint16_t uses = 0;          // requests, saturating
  std::uint8_t children_ever = 0;  // saturating
  bool short_hash = false;         // only 16 bits of head_hash are known
  bool aged_out = false;           // older than what ghosts are kept for
  run_id short_child = no_run;     // the last that had no chunk end; it may be gone

  [[nodiscard]] std::uint32_t end() const { return first + blocks; }
  [[nodiscard]] std::uint32_t body() const { return blocks - tail; }
  [[nodiscard]] bool last_is_tail() const { return cached > body(); }
};

class run_history {
 public:
  // May throw std::bad_alloc; nothing else does.
  void reset(std::uint32_t block_tokens, std::uint32_t chunk_tokens);
  // Makes room for so many runs more than there are; false if there is no memory. `spare`: for how
  // many beyond them it may make room.
  [[nodiscard]] bool reserve(std::size_t more, std::size_t spare) noexcept;
  [[nodiscard]] bool has_room(std::size_t more) const {
    return free_count_ + (runs_.capacity() - runs_.size()) >= more;
  }
  [[nodiscard]] std::size_t capacity() const { return runs_.capacity(); }
  // By how many bytes hashes and their table may grow from now on; beyond, runs do without.
  void allow(std::size_t bytes) { allowance_ = bytes; }

  [[nodiscard]] run& operator[](run_id r) { return runs_[r]; }
  [[nodiscard]] const run& operator[](run_id r) const { return runs_[r]; }
  void prefetch(run_id r) const { __builtin_prefetch(&runs_[r]); }
  [[nodiscard]] std::size_t limit() const { return runs_.size(); }

  // Follows what is remembered of a path below (r, depth), depth being r's end or its last cached
  // block's. Returns the run in which it ends and sets depth; nothing is changed.
  [[nodiscard]] run_id follow(run_id r, std::uint32_t& depth, std::uint32_t end,
                              std::span<const std::uint64_t> hashes) const;
  // Cuts r at depth. r stays the lower part; returns the upper one.
  // REQUIRES: first < depth < end; room for a run.
  run_id split(run_id r, std::uint32_t depth);
  // A new run below parent, nothing of it cached. REQUIRES: room for it.
  run_id add(run_id parent, std::uint32_t blocks, std::span<const std::uint64_t> hashes);
  // Appends blocks to a run that has no children and is cached as a whole. They are cached.
  void extend(run_id r, std::uint32_t blocks);
  // Fills in the hashes of chunks that `extend` added.
  void tell_hashes(run_id r, std::span<const std::uint64_t> hashes);
  // REQUIRES: no children, nothing cached. Returns its parent.
  run_id remove(run_id r);
  void set_cached(run_id r, std::uint32_t cached);

  [[nodiscard]] std::int64_t cached_blocks() const { return cached_blocks_; }
  [[nodiscard]] std::int64_t ghost_blocks() const { return ghost_blocks_; }
  [[nodiscard]] std::size_t runs() const { return runs_.size() - free_count_; }
  [[nodiscard]] std::size_t bytes() const;
  // Bytes in use, with what growth keeps in reserve at most.
  [[nodiscard]] std::size_t used_bytes() const;
  [[nodiscard]] std::string check() const;

 private:
  // What is kept of a chunk's hash: its low bits, the upper ones for a run's first chunk only.
  [[nodiscard]] static std::uint16_t short_of(std::uint64_t hash) {
    return static_cast<std::uint16_t>(hash);
  }
  [[nodiscard]] static std::uint32_t long_of(std::uint64_t hash) {
    return static_cast<std::uint32_t>(hash);
  }
  // Index of the first chunk that ends behind `depth` blocks.
  [[nodiscard]] std::uint32_t chunk_at(std::uint32_t depth) const { return depth / per_chunk_; }
  // Chunks whose hashes are kept.
  [[nodiscard]] std::uint32_t chunks(const run& r) const {
    return r.hashes == no_hashes ? 0 : chunk_at(r.end()) - chunk_at(r.first);
  }
  [[nodiscard]] run_id new_run();
  [[nodiscard]] bool is_short(const run& r) const { return chunk_at(r.first) == chunk_at(r.end()); }
  [[nodiscard]] run_id find_child(run_id parent, std::uint64_t hash) const;
  [[nodiscard]] run_id find_descendant(run_id r, std::uint64_t hash) const;
  struct home {
    std::size_t slot;  // where to begin to look
    std::uint8_t tag;
  };
  [[nodiscard]] home home_of(run_id parent, std::uint32_t hash, bool short_hash) const;
  [[nodiscard]] home home_of(const run& r) const {
    return home_of(r.parent, r.head_hash, r.short_hash);
  }
  void forget_hashes(run_id r);
  [[nodiscard]] bool room_for_hashes(std::size_t n);
  [[nodiscard]] bool has_many_like(const run& r) const;
  void table_insert(run_id r);
  void table_erase(run_id r);
  void table_place(run_id r);
  void grow_table();
  void compact_hashes(std::size_t room);
  void spend_on_hashes(std::size_t capacity_before);

  std::uint32_t per_chunk_ = 1;  // blocks per chunk
  mapped_array<run> runs_;
  run_id free_ = no_run;  // the first; the others follow as parents
  std::size_t free_count_ = 0;
  mapped_array<run_id> table_;  // open addressing, linear probing; size a power of two
  // By slot: 0 where it is empty, else eight bits of the hash. They fit into a near cache, which
  // the runs that a slot may stand for do not.
  mapped_array<std::uint8_t> tags_;
  std::size_t in_table_ = 0;
  mapped_array<std::uint16_t> hashes_;
  std::size_t hashes_used_ = 0;
  std::size_t allowance_ = SIZE_MAX / 2;
  std::int64_t cached_blocks_ = 0, ghost_blocks_ = 0;
};

}  // namespace radixkv::detail
