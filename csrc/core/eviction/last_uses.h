// When each node was last used, for orders of recency that begin later than the cache.
//
// Kept for every node, whatever the policy, at 4 bytes each. As in lru_policy a request counts for
// its deepest node only, and a parent inherits what a child that goes has had.
//
// Thread-safety: as eviction_policy, under the cache's lock. Events as there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "csrc/core/eviction/node_array.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::detail {

class last_uses {
 public:
  using tick = std::uint32_t;

  // `last`: what the clock cannot pass; less than that only in tests.
  explicit last_uses(std::int64_t expected_nodes = 0,
                     tick last = std::numeric_limits<tick>::max()) noexcept
      : ticks_(expected_nodes), last_(last) {}

  // The later of two nodes has the larger one, or, once the clock was halved after both, perhaps
  // an equal one.
  [[nodiscard]] tick of(node_id n) const noexcept { return ticks_[n]; }

  [[nodiscard]] bool make_room(node_id limit) noexcept { return ticks_.grow_to(limit); }
  // REQUIRES of all: there is room for the nodes.
  void on_insert(node_id n) noexcept { ticks_[n] = now_; }
  // Its own uses are those that end there from now on.
  void on_split(node_id upper) noexcept { ticks_[upper] = 0; }
  void on_remove(node_id n, node_id parent) noexcept {
    if (ticks_[parent] < ticks_[n]) ticks_[parent] = ticks_[n];
  }
  void on_request(node_id n) noexcept {
    if (now_ == last_) halve();
    ticks_[n] = ++now_;
  }
  void prefetch(node_id n) const noexcept { __builtin_prefetch(&ticks_[n], 1); }
  [[nodiscard]] std::size_t bytes() const noexcept { return ticks_.bytes(); }

 private:
  // Once in 2³¹ requests: neighbours in the order may become equal, and no two change places.
  void halve() noexcept {
    for (tick& t : ticks_) t /= 2;
    now_ /= 2;
  }

  node_array<tick> ticks_;
  tick now_ = 0;
  tick last_;
};

}  // namespace radixkv::detail
