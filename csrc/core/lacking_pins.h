// Pinned prefixes of which not all is cached, by what they lack next: whoever has published that is
// told of them, and looks at no others.
//
// What a prefix lacks next are the tokens of the block behind what is held of it, or the rest of it
// if that is less. They are known by the place where they would go on, found by hash, and in order
// there: all that are a prefix of what a path goes on with are found from the last one that is not
// behind it, each search for shorter ones going back past at least one that is looked at. So who
// meets no such place pays for none.
//
// Invariants
// 1. A place is in the table while a prefix lacks something there; with the spare ones there are as
//    many as prefixes, so that moving one allocates nothing.
//
// Not thread-safe.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <iterator>
#include <map>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "csrc/core/eviction/mark_table.h"
#include "csrc/core/mix.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

// Keyed: callers have a say in which blocks are whose.
struct pin_place_hash {
  std::size_t operator()(std::uint64_t place) const noexcept {
    return static_cast<std::size_t>(mix(place, secret));
  }
  std::uint64_t secret = random_secret();
};

class lacking_pins {
  using in_order = std::multimap<std::string_view, mark_id>;
  using by_place = std::unordered_map<std::uint64_t, in_order, pin_place_hash>;
  struct space_pins {
    std::int64_t pins = 0;
    std::int64_t lacking = 0;
  };

 public:
  static constexpr std::uint64_t nowhere = ~std::uint64_t{0};
  // Places are blocks, the last that is held, or, without one, namespaces by the hashes of their
  // names: two with one hash cost a look at the index.
  [[nodiscard]] static std::uint64_t of_space(std::uint64_t name_hash) noexcept {
    return (name_hash | std::uint64_t{1} << 63) & ~std::uint64_t{1};
  }
  struct wanted {
    std::uint64_t place = nowhere;  // this: nothing
    std::string_view tokens;        // their bytes, the prefix's own
  };
  class entry {
   public:
    [[nodiscard]] bool lacks(const wanted& w, mark_id m) const {
      return place_ == w.place &&
             (place_ == nowhere || (at_->first == w.tokens && at_->second == m));
    }

   private:
    friend class lacking_pins;
    std::uint64_t space_ = nowhere;
    space_pins* counts_ = nullptr;
    std::uint64_t place_ = nowhere;
    in_order::iterator at_{};
    in_order::node_type node_;  // while it lacks nothing
  };

  // One that lacks nothing, of the namespace whose place that is. May throw std::bad_alloc, and
  // then changes nothing that counts.
  [[nodiscard]] entry add(std::uint64_t space, mark_id m) {
    entry e;
    in_order order;
    order.emplace(std::string_view{}, m);
    e.node_ = order.extract(order.begin());
    const std::size_t all = spares_.size() + places_.size() + 1;
    if (spares_.capacity() < all) spares_.reserve(2 * all);
    if (places_.bucket_count() <= all) places_.reserve(std::bit_ceil(2 * all));
    by_place spare(1, places_.hash_function());
    spare.emplace(nowhere, in_order{});
    e.counts_ = &spaces_[space];
    e.space_ = space;
    ++e.counts_->pins;
    spares_.push_back(spare.extract(spare.begin()));
    return e;
  }
  void erase(entry& e) noexcept {
    leave(e);
    spares_.pop_back();
    if (--e.counts_->pins == 0) spaces_.erase(e.space_);
  }
  // What it lacks from now on. Allocates nothing.
  void move(entry& e, const wanted& to) noexcept {
    if (e.place_ != nowhere && e.place_ == to.place && e.at_->first == to.tokens) return;
    leave(e);
    if (to.place == nowhere) return;
    auto at = places_.find(to.place);
    if (at == places_.end()) {
      spares_.back().key() = to.place;
      at = places_.insert(std::move(spares_.back())).position;
      spares_.pop_back();
    }
    e.node_.key() = to.tokens;
    e.at_ = at->second.insert(std::move(e.node_));
    e.place_ = to.place;
    ++e.counts_->lacking;
    ++lacking_;
  }

  // Whether any lacks something, and whether any of that namespace does.
  [[nodiscard]] bool any() const noexcept { return lacking_ > 0; }
  [[nodiscard]] bool any_of(std::uint64_t space) const {
    count_lookups();
    const auto s = spaces_.find(space);
    return s != spaces_.end() && s->second.lacking > 0;
  }
  // Calls visit(mark) for those that lack what a path goes on with at a place, the longest first.
  // It may move them elsewhere, and says whether it has: else it is told of no more that lack the
  // same.
  template <typename Visit>
  void for_each_next(std::uint64_t place, std::string_view path, Visit&& visit) {
    while (!path.empty()) {
      count_lookups();
      const auto at = places_.find(place);
      if (at == places_.end()) return;
      auto e = last_prefix(at->second, path);
      if (e == at->second.end()) return;
      const std::string_view found = e->first;
      for (bool more = true; more;) {
        const mark_id m = e->second;
        // A visit may move the last one, and the place goes with it.
        more = e != at->second.begin() && std::prev(e)->first == found;
        if (more) --e;
        if (!visit(m)) break;
      }
      path = path.substr(0, found.size() - token_bytes);
    }
  }
  // Host memory of one, with a place and a namespace of its own.
  static constexpr std::size_t entry_bytes =
      (sizeof(in_order::value_type) + 4 * sizeof(void*)) +   // its node of the order
      (sizeof(by_place::value_type) + 2 * sizeof(void*)) +   // its place
      4 * sizeof(void*) + 2 * sizeof(by_place::node_type) +  // in two tables just grown
      sizeof(std::uint64_t) + sizeof(space_pins) + 3 * sizeof(void*);

 private:
  static constexpr std::size_t token_bytes = sizeof(std::uint32_t);
  static constexpr int most_steps = 4;  // half of what a search among hundreds takes

  // The longest that is a prefix of `path`, the last of equal ones, or the end.
  [[nodiscard]] static in_order::iterator last_prefix(in_order& order, std::string_view path) {
    count_nodes(static_cast<std::uint64_t>(std::bit_width(order.size())));
    auto e = order.upper_bound(path);
    while (e != order.begin()) {
      --e;
      const auto same = static_cast<std::size_t>(
          std::mismatch(path.begin(), path.end(), e->first.begin(), e->first.end()).first -
          path.begin());
      if (same == e->first.size()) return e;
      // Prefixes that are not behind this one share with it no more than the path does.
      path = path.substr(0, same - same % token_bytes);
      if (path.empty()) break;
      // The next is mostly near.
      int steps = 0;
      for (; steps < most_steps && e != order.begin() && std::prev(e)->first > path; ++steps) {
        count_nodes();
        --e;
      }
      count_nodes();
      if (steps == most_steps) {
        count_nodes(static_cast<std::uint64_t>(std::bit_width(order.size())));
        e = order.upper_bound(path);
      }
    }
    return order.end();
  }
  void leave(entry& e) noexcept {
    if (e.place_ == nowhere) return;
    const auto at = places_.find(e.place_);
    e.node_ = at->second.extract(e.at_);
    if (at->second.empty()) spares_.push_back(places_.extract(at));
    e.place_ = nowhere;
    --e.counts_->lacking;
    --lacking_;
  }

  by_place places_;
  std::vector<by_place::node_type> spares_;
  std::unordered_map<std::uint64_t, space_pins> spaces_;
  std::int64_t lacking_ = 0;
};

}  // namespace radixkv::detail
