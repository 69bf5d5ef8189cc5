// Follows which blocks the index offers, for a mirror of it elsewhere: on a device
// (cuda_index_feed), in another process, in a router.
//
// 1. What the listener has taken is closed under prefixes: parents come before their children and
//    go after them. Only whole blocks are offered.
// 2. A block that was dropped is not filled anew before retired() has reached its ticket: whoever
//    reads the mirror's older state may still name it. Until then it counts as retiring.
//
// Thread-safety: all calls are made under the cache's lock, one at a time. They must not call the
// cache, block or throw.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "radixkv/types.h"

namespace radixkv {

class index_listener {
 public:
  virtual ~index_listener() = default;

  // `block` became matchable as a whole. `parent` is the block before it in its path, no_block for
  // a namespace's first; `tokens` are the block's own, valid during the call. False: not taken (no
  // room, say); nothing below it is offered then, and it is not dropped later.
  virtual bool on_publish(block_id block, block_id parent, std::string_view name_space,
                          std::span<const token_id> tokens) noexcept = 0;
  // A block that was taken is no longer matchable. Returns the ticket that it waits for; tickets
  // never fall.
  virtual std::uint64_t on_drop(block_id block) noexcept = 0;
  // All that was dropped with tickets up to this one is no longer named by anyone.
  virtual std::uint64_t retired() noexcept = 0;
};

}  // namespace radixkv
