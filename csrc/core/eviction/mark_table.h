// Marks on nodes of the index: what holds blocks, or lets them go first. Storage, and which marks
// lie on a node.
//
// Marks on a node are found through chains of a hash table that is made large enough when a mark is
// made: laying and taking them off, in the middle of a change of the tree, allocates nothing.
//
// Invariants
// 1. A mark with a node is in the chain of that node's bucket, any other is in none.
// 2. A mark_id names one use of a slot: ids of marks that have ended are told from later ones.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "csrc/core/step_count.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::detail {

// Slot in the low half, its generation in the high one.
using mark_id = std::uint64_t;
inline constexpr mark_id no_mark = ~std::uint64_t{0};
inline constexpr std::uint32_t no_index = 0xffffffffu;

enum class mark_kind : std::uint8_t {
  announced,  // holds what a waiting request will use
  pinned,     // holds until it is released, whatever happens
  priority,   // holds, or if its rank is below 0 lets go first
  expected,   // holds what is expected to be used again
  discarded   // lets go first: the time to live is over, or nobody will come back
};

struct mark {
  static constexpr double never = std::numeric_limits<double>::infinity();

  node_id node = no_node;
  std::uint32_t blocks = 0;      // covered, from the node's first
  double rank = 0;               // > 0: holds; < 0: lets go
  double expires = never;        // a hold ends then; a discard begins then
  std::uint64_t order = 0;       // among equal ranks the smallest gives way first
  std::uint32_t from = 0;        // of a discard: depth in blocks down to which it goes
  std::uint32_t generation = 0;  // of the slot
  std::uint32_t next = no_index;
  std::uint32_t previous = no_index;
  mark_kind kind = mark_kind::announced;
  bool used = false;
  bool withheld = false;  // an announcement that lies somewhere and is not in the queue to give way
  bool foremost = false;  // of many on its node none covers more
  bool owned = true;      // somebody releases it; others end when their path has gone
  // Of an announcement: its path's hashes, and its place among the marks that have each; of its
  // path, so many leading ones are held.
  struct path_hash {
    std::uint64_t hash = 0;
    std::uint32_t place = no_index;
  };
  std::vector<path_hash> hashes;
  std::uint32_t held_chunks = 0;
  // Of what could give way below a root with a quota: the root, and its place there (space_heap).
  node_id space = no_node;
  struct heap_links {
    std::uint32_t above = no_index;
    std::uint32_t left = no_index;
    std::uint32_t right = no_index;
    std::uint32_t distance = 1;
  };
  heap_links heap;

  [[nodiscard]] bool holds() const noexcept { return rank > 0; }
  // Any number of announcements and pinned prefixes may lie on a node that they have in common; of
  // other marks there are few (retention::absorbed). So who need not look at the many does not.
  [[nodiscard]] bool is_of_many() const noexcept {
    return kind == mark_kind::announced || kind == mark_kind::pinned;
  }
  // Whether it gives way before the other.
  [[nodiscard]] bool is_before(const mark& other) const noexcept {
    return rank != other.rank ? rank < other.rank : order < other.order;
  }
};

class mark_table {
 public:
  [[nodiscard]] std::size_t live() const noexcept { return slots_.size() - free_.size(); }
  [[nodiscard]] mark& operator[](std::uint32_t i) noexcept { return slots_[i]; }
  [[nodiscard]] const mark& operator[](std::uint32_t i) const noexcept { return slots_[i]; }
  [[nodiscard]] std::size_t slots() const noexcept { return slots_.size(); }

  // Slot of a mark; no_index if it has ended.
  [[nodiscard]] std::uint32_t find(mark_id id) const noexcept {
    const auto i = static_cast<std::uint32_t>(id);
    if (i >= slots_.size() || !slots_[i].used || slots_[i].generation != id >> 32) return no_index;
    return i;
  }
  [[nodiscard]] mark_id id(std::uint32_t i) const noexcept {
    return mark_id{slots_[i].generation} << 32 | i;
  }

  // Afterwards take_slot() and `slots() + 1` slots' laying allocate nothing. May throw.
  void reserve_one() {
    if (!free_.empty()) return;
    const std::size_t wanted = slots_.size() + 1;
    if (wanted > slots_.capacity()) slots_.reserve(std::max<std::size_t>(16, 2 * wanted));
    free_.reserve(slots_.capacity());
    if (wanted > heads_.size() / 2) rehash(std::max<std::size_t>(64, 2 * heads_.size()));
  }
  // REQUIRES: reserve_one().
  [[nodiscard]] std::uint32_t take_slot() noexcept {
    std::uint32_t i;
    if (free_.empty()) {
      i = static_cast<std::uint32_t>(slots_.size());
      slots_.emplace_back();
    } else {
      i = free_.back();
      free_.pop_back();
    }
    slots_[i].used = true;
    return i;
  }
  // REQUIRES: it lies nowhere.
  void give_slot(std::uint32_t i) noexcept {
    const std::uint32_t generation = slots_[i].generation + 1;
    slots_[i] = {};
    slots_[i].generation = generation;
    free_.push_back(i);
  }

  // REQUIRES: it lies nowhere, 1 ≤ blocks.
  void lay(std::uint32_t i, node_id n, std::uint32_t blocks) noexcept {
    mark& m = slots_[i];
    m.node = n;
    m.blocks = blocks;
    link(i);
  }
  void take_off(std::uint32_t i) noexcept {
    mark& m = slots_[i];
    if (m.node == no_node) return;
    (m.previous == no_index ? head(m) : slots_[m.previous].next) = m.next;
    if (m.next != no_index) slots_[m.next].previous = m.previous;
    m.next = m.previous = no_index;
    m.node = no_node;
    m.blocks = 0;
    m.foremost = false;
  }
  // One of many on n: the foremost one, where one is known to be; no_index if there is none.
  [[nodiscard]] std::uint32_t one_of_many_on(node_id n) const noexcept {
    std::uint32_t i = heads_.empty() ? no_index : heads_[bucket(n) + 1];
    for (; i != no_index && slots_[i].node != n; i = slots_[i].next) count_marks();
    return i;
  }
  // REQUIRES: one of many, none of which covers more of its node.
  void make_foremost(std::uint32_t i) noexcept {
    const node_id n = slots_[i].node;
    const std::uint32_t blocks = slots_[i].blocks;
    take_off(i);
    lay(i, n, blocks);
    slots_[i].foremost = true;
  }
  // Calls visit(slot) for the marks on n; it may take off, end or move the one it is called with.
  template <typename Visit>
  void for_each_on(node_id n, Visit&& visit) const {
    for_each_of_few_on(n, visit);
    for_each_of_many_on(n, visit);
  }
  template <typename Visit>
  void for_each_of_few_on(node_id n, Visit&& visit) const {
    if (!heads_.empty()) for_each_from(heads_[bucket(n)], n, visit);
  }
  template <typename Visit>
  void for_each_of_many_on(node_id n, Visit&& visit) const {
    if (!heads_.empty()) for_each_from(heads_[bucket(n) + 1], n, visit);
  }
  void clear() {
    slots_ = {};
    free_ = {};
    heads_ = {};
  }
  // Without the hashes of announcements.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return slots_.capacity() * sizeof(mark) + free_.capacity() * 4 + heads_.capacity() * 4;
  }

 private:
  template <typename Visit>
  void for_each_from(std::uint32_t i, node_id n, Visit&& visit) const {
    while (i != no_index) {
      count_marks();
      const std::uint32_t next = slots_[i].next;
      if (slots_[i].node == n) visit(i);
      i = next;
    }
  }
  // Of two chains: of announcements the second.
  [[nodiscard]] std::size_t bucket(node_id n) const noexcept {
    return static_cast<std::size_t>((n * 0x9e3779b97f4a7c15ull) >> 32) & (heads_.size() - 2);
  }
  [[nodiscard]] std::uint32_t& head(const mark& m) noexcept {
    return heads_[bucket(m.node) + (m.is_of_many() ? 1 : 0)];
  }
  void link(std::uint32_t i) noexcept {
    mark& m = slots_[i];
    std::uint32_t& first = head(m);
    if (first != no_index && slots_[first].foremost && slots_[first].node == m.node) {
      if (m.blocks <= slots_[first].blocks) {
        link_behind(i, first);
        return;
      }
      slots_[first].foremost = false;
      m.foremost = true;
    }
    m.next = first;
    m.previous = no_index;
    if (first != no_index) slots_[first].previous = i;
    first = i;
  }
  void link_behind(std::uint32_t i, std::uint32_t other) noexcept {
    const std::uint32_t next = slots_[other].next;
    slots_[i].next = next;
    slots_[i].previous = other;
    if (next != no_index) slots_[next].previous = i;
    slots_[other].next = i;
  }
  void rehash(std::size_t n) {
    std::vector<std::uint32_t> larger(n, no_index);
    heads_.swap(larger);
    for (std::uint32_t i = 0; i < slots_.size(); ++i) {
      slots_[i].foremost = false;
      if (slots_[i].used && slots_[i].node != no_node) link(i);
    }
  }

  std::vector<mark> slots_;
  std::vector<std::uint32_t> free_;
  std::vector<std::uint32_t> heads_;  // a power of two, at least twice the slots
};

}  // namespace radixkv::detail
