// Helpers for policies that keep a state per node, indexed by its id. Nothing here throws.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

#include "radixkv/eviction_policy.h"

namespace radixkv::detail {

// Makes states below `limit` exist; false if there is no memory.
template <typename State>
[[nodiscard]] bool grow_to(std::vector<State>& states, node_id limit,
                           const State& initial = {}) noexcept {
  if (limit <= states.size()) return true;
  try {
    if (limit > states.capacity()) states.reserve(std::size_t{limit} + limit / 4);
    states.resize(limit, initial);
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

// The ids of the states that are alive; false if there is no memory.
template <typename State>
[[nodiscard]] bool list_alive(const std::vector<State>& states,
                              std::vector<node_id>& out) noexcept {
  try {
    for (node_id n = 0; n < states.size(); ++n)
      if (states[n].alive) out.push_back(n);
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

}  // namespace radixkv::detail
