// Pinned prefixes of which not all is cached, by what they lack next: whoever has published that is
// told of them, and looks at no others.
//
// What a prefix lacks next are the tokens of the block behind what is held of it, or the rest of it
// if that is less, and they are known by the place where they would go on and by their hash. A hash
// that is another's costs a look at the index.
//
// Not thread-safe.
#pragma once

#include <bit>
#include <compare>
#include <cstdint>
#include <limits>
#include <map>

#include "csrc/core/eviction/mark_table.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

class lacking_pins {
 public:
  struct wanted {
    std::int64_t depth = std::numeric_limits<std::int64_t>::max();  // in blocks; this: nothing
    std::uint64_t place = 0;   // the last block that is held, or, without one, the namespace
    std::uint32_t length = 0;  // in tokens
    std::uint64_t tokens = 0;  // their hash
    friend auto operator<=>(const wanted&, const wanted&) = default;
  };
  using entry = std::multimap<wanted, mark_id>::iterator;

  // One that lacks nothing. May throw std::bad_alloc.
  [[nodiscard]] entry add(mark_id m) { return pins_.emplace(wanted{}, m); }
  void erase(entry e) noexcept { pins_.erase(e); }
  // Where it is from now on. Allocates nothing.
  [[nodiscard]] entry move(entry e, const wanted& to) noexcept {
    auto node = pins_.extract(e);
    node.key() = to;
    return pins_.insert(std::move(node));
  }

  // Calls visit(mark) for those that lack what a path goes on with, the deepest first; it may move
  // them to where they lack what is further down. The path has `length` tokens, in blocks of
  // `block`: place_of(depth) is the place of its first blocks, hash_of(depth, n) that of the n
  // tokens behind them.
  template <typename Place, typename Hash, typename Visit>
  void for_each_next(std::int64_t length, std::int64_t block, Place&& place_of, Hash&& hash_of,
                     Visit&& visit) {
    std::int64_t depth = (length + block - 1) / block;
    for (entry e = find({depth}); e != pins_.begin(); e = find({depth})) {
      depth = std::prev(e)->first.depth;
      const std::uint64_t place = place_of(depth);
      wanted next{depth, place};
      for (e = find(next); is_at(e, depth, place); e = find(next)) {
        next.length = e->first.length;
        if (depth * block + next.length > length) break;
        next.tokens = hash_of(depth, next.length);
        for (e = find(next); e != pins_.end() && e->first == next;) visit((e++)->second);
        ++next.length;
        next.tokens = 0;
      }
    }
  }
  // Host memory of one.
  static constexpr std::size_t entry_bytes = sizeof(wanted) + sizeof(mark_id) + 4 * sizeof(void*);

 private:
  [[nodiscard]] entry find(const wanted& from) {
    count_nodes(std::bit_width(pins_.size()));
    return pins_.lower_bound(from);
  }
  [[nodiscard]] bool is_at(entry e, std::int64_t depth, std::uint64_t place) const {
    return e != pins_.end() && e->first.depth == depth && e->first.place == place;
  }

  std::multimap<wanted, mark_id> pins_;
};

}  // namespace radixkv::detail
