// Marks on nodes of the index: what holds blocks, or lets them go first. Storage, and which marks
// lie on a node.
//
// Marks on a node are found through chains of a hash table that is made large enough when a mark is
// made: laying and taking them off, in the middle of a change of the tree, allocates nothing. It
// grows by a bucket for a slot (linear hashing; W. Litwin, VLDB 1980), so that no hint waits until
// all others have moved.
//
// Invariants
// 1. A mark with a node is in the chain of that node's bucket, any other is in none.
// 2. A mark_id names one use of a slot: ids of marks that have ended are told from later ones.
// 3. There are twice as many buckets as slots, and buckets are chosen with a secret of the table:
//    whoever has many nodes to choose from cannot gather marks in one. A foremost mark comes before
//    the others of its node.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "csrc/core/eviction/chunk_array.h"
#include "csrc/core/mix.h"
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
  [[nodiscard]] std::size_t live() const noexcept { return size_ - free_count_; }
  [[nodiscard]] mark& operator[](std::uint32_t i) noexcept { return slots_[i]; }
  [[nodiscard]] const mark& operator[](std::uint32_t i) const noexcept { return slots_[i]; }
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
    if (free_ != no_index) return;
    slots_.grow_to(size_ + 1);
    while (buckets_ < 2 * (size_ + 1)) add_buckets();
  }
  // REQUIRES: reserve_one().
  [[nodiscard]] std::uint32_t take_slot() noexcept {
    std::uint32_t i = free_;
    if (i == no_index) {
      i = static_cast<std::uint32_t>(size_++);
    } else {
      free_ = (*this)[i].next;
      (*this)[i].next = no_index;
      --free_count_;
    }
    (*this)[i].used = true;
    return i;
  }
  // REQUIRES: it lies nowhere.
  void give_slot(std::uint32_t i) noexcept {
    const std::uint32_t generation = (*this)[i].generation + 1;
    (*this)[i] = {};
    (*this)[i].generation = generation;
    (*this)[i].next = free_;
    free_ = i;
    ++free_count_;
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
    std::uint32_t i = buckets_ == 0 ? no_index : heads_[bucket(n)].many;
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
    if (buckets_ != 0) for_each_from(heads_[bucket(n)].few, n, visit);
  }
  template <typename Visit>
  void for_each_of_many_on(node_id n, Visit&& visit) const {
    if (buckets_ != 0) for_each_from(heads_[bucket(n)].many, n, visit);
  }
  void clear() { *this = {}; }
  // Without the hashes of announcements.
  [[nodiscard]] std::size_t bytes() const noexcept { return slots_.bytes() + heads_.bytes(); }

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
  [[nodiscard]] std::size_t bucket(node_id n) const noexcept {
    const auto h = static_cast<std::size_t>(mix(n, secret_));
    const std::size_t all = std::bit_ceil(buckets_);
    const std::size_t b = h & (all - 1);
    return b < buckets_ ? b : b - all / 2;
  }
  [[nodiscard]] std::uint32_t& head(const mark& m) noexcept {
    chains& c = heads_[bucket(m.node)];
    return m.is_of_many() ? c.many : c.few;
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
  // One more, which takes those over from another that belong there; the first ones at once.
  void add_buckets() {
    heads_.grow_to(std::max(first_buckets, buckets_ + 1));
    if (buckets_ == 0) {
      buckets_ = first_buckets;
      return;
    }
    const std::size_t from = buckets_ - std::bit_floor(buckets_);
    const std::size_t to = buckets_++;
    part(heads_[from].few, heads_[to].few, to);
    part(heads_[from].many, heads_[to].many, to);
  }
  // Marks of a chain that belong to the bucket `to` go there, in their order.
  void part(std::uint32_t& stay, std::uint32_t& go, std::size_t to) noexcept {
    std::uint32_t i = std::exchange(stay, no_index);
    std::uint32_t last_stays = no_index;
    std::uint32_t last_goes = no_index;
    while (i != no_index) {
      count_marks();
      mark& m = (*this)[i];
      const std::uint32_t next = std::exchange(m.next, no_index);
      const bool goes = bucket(m.node) == to;
      std::uint32_t& last = goes ? last_goes : last_stays;
      m.previous = last;
      (last != no_index ? (*this)[last].next : goes ? go : stay) = i;
      last = i;
      i = next;
    }
  }

  struct chains {
    std::uint32_t few = no_index;
    std::uint32_t many = no_index;  // announcements and pinned prefixes
  };
  static constexpr std::size_t first_buckets = 32;
  chunk_array<mark, 64> slots_;
  std::size_t size_ = 0;
  std::uint32_t free_ = no_index;  // linked by `next`
  std::size_t free_count_ = 0;
  chunk_array<chains, 128> heads_;
  std::size_t buckets_ = 0;
  std::uint64_t secret_ = random_secret();
};

}  // namespace radixkv::detail
