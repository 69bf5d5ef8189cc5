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
#include <memory>
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
  [[nodiscard]] std::size_t live() const noexcept { return size_ - free_.size(); }
  [[nodiscard]] mark& operator[](std::uint32_t i) noexcept {
    return slots_[i / chunk_slots][i % chunk_slots];
  }
  [[nodiscard]] const mark& operator[](std::uint32_t i) const noexcept {
    return slots_[i / chunk_slots][i % chunk_slots];
  }
  [[nodiscard]] std::size_t slots() const noexcept { return size_; }

  // Slot of a mark; no_index if it has ended.
  [[nodiscard]] std::uint32_t find(mark_id id) const noexcept {
    const auto i = static_cast<std::uint32_t>(id);
    if (i >= size_ || !(*this)[i].used || (*this)[i].generation != id >> 32) return no_index;
    return i;
  }
  [[nodiscard]] mark_id id(std::uint32_t i) const noexcept {
    return mark_id{(*this)[i].generation} << 32 | i;
  }

  // Afterwards take_slot() and `slots() + 1` slots' laying allocate nothing. May throw.
  void reserve_one() {
    if (!free_.empty()) return;
    const std::size_t wanted = size_ + 1;
    if (free_.capacity() < wanted) free_.reserve(std::max<std::size_t>(chunk_slots, 2 * wanted));
    if (wanted > slots_.size() * chunk_slots) {
      slots_.push_back(std::make_unique<mark[]>(chunk_slots));
    }
    if (wanted > heads_.size() / 2) rehash(std::max<std::size_t>(64, 2 * heads_.size()));
  }
  // REQUIRES: reserve_one().
  [[nodiscard]] std::uint32_t take_slot() noexcept {
    std::uint32_t i;
    if (free_.empty()) {
      i = static_cast<std::uint32_t>(size_++);
    } else {
      i = free_.back();
      free_.pop_back();
    }
    (*this)[i].used = true;
    return i;
  }
  // REQUIRES: it lies nowhere.
  void give_slot(std::uint32_t i) noexcept {
    const std::uint32_t generation = (*this)[i].generation + 1;
    (*this)[i] = {};
    (*this)[i].generation = generation;
    free_.push_back(i);
  }

  // REQUIRES: it lies nowhere, 1 ≤ blocks.
  void lay(std::uint32_t i, node_id n, std::uint32_t blocks) noexcept {
    mark& m = (*this)[i];
    m.node = n;
    m.blocks = blocks;
    link(i);
  }
  void take_off(std::uint32_t i) noexcept {
    mark& m = (*this)[i];
    if (m.node == no_node) return;
    (m.previous == no_index ? head(m) : (*this)[m.previous].next) = m.next;
    if (m.next != no_index) (*this)[m.next].previous = m.previous;
    m.next = m.previous = no_index;
    m.node = no_node;
    m.blocks = 0;
    m.foremost = false;
  }
  // One of many on n: the foremost one, where one is known to be; no_index if there is none.
  [[nodiscard]] std::uint32_t one_of_many_on(node_id n) const noexcept {
    std::uint32_t i = heads_.empty() ? no_index : heads_[bucket(n) + 1];
    for (; i != no_index && (*this)[i].node != n; i = (*this)[i].next) count_marks();
    return i;
  }
  // REQUIRES: one of many, none of which covers more of its node.
  void make_foremost(std::uint32_t i) noexcept {
    const node_id n = (*this)[i].node;
    const std::uint32_t blocks = (*this)[i].blocks;
    take_off(i);
    lay(i, n, blocks);
    (*this)[i].foremost = true;
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
    slots_ = decltype(slots_)();
    size_ = 0;
    free_ = {};
    heads_ = {};
  }
  // Without the hashes of announcements.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return slots_.size() * chunk_slots * sizeof(mark) + slots_.capacity() * sizeof(slots_[0]) +
           free_.capacity() * 4 + heads_.capacity() * 4;
  }

 private:
  template <typename Visit>
  void for_each_from(std::uint32_t i, node_id n, Visit&& visit) const {
    while (i != no_index) {
      count_marks();
      const std::uint32_t next = (*this)[i].next;
      if ((*this)[i].node == n) visit(i);
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
    mark& m = (*this)[i];
    std::uint32_t& first = head(m);
    if (first != no_index && (*this)[first].foremost && (*this)[first].node == m.node) {
      if (m.blocks <= (*this)[first].blocks) {
        link_behind(i, first);
        return;
      }
      (*this)[first].foremost = false;
      m.foremost = true;
    }
    m.next = first;
    m.previous = no_index;
    if (first != no_index) (*this)[first].previous = i;
    first = i;
  }
  void link_behind(std::uint32_t i, std::uint32_t other) noexcept {
    const std::uint32_t next = (*this)[other].next;
    (*this)[i].next = next;
    (*this)[i].previous = other;
    if (next != no_index) (*this)[next].previous = i;
    (*this)[other].next = i;
  }
  void rehash(std::size_t n) {
    std::vector<std::uint32_t> larger(n, no_index);
    heads_.swap(larger);
    for (std::uint32_t i = 0; i < size_; ++i) {
      (*this)[i].foremost = false;
      if ((*this)[i].used && (*this)[i].node != no_node) link(i);
    }
  }

  // In chunks, which do not move when there are more of them: nobody waits for a million marks.
  static constexpr std::uint32_t chunk_slots = 64;
  std::vector<std::unique_ptr<mark[]>> slots_;
  std::size_t size_ = 0;
  std::vector<std::uint32_t> free_;
  std::vector<std::uint32_t> heads_;  // a power of two, at least twice the slots
};

}  // namespace radixkv::detail
