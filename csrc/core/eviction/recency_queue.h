// A queue of nodes from which any one can be taken out, without a trace: an LRU's order.
//
// Nodes lie in a list of chunks, one after another, so that what comes next can be fetched ahead (a
// linked list of nodes would have to wait for memory at every link). A place in it is a number that
// the owner keeps with the node. What is taken out leaves a hole; a chunk that is all holes goes,
// and two neighbours that are half full together become one. All of that is O(1) amortised, and no
// call looks at more than two chunks.
//
// Invariants
// 1. The first and the last entry of a chunk are no holes, and no chunk is empty.
// 2. Two neighbours hold more than chunk_entries / 2 nodes together, those at the ends of the list
//    excepted: more than a quarter of the entries is in use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <string>

#include "csrc/core/eviction/chunk_array.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::detail {

class recency_queue {
 public:
  using place = std::uint32_t;
  static constexpr place nowhere = 0xffffffffu;
  static constexpr place most_places = 0x80000000u;  // they lie below that

  void clear() noexcept {
    info_ = {};
    chunks_ = {};
    made_ = 0;
    free_ = first_ = last_ = none;
    size_ = 0;
    in_use_ = 0;
  }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  // REQUIRES: !empty().
  [[nodiscard]] node_id front() const noexcept { return entry(first_, info_[first_].begin); }
  [[nodiscard]] node_id back() const noexcept { return entry(last_, info_[last_].end - 1u); }

  // Where the node is now; nowhere, with nothing changed, if there is no memory.
  [[nodiscard]] place push_back(node_id n) noexcept {
    if (last_ == none || info_[last_].end == chunk_entries) {
      const std::uint32_t c = take_chunk();
      if (c == none) return nowhere;
      info_[c] = {last_, none, 0, 0, 0};
      (last_ == none ? first_ : info_[last_].next) = c;
      last_ = c;
    }
    info& x = info_[last_];
    const std::uint32_t at = x.end++;
    return put(last_, at, n);
  }
  [[nodiscard]] place push_front(node_id n) noexcept {
    if (first_ == none || info_[first_].begin == 0) {
      const std::uint32_t c = take_chunk();
      if (c == none) return nowhere;
      info_[c] = {none, first_, chunk_entries, chunk_entries, 0};
      (first_ == none ? last_ : info_[first_].previous) = c;
      first_ = c;
    }
    info& x = info_[first_];
    const std::uint32_t at = --x.begin;
    return put(first_, at, n);
  }

  // Takes out what lies at p. Others may move: moved(node, place) is called for each. REQUIRES: p
  // is a place that was given out and not taken back or moved.
  template <typename Moved>
  void erase(place p, Moved&& moved) noexcept {
    const std::uint32_t c = p / chunk_entries;
    const std::uint32_t at = p % chunk_entries;
    info& x = info_[c];
    --size_;
    if (--x.live == 0) {
      drop(c);
      return;
    }
    entry(c, at) = no_node;
    if (c == first_ && at == x.begin) {  // the usual end
      while (entry(c, x.begin) == no_node) ++x.begin;
      return;
    }
    if (at == x.begin) {
      while (entry(c, x.begin) == no_node) ++x.begin;
    } else if (at + 1u == x.end) {
      while (entry(c, x.end - 1u) == no_node) --x.end;
    }
    if (x.live > few) return;
    if (x.next != none && x.live + info_[x.next].live <= few) {
      join(c, x.next, moved);
    } else if (x.previous != none && x.live + info_[x.previous].live <= few) {
      join(x.previous, c, moved);
    }
  }

  // Calls visit(node, place) in order, until it returns false.
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (std::uint32_t c = first_; c != none; c = info_[c].next) {
      for (std::uint32_t at = info_[c].begin; at < info_[c].end; ++at) {
        const node_id n = entry(c, at);
        if (n != no_node && !visit(n, c * chunk_entries + at)) return;
      }
    }
  }

  // The nodes behind the first `skip` ones, as many as fit into `out` or there are; gives their
  // number.
  [[nodiscard]] std::size_t copy(std::size_t skip, std::span<node_id> out) const noexcept {
    std::size_t copied = 0;
    for (std::uint32_t c = first_; c != none && copied < out.size(); c = info_[c].next) {
      const info& x = info_[c];
      if (skip >= x.live) {
        skip -= x.live;
        continue;
      }
      std::uint32_t at = x.begin;
      if (x.live == x.end - x.begin) {  // no holes
        at += static_cast<std::uint32_t>(skip);
        skip = 0;
      }
      for (; at < x.end && copied < out.size(); ++at) {
        const node_id n = entry(c, at);
        if (n == no_node) continue;
        if (skip > 0) {
          --skip;
        } else {
          out[copied++] = n;
        }
      }
    }
    return copied;
  }

  [[nodiscard]] std::size_t bytes() const noexcept {
    return in_use_ * sizeof(chunk) + info_.bytes() + chunks_.bytes();
  }
  // Empty if the invariants hold.
  [[nodiscard]] std::string check() const;

  static constexpr std::uint32_t chunk_entries = 128;

 private:
  static constexpr std::uint32_t none = 0xffffffffu;
  static constexpr std::uint32_t few = chunk_entries / 2;
  using chunk = std::array<node_id, chunk_entries>;
  // Beside the chunks, not in them: that of a neighbour is looked at often.
  struct info {
    std::uint32_t previous;
    std::uint32_t next;  // or of the list of chunks not in use
    std::uint16_t begin;
    std::uint16_t end;
    std::uint16_t live;
  };

  [[nodiscard]] node_id& entry(std::uint32_t c, std::uint32_t at) { return (*chunks_[c])[at]; }
  [[nodiscard]] const node_id& entry(std::uint32_t c, std::uint32_t at) const {
    return (*chunks_[c])[at];
  }
  place put(std::uint32_t c, std::uint32_t at, node_id n) noexcept {
    entry(c, at) = n;
    ++info_[c].live;
    ++size_;
    return c * chunk_entries + at;
  }

  // A chunk that is in no list; none if there is no memory.
  std::uint32_t take_chunk() noexcept try {
    auto memory = std::make_unique_for_overwrite<chunk>();
    std::uint32_t c = free_;
    if (c == none) {
      c = made_;
      if (c == most_places / chunk_entries) return none;
      info_.grow_to(c + 1u);
      chunks_.grow_to(c + 1u);
      ++made_;
    } else {
      free_ = info_[c].next;
    }
    chunks_[c] = std::move(memory);
    ++in_use_;
    return c;
  } catch (const std::bad_alloc&) {
    return none;
  }

  [[gnu::noinline]] void drop(std::uint32_t c) noexcept {
    info& x = info_[c];
    (x.previous == none ? first_ : info_[x.previous].next) = x.next;
    (x.next == none ? last_ : info_[x.next].previous) = x.previous;
    chunks_[c].reset();
    x = {none, free_, 0, 0, 0};
    free_ = c;
    --in_use_;
  }

  // Puts what b holds behind what its predecessor a holds.
  template <typename Moved>
  [[gnu::noinline]] void join(std::uint32_t a, std::uint32_t b, Moved&& moved) noexcept {
    info& x = info_[a];
    std::uint32_t to = 0;
    const auto keep = [&](std::uint32_t from, std::uint32_t at) {
      const node_id n = entry(from, at);
      if (n == no_node) return;
      entry(a, to) = n;
      if (from != a || at != to) moved(n, a * chunk_entries + to);
      ++to;
    };
    for (std::uint32_t at = x.begin; at < x.end; ++at) keep(a, at);
    for (std::uint32_t at = info_[b].begin; at < info_[b].end; ++at) keep(b, at);
    x.begin = 0;
    x.end = static_cast<std::uint16_t>(to);
    x.live = static_cast<std::uint16_t>(to);
    drop(b);
  }

  // Small pieces, as the chunks themselves: whoever asks malloc for more than a kilobyte may
  // have to wait until it has sorted what all others have freed (glibc).
  chunk_array<info, 16> info_;
  chunk_array<std::unique_ptr<chunk>, 16> chunks_;  // null where not in use
  std::uint32_t made_ = 0;                          // chunks that were ever in use
  std::uint32_t free_ = none;
  std::uint32_t first_ = none;
  std::uint32_t last_ = none;
  std::size_t size_ = 0;
  std::size_t in_use_ = 0;
};

inline std::string recency_queue::check() const {
  std::size_t found = 0;
  std::size_t chunks = 0;
  std::uint32_t before = none;
  for (std::uint32_t c = first_; c != none; before = c, c = info_[c].next) {
    const info& x = info_[c];
    const std::string name = "chunk " + std::to_string(c) + " of the queue";
    if (x.previous != before) return name + " has lost its predecessor";
    if (x.live == 0 || x.end > chunk_entries || x.begin >= x.end) return name + " is empty";
    if (entry(c, x.begin) == no_node || entry(c, x.end - 1u) == no_node) {
      return name + " begins or ends with a hole";
    }
    std::size_t live = 0;
    for (std::uint32_t at = x.begin; at < x.end; ++at) live += entry(c, at) != no_node;
    if (live != x.live) return name + " holds " + std::to_string(live);
    if (before != none && before != first_ && c != last_ && live + info_[before].live <= few) {
      return name + " should be one with its predecessor";
    }
    found += live;
    ++chunks;
  }
  if (before != last_) return "the queue has lost its end";
  if (found != size_) return "the queue holds " + std::to_string(found) + " nodes";
  if (chunks != in_use_) return "the queue has " + std::to_string(chunks) + " chunks";
  return {};
}

}  // namespace radixkv::detail
