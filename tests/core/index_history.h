// Histories of operations on a tiny cache, and whether some order of their effects that respects
// real time explains all results (linearisability: Herlihy and Wing 1990). The checker searches
// for that order depth first and remembers what failed (Wing and Gong 1993, Lowe 2017).
//
// The sequential model: with blocks of one token the cache holds a set of words, closed under
// prefixes, each a block; a handle pins a prefix of its word and holds other blocks of its own.
// What an eviction takes is any word that ends a path and is not pinned. A pin may keep more than
// its prefix (what follows it in the same node), so how much can be evicted has two bounds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "radixkv/types.h"

namespace radixkv::testing {

using word = std::vector<token_id>;

inline constexpr token_id letters = 3;
inline constexpr int longest_word = 3;

enum class history_kind : std::uint8_t {
  match,     // result: tokens
  open,      // result: tokens served, or refused
  append,    // takes `blocks` blocks; word: afterwards; or refused
  truncate,  // gives back `blocks` blocks
  commit,    // publishes the whole word; result: new blocks
  fork,      // a handle with the pin of another, whose word is published
  release,
  evict,  // of up to `blocks`; result: how many
  clear   // result: how many
};

struct history_operation {
  static constexpr int refused = -1;

  history_kind what = history_kind::match;
  int handle = -1;
  word text = {};
  int blocks = 0;
  int result = 0;
  std::uint64_t invoked = 0, returned = 0;  // of one clock, all different
};

// The operations of each handle stand in their order.
using history = std::vector<history_operation>;

// At most 31 operations.
[[nodiscard]] bool linearisable(const history& h, int pool_blocks);
[[nodiscard]] std::string to_text(const history& h);

}  // namespace radixkv::testing
