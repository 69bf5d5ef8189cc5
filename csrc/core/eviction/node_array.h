// A state per node, indexed by its id: grows without moving, and so without a pause, up to what was
// expected, in memory that is taken as it is touched (huge pages where the system grants them).
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "csrc/core/stable_array.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::detail {

// State as in stable_array. Nothing here throws.
template <typename State>
class node_array {
 public:
  node_array() noexcept = default;
  // Empty; mostly not more than so many nodes will come.
  explicit node_array(std::int64_t expected) noexcept
      : expected_(static_cast<std::size_t>(expected)) {}

  // Makes states below `limit` exist, new ones as `initial`. False if the system refuses memory;
  // nothing changed then.
  [[nodiscard]] bool grow_to(node_id limit, const State& initial = {}) noexcept {
    if (limit <= size_) return true;
    if (limit > room_) {
      const std::size_t room = std::max(expected_, std::size_t{limit} + limit / 2);
      stable_array<State> larger;
      if (!larger.reserve(room)) return false;
      std::copy(begin(), end(), larger.data());
      states_ = std::move(larger);
      room_ = room;
    }
    std::fill(states_.data() + size_, states_.data() + limit, initial);
    size_ = limit;
    return true;
  }

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] State& operator[](std::size_t n) noexcept { return states_[n]; }
  [[nodiscard]] const State& operator[](std::size_t n) const noexcept { return states_[n]; }
  [[nodiscard]] State* begin() noexcept { return states_.data(); }
  [[nodiscard]] State* end() noexcept { return states_.data() + size_; }
  [[nodiscard]] const State* begin() const noexcept { return states_.data(); }
  [[nodiscard]] const State* end() const noexcept { return states_.data() + size_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return size_ * sizeof(State); }

 private:
  stable_array<State> states_;
  std::size_t size_ = 0;
  std::size_t room_ = 0;
  std::size_t expected_ = 0;
};

// The ids of the states that are alive; false if there is no memory.
template <typename State>
[[nodiscard]] bool list_alive(const node_array<State>& states, std::vector<node_id>& out) noexcept {
  try {
    for (node_id n = 0; n < states.size(); ++n)
      if (states[n].alive) out.push_back(n);
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

}  // namespace radixkv::detail
