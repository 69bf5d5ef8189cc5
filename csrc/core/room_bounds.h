// How many cached blocks can be evicted, of the whole index or of one namespace, without a walk
// through open sequences: bounds from counts that every change keeps, and from what the last walk
// found and what was kept and let go of since.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace radixkv::detail {

// A number that goes up and down, and by how much it ever went up.
class running_total {
 public:
  void change(std::int64_t from, std::int64_t to) noexcept {
    now_ += to - from;
    added_ += std::max<std::int64_t>(0, to - from);
  }
  [[nodiscard]] std::int64_t now() const noexcept { return now_; }
  [[nodiscard]] std::int64_t added() const noexcept { return added_; }
  [[nodiscard]] std::int64_t taken() const noexcept { return added_ - now_; }

  running_total& operator+=(const running_total& o) noexcept {
    now_ += o.now_;
    added_ += o.added_;
    return *this;
  }
  [[nodiscard]] running_total operator-(const running_total& o) const noexcept {
    running_total d;
    d.now_ = now_ - o.now_;
    d.added_ = added_ - o.added_;
    return d;
  }

 private:
  std::int64_t now_ = 0;
  std::int64_t added_ = 0;
};

struct room_counts {
  // Blocks of pinned paths, those of each pinned node's path counted apart: no less than are
  // pinned.
  running_total pinned;
  // Of prefixes that stay, each counted apart, and those that sequences hold beside the index.
  running_total beside;
  std::int64_t in_leaves = 0;  // blocks of leaves that no pin keeps
  std::int64_t outside = 0;    // blocks that sequences hold and the index does not

  room_counts& operator+=(const room_counts& o) noexcept {
    pinned += o.pinned;
    beside += o.beside;
    in_leaves += o.in_leaves;
    outside += o.outside;
    return *this;
  }
  [[nodiscard]] room_counts operator-(const room_counts& o) const noexcept {
    return {pinned - o.pinned, beside - o.beside, in_leaves - o.in_leaves, outside - o.outside};
  }
};

// What a walk has found. Each change keeps or lets go of no more blocks than it adds to the counts
// or takes from them, since two paths may have blocks in common.
class room_walked {
 public:
  void found(std::int64_t kept, std::int64_t beside, const room_counts& then) noexcept {
    known_ = true;
    kept_ = kept;
    beside_ = beside;
    then_ = then;
  }
  // Of `cached` blocks, no fewer and no more than these can be evicted.
  [[nodiscard]] std::int64_t least(std::int64_t cached, const room_counts& now) const noexcept {
    const std::int64_t least =
        std::max(cached - now.pinned.now() - now.beside.now(), now.in_leaves - now.beside.now());
    if (!known_) return least;
    const room_counts since = now - then_;
    return std::max({least, cached - kept_ - since.pinned.added() - since.beside.added(),
                     now.in_leaves - beside_ - since.beside.added()});
  }
  [[nodiscard]] std::int64_t most(std::int64_t cached, const room_counts& now) const noexcept {
    if (!known_) return cached;
    const room_counts since = now - then_;
    return std::min(cached, cached - kept_ + since.pinned.taken() + since.beside.taken());
  }

 private:
  bool known_ = false;
  std::int64_t kept_ = 0;    // blocks that could not be evicted
  std::int64_t beside_ = 0;  // those of leaves that stay beside what sequences pin, at most
  room_counts then_;
};

}  // namespace radixkv::detail
