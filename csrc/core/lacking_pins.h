// Pinned prefixes of which not all is cached, by what they lack next: whoever has published that is
// told of them, and looks at no others.
//
// What a prefix lacks next are the tokens of the block behind what is held of it, or the rest of it
// if that is less. They are known by the place where they would go on, found by hash, and in order
// there (prefix_order): all that are a prefix of what a path goes on with are found, the longest
// first, in the logarithm of their number each. So who meets no such place pays for none.
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
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "csrc/core/eviction/mark_table.h"
#include "csrc/core/mix.h"
#include "csrc/core/prefix_order.h"
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
  using by_place = std::unordered_map<std::uint64_t, prefix_order, pin_place_hash>;
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
    prefix_order::string tokens;    // the prefix's own
  };
  class entry {
   public:
    [[nodiscard]] bool lacks(const wanted& w, mark_id m) const {
      return place_ == w.place &&
             (place_ == nowhere || (same(item_->tokens, w.tokens) && item_->value == m));
    }

   private:
    friend class lacking_pins;
    std::uint64_t space_ = nowhere;
    space_pins* counts_ = nullptr;
    std::uint64_t place_ = nowhere;
    std::unique_ptr<prefix_order::item> item_;
  };

  // One that lacks nothing, of the namespace whose place that is. May throw std::bad_alloc, and
  // then changes nothing that counts.
  [[nodiscard]] entry add(std::uint64_t space, mark_id m) {
    entry e;
    e.item_ = std::make_unique<prefix_order::item>();
    e.item_->value = m;
    e.item_->priority = mix(++added_, priority_secret_);
    const std::size_t all = spares_.size() + places_.size() + 1;
    if (spares_.capacity() < all) spares_.reserve(2 * all);
    if (places_.bucket_count() <= all) places_.reserve(std::bit_ceil(2 * all));
    by_place spare(1, places_.hash_function());
    spare.emplace(nowhere, prefix_order{});
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
    if (e.place_ != nowhere && e.place_ == to.place && same(e.item_->tokens, to.tokens)) return;
    leave(e);
    if (to.place == nowhere) return;
    auto at = places_.find(to.place);
    if (at == places_.end()) {
      spares_.back().key() = to.place;
      at = places_.insert(std::move(spares_.back())).position;
      spares_.pop_back();
    }
    e.item_->tokens = to.tokens;
    at->second.insert(*e.item_);
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
  void for_each_next(std::uint64_t place, prefix_order::string path, Visit&& visit) {
    count_lookups();
    const auto at = places_.find(place);
    if (at == places_.end()) return;
    prefix_order::item* e = at->second.longest_prefix_of(path);
    while (e != nullptr) {
      const prefix_order::string found = e->tokens;
      // A visit may move what it is told of, and with the last one the place goes.
      prefix_order::item* const shorter = prefix_order::shorter_prefix_of(*e);
      while (e != nullptr) {
        const mark_id m = e->value;
        prefix_order::item* const before = prefix_order::previous(*e);
        e = before != nullptr && same(before->tokens, found) ? before : nullptr;
        if (!visit(m)) break;
      }
      e = shorter;
    }
  }
  // Host memory of one, with a place and a namespace of its own.
  static constexpr std::size_t entry_bytes =
      sizeof(prefix_order::item) + 2 * sizeof(void*) +
      (sizeof(by_place::value_type) + 2 * sizeof(void*)) +   // its place
      4 * sizeof(void*) + 2 * sizeof(by_place::node_type) +  // in two tables just grown
      sizeof(std::uint64_t) + sizeof(space_pins) + 3 * sizeof(void*);

 private:
  [[nodiscard]] static bool same(prefix_order::string a, prefix_order::string b) noexcept {
    return std::ranges::equal(a, b);
  }
  void leave(entry& e) noexcept {
    if (e.place_ == nowhere) return;
    const auto at = places_.find(e.place_);
    at->second.erase(*e.item_);
    if (at->second.empty()) spares_.push_back(places_.extract(at));
    e.place_ = nowhere;
    --e.counts_->lacking;
    --lacking_;
  }

  by_place places_;
  std::vector<by_place::node_type> spares_;
  std::unordered_map<std::uint64_t, space_pins> spaces_;
  std::int64_t lacking_ = 0;
  std::uint64_t priority_secret_ = random_secret();
  std::uint64_t added_ = 0;  // ever
};

}  // namespace radixkv::detail
