// Which row of the logits store holds the logits of which prompt end.
//
// A prompt end is (anchor, tail): the anchor is the id of the prompt's last whole block (≥ 0) or
// −1 − the node id of the namespace's root, the tail is the remaining < block_tokens tokens.
//
// 1. A row is free (on the free list), live (findable by its key, on its anchor's list), or dropped
//    (not findable, still pinned; it becomes free with its last unpin).
// 2. The recency list holds exactly the live rows without pins, least recently used first. Recency
//    counts at assign, at touch and at the last unpin.
// 3. Tokens are compared, never trusted to a hash; both tables are keyed with a secret.
// 4. No two live rows have the same key.
//
// Everything is O(1) expected (plus the tail's length), drop_anchor O(rows it drops); memory is
// allocated at creation only. Thread-safety: none, the cache locks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "radixkv/result.h"
#include "radixkv/types.h"

namespace radixkv {

class slot_map {
 public:
  // hash_bits < 64 only in tests, to force collisions.
  // Errors: invalid_argument (rows < 0, block_tokens or hash_bits out of range), out_of_memory.
  [[nodiscard]] static result<slot_map> create(std::int32_t rows, std::uint32_t block_tokens,
                                               std::uint32_t hash_bits = 64);

  // The live row of a prompt end, or no_slot. Does not count as a use.
  [[nodiscard]] logits_slot find(std::int64_t anchor,
                                 std::span<const token_id> tail) const noexcept;
  // A row for a prompt end: the one it has, a free one, or the least recently used one without
  // pins, whose own prompt end loses it. no_slot if every row is pinned, or there are none.
  // REQUIRES: tail.size() < block_tokens.
  [[nodiscard]] logits_slot assign(std::int64_t anchor, std::span<const token_id> tail) noexcept;

  // A pinned row is not recycled. Pins nest. REQUIRES: the row is live.
  void pin(logits_slot slot) noexcept;
  // REQUIRES: the row is pinned.
  void unpin(logits_slot slot) noexcept;
  // Makes a live row the most recently used one.
  void touch(logits_slot slot) noexcept;

  // The row's prompt end loses it. REQUIRES: the row is live.
  void drop(logits_slot slot) noexcept;
  // The same for all rows of an anchor. Returns how many.
  std::int32_t drop_anchor(std::int64_t anchor) noexcept;
  [[nodiscard]] bool has_anchor(std::int64_t anchor) const noexcept;
  [[nodiscard]] bool live(logits_slot slot) const noexcept;

  [[nodiscard]] std::int32_t size() const noexcept { return live_; }  // live rows
  [[nodiscard]] std::int32_t rows() const noexcept {
    return static_cast<std::int32_t>(rows_.size());
  }
  [[nodiscard]] std::size_t bytes() const noexcept;
  // Recomputes the invariants; empty when they hold, else the first violation.
  [[nodiscard]] std::string check() const;

 private:
  enum class state : std::uint8_t { free, live, dropped };

  struct link {
    std::int32_t next = no_slot;
    std::int32_t previous = no_slot;
  };
  struct row {
    std::int64_t anchor = 0;
    link recency;      // free rows: the free list, by next
    link same_key;     // rows in the same key bucket
    link same_anchor;  // live rows of one anchor; its head also has:
    link same_bucket;  // heads in the same anchor bucket
    std::uint32_t pins = 0;
    std::uint16_t tail = 0;  // tokens
    state st = state::free;
    bool anchor_head = false;
  };

  slot_map() = default;

  [[nodiscard]] std::size_t key_bucket(std::int64_t anchor,
                                       std::span<const token_id> tail) const noexcept;
  [[nodiscard]] std::size_t anchor_bucket(std::int64_t anchor) const noexcept;
  [[nodiscard]] std::int32_t anchor_head(std::int64_t anchor) const noexcept;
  [[nodiscard]] std::span<const token_id> tail_of(std::int32_t slot) const noexcept;
  [[nodiscard]] bool is_live(std::int32_t slot) const noexcept {
    return rows_[static_cast<std::size_t>(slot)].st == state::live;
  }
  row& at(std::int32_t slot) noexcept { return rows_[static_cast<std::size_t>(slot)]; }
  const row& at(std::int32_t slot) const noexcept { return rows_[static_cast<std::size_t>(slot)]; }

  void push(link row::*where, std::int32_t& head, std::int32_t slot) noexcept;
  void unlink(link row::*where, std::int32_t& head, std::int32_t slot) noexcept;
  void recency_append(std::int32_t slot) noexcept;
  void recency_remove(std::int32_t slot) noexcept;
  void index(std::int32_t slot) noexcept;
  void unindex(std::int32_t slot) noexcept;
  void release(std::int32_t slot) noexcept;

  std::vector<row> rows_;
  std::vector<token_id> tails_;               // rows × (block_tokens − 1)
  std::vector<std::int32_t> keys_, anchors_;  // heads of the buckets, a power of two of them
  std::int32_t free_ = no_slot, oldest_ = no_slot, newest_ = no_slot;
  std::int32_t live_ = 0;
  std::uint32_t block_tokens_ = 1;
  std::uint64_t secret_ = 0, hash_mask_ = 0;
};

}  // namespace radixkv
