#include "csrc/core/slot_map.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <new>

#include "csrc/core/mix.h"
#include "csrc/core/range_check.h"

namespace radixkv {

result<slot_map> slot_map::create(std::int32_t rows, std::uint32_t block_tokens,
                                  std::uint32_t hash_bits) {
  if (status s = detail::check_range("logits_rows", rows, 0, 0x7fffffff); !s) return s.error();
  if (status s = detail::check_range("block_tokens", block_tokens, 1, max_block_tokens); !s) {
    return s.error();
  }
  if (status s = detail::check_range("hash_bits", hash_bits, 1, 64); !s) return s.error();
  try {
    slot_map m;
    const auto n = static_cast<std::size_t>(rows);
    m.block_tokens_ = block_tokens;
    m.rows_.resize(n);
    m.tails_.resize(n * (block_tokens - 1));
    const std::size_t buckets = std::bit_ceil(std::max<std::size_t>(n, 1));
    m.keys_.assign(buckets, no_slot);
    m.anchors_.assign(buckets, no_slot);
    for (std::int32_t slot = rows - 1; slot >= 0; --slot) {
      m.at(slot).recency.next = m.free_;
      m.free_ = slot;
    }
    m.secret_ = detail::random_secret();
    m.hash_mask_ = ~std::uint64_t{0} >> (64 - hash_bits);
    return m;
  } catch (const std::bad_alloc&) {
    return {errc::out_of_memory,
            "logits_rows " + std::to_string(rows) + ": no memory for their index"};
  }
}

logits_slot slot_map::find(std::int64_t anchor, std::span<const token_id> tail) const noexcept {
  if (rows_.empty()) return no_slot;
  for (std::int32_t s = keys_[key_bucket(anchor, tail)]; s != no_slot; s = at(s).same_key.next) {
    if (at(s).anchor == anchor && std::ranges::equal(tail_of(s), tail)) return s;
  }
  return no_slot;
}

logits_slot slot_map::assign(std::int64_t anchor, std::span<const token_id> tail) noexcept {
  assert(tail.size() < block_tokens_);
  if (const logits_slot s = find(anchor, tail); s != no_slot) {
    touch(s);
    return s;
  }
  if (free_ == no_slot) {
    if (oldest_ == no_slot) return no_slot;
    drop(oldest_);
  }
  const std::int32_t slot = free_;
  row& r = at(slot);
  free_ = r.recency.next;
  r.recency = {};
  r.anchor = anchor;
  r.tail = static_cast<std::uint16_t>(tail.size());
  std::ranges::copy(tail, tails_.begin() + slot * std::ptrdiff_t{block_tokens_ - 1});
  r.st = state::live;
  ++live_;
  index(slot);
  recency_append(slot);
  return slot;
}

void slot_map::pin(logits_slot slot) noexcept {
  assert(live(slot));
  if (at(slot).pins++ == 0) recency_remove(slot);
}

void slot_map::unpin(logits_slot slot) noexcept {
  row& r = at(slot);
  assert(r.pins > 0);
  if (--r.pins > 0) return;
  if (r.st == state::live) {
    recency_append(slot);
  } else {
    release(slot);
  }
}

void slot_map::touch(logits_slot slot) noexcept {
  assert(live(slot));
  if (at(slot).pins > 0) return;  // counts at the last unpin
  recency_remove(slot);
  recency_append(slot);
}

void slot_map::drop(logits_slot slot) noexcept {
  assert(live(slot));
  unindex(slot);
  --live_;
  if (at(slot).pins > 0) {
    at(slot).st = state::dropped;
  } else {
    recency_remove(slot);
    release(slot);
  }
}

std::int32_t slot_map::drop_anchor(std::int64_t anchor) noexcept {
  std::int32_t dropped = 0;
  for (std::int32_t s = anchor_head(anchor); s != no_slot; ++dropped) {
    const std::int32_t next = at(s).same_anchor.next;
    drop(s);
    s = next;
  }
  return dropped;
}

bool slot_map::has_anchor(std::int64_t anchor) const noexcept {
  return anchor_head(anchor) != no_slot;
}

bool slot_map::live(logits_slot slot) const noexcept {
  return slot >= 0 && slot < rows() && is_live(slot);
}

std::size_t slot_map::bytes() const noexcept {
  return rows_.size() * sizeof(row) + tails_.size() * sizeof(token_id) +
         (keys_.size() + anchors_.size()) * sizeof(std::int32_t);
}

std::size_t slot_map::key_bucket(std::int64_t anchor,
                                 std::span<const token_id> tail) const noexcept {
  std::uint64_t h = detail::mix_step(static_cast<std::uint64_t>(anchor), secret_);
  for (const token_id t : tail) h = detail::mix_step(h + t, secret_);
  h = detail::mix_end(h, secret_);
  return static_cast<std::size_t>(h & hash_mask_ & (keys_.size() - 1));
}

std::size_t slot_map::anchor_bucket(std::int64_t anchor) const noexcept {
  const std::uint64_t h = detail::mix(static_cast<std::uint64_t>(anchor), ~secret_);
  return static_cast<std::size_t>(h & hash_mask_ & (anchors_.size() - 1));
}

std::int32_t slot_map::anchor_head(std::int64_t anchor) const noexcept {
  if (rows_.empty()) return no_slot;
  std::int32_t s = anchors_[anchor_bucket(anchor)];
  while (s != no_slot && at(s).anchor != anchor) s = at(s).same_bucket.next;
  return s;
}

std::span<const token_id> slot_map::tail_of(std::int32_t slot) const noexcept {
  return {tails_.data() + slot * std::ptrdiff_t{block_tokens_ - 1}, at(slot).tail};
}

void slot_map::push(link row::*where, std::int32_t& head, std::int32_t slot) noexcept {
  (at(slot).*where) = {.next = head, .previous = no_slot};
  if (head != no_slot) (at(head).*where).previous = slot;
  head = slot;
}

void slot_map::unlink(link row::*where, std::int32_t& head, std::int32_t slot) noexcept {
  const link l = at(slot).*where;
  (l.previous == no_slot ? head : (at(l.previous).*where).next) = l.next;
  if (l.next != no_slot) (at(l.next).*where).previous = l.previous;
  (at(slot).*where) = {};
}

void slot_map::recency_append(std::int32_t slot) noexcept {
  at(slot).recency = {.next = no_slot, .previous = newest_};
  (newest_ == no_slot ? oldest_ : at(newest_).recency.next) = slot;
  newest_ = slot;
}

void slot_map::recency_remove(std::int32_t slot) noexcept {
  const link l = at(slot).recency;
  (l.previous == no_slot ? oldest_ : at(l.previous).recency.next) = l.next;
  (l.next == no_slot ? newest_ : at(l.next).recency.previous) = l.previous;
  at(slot).recency = {};
}

// Makes a row findable by its key and its anchor.
void slot_map::index(std::int32_t slot) noexcept {
  row& r = at(slot);
  push(&row::same_key, keys_[key_bucket(r.anchor, tail_of(slot))], slot);
  std::int32_t& bucket = anchors_[anchor_bucket(r.anchor)];
  std::int32_t head = anchor_head(r.anchor);
  if (head == no_slot) {
    r.anchor_head = true;
    push(&row::same_bucket, bucket, slot);
  } else {  // behind the head, which stays
    link& h = at(head).same_anchor;
    r.same_anchor = {.next = h.next, .previous = head};
    if (h.next != no_slot) at(h.next).same_anchor.previous = slot;
    h.next = slot;
  }
}

void slot_map::unindex(std::int32_t slot) noexcept {
  row& r = at(slot);
  unlink(&row::same_key, keys_[key_bucket(r.anchor, tail_of(slot))], slot);
  const std::int32_t next = r.same_anchor.next;
  std::int32_t head = r.anchor_head ? slot : no_slot;
  unlink(&row::same_anchor, head, slot);
  if (!r.anchor_head) return;
  std::int32_t& bucket = anchors_[anchor_bucket(r.anchor)];
  unlink(&row::same_bucket, bucket, slot);
  r.anchor_head = false;
  if (next != no_slot) {
    at(next).anchor_head = true;
    push(&row::same_bucket, bucket, next);
  }
}

void slot_map::release(std::int32_t slot) noexcept {
  row& r = at(slot);
  r = {};
  r.recency.next = free_;
  free_ = slot;
}

std::string slot_map::check() const {
  const auto where = [](std::int32_t slot, const char* what) {
    return "slot_map: row " + std::to_string(slot) + " " + what;
  };
  const std::int32_t n = rows();
  std::int32_t counted = 0, free_rows = 0, unpinned = 0;
  for (std::int32_t s = 0; s < n; ++s) {
    const row& r = at(s);
    if (r.st == state::free) {
      ++free_rows;
      if (r.pins != 0) return where(s, "is free and pinned");
      continue;
    }
    if (r.st == state::dropped) {
      if (r.pins == 0) return where(s, "is dropped, without pins, and not free");
      continue;
    }
    ++counted;
    unpinned += r.pins == 0;
    if (find(r.anchor, tail_of(s)) != s) return where(s, "is not what its key finds");
    std::int32_t head = s;
    for (std::int32_t steps = 0; !at(head).anchor_head; ++steps) {
      const std::int32_t previous = at(head).same_anchor.previous;
      if (previous == no_slot || steps > n || at(previous).same_anchor.next != head) {
        return where(s, "is not on its anchor's list");
      }
      head = previous;
    }
    if (at(head).anchor != r.anchor) return where(s, "is on another anchor's list");
    if (anchor_head(r.anchor) != head) return where(s, "has a list that its anchor does not find");
  }
  if (counted != live_) {
    return "slot_map: size " + std::to_string(live_) + ", live rows " + std::to_string(counted);
  }
  std::int32_t previous = no_slot, listed = 0;
  for (std::int32_t s = oldest_; s != no_slot; previous = s, s = at(s).recency.next) {
    if (++listed > n) return "slot_map: the recency list is a circle";
    if (!is_live(s) || at(s).pins > 0) return where(s, "is on the recency list");
    if (at(s).recency.previous != previous) return where(s, "has a broken recency link");
  }
  if (previous != newest_) return "slot_map: the recency list does not end at its newest row";
  if (listed != unpinned) {
    return "slot_map: " + std::to_string(listed) + " rows on the recency list, " +
           std::to_string(unpinned) + " live without pins";
  }
  listed = 0;
  for (std::int32_t s = free_; s != no_slot; s = at(s).recency.next) {
    if (++listed > n || at(s).st != state::free) return where(s, "is on the free list");
  }
  if (listed != free_rows) {
    return "slot_map: " + std::to_string(listed) + " rows on the free list, " +
           std::to_string(free_rows) + " free";
  }
  return {};
}

}  // namespace radixkv
