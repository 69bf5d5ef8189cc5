// Siblings whose first blocks begin with the same token: which of them has the longest common
// prefix with some tokens?
//
// A compacted trie over their first blocks: a fork stands where some of them part, its children are
// forks further down and nodes. Finding a place takes the logarithm of the block's length, whatever
// the number of siblings and the way they part: forks are found by their handles in a hash table,
// by a binary search over lengths ("fat binary search", Belazzougui, Boldi, Pagh and Vigna,
// "Monotone minimal perfect hashing", SODA 2009), and the child of a fork with many of them by the
// hash of one token more. What a hash names is verified by tokens: each fork knows a node below it.
//
// 1. Of a group of one there is no fork: the child table names the node. Else it names the top
//    fork, and every fork has at least two children, which differ in the token behind its end.
// 2. All nodes below a fork agree in its first `end` tokens, and all that agree in the first `top`
//    of them lie below it; top is one more than the end of the fork above.
// 3. Every fork but the top one is in the table under its handle, the hash of one of its prefixes
//    that are longer than those of the fork above. So are, under their edges, the hashes of the
//    shortest of these prefixes, the children of a fork that is `hashed`, as every fork is that has
//    ever had more than scanned_children; leaves among them know by what hash, others may not. A
//    fork whose handle is its edge is in the table once.
// 4. A fork knows the node that its first child is or knows. So whoever is not a first child is
//    known to no fork, and goes without a look at any.
//
// Thread-safety: one writer; a reader may search at any time and validates what it was told with
// the parent's child_changes and with read_valid. Forks are never unmapped.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "csrc/core/id_table.h"
#include "csrc/core/leading_hashes.h"
#include "csrc/core/relaxed.h"
#include "csrc/core/stable_array.h"
#include "radixkv/eviction_policy.h"
#include "radixkv/types.h"

namespace radixkv::detail {

class radix_tree;
struct tree_node;

class sibling_trie {
 public:
  // A node's id, or a fork's place with fork_bit.
  using ref = std::uint32_t;
  static constexpr ref fork_bit = 0x80000000u;
  [[nodiscard]] static bool is_fork(ref r) noexcept { return r != no_node && (r & fork_bit) != 0; }

  struct found {
    node_id node = no_node;
    std::uint32_t common = 0;  // leading tokens of its first block that match
    bool conflict = false;     // a writer came in the way: nothing was found out
    // The fork up to whose end the tokens led, or no_node: where to resume; and how often it had
    // been taken for a fork.
    std::uint32_t fork = no_node;
    std::uint32_t times = 0;
  };
  // Where tokens have led, for whoever inserts them later. As long as the fork was not taken again
  // its first tokens are theirs, or their hash where all tokens were matched. As long as the node's
  // version is this one, its first `common` tokens are theirs, and a next one of it, if there is
  // any, is not. Without a fork the node is a guess: it may begin with all of them.
  struct trail {
    std::uint32_t fork = no_node;  // found::fork
    std::uint32_t times = 0;       // found::times
    node_id node = no_node;        // no_node: only the fork is known
    std::uint32_t version = 0;
    std::uint32_t common = 0;
  };
  // What stands for a group has changed; from == to: nothing did.
  struct change {
    ref from = no_node;
    ref to = no_node;
  };

  explicit sibling_trie(radix_tree& tree) noexcept : tree_(tree) {}
  // False if the system refuses memory. REQUIRES: max_nodes < fork_bit.
  [[nodiscard]] bool create(std::uint32_t max_nodes);
  // Begins a change of the tree: makes room for `changes` calls of insert, erase or replace. False
  // if memory is refused.
  [[nodiscard]] bool reserve(std::size_t changes);

  // The one with the most leading tokens in common among the children of `parent` in `group`; none,
  // if the group is another node's. REQUIRES: n > 0.
  [[nodiscard]] found find(node_id parent, ref group, leading_hashes& tokens) const noexcept;
  // The same for the writer, who may insert these tokens next, in the same change.
  [[nodiscard]] found find_for_insert(node_id parent, ref group, const std::uint32_t* tokens,
                                      std::uint32_t n) const noexcept;
  // The same from where an earlier search ended, in whatever change; none, if these tokens do not
  // lead there (any more). REQUIRES: the tokens are those that left the trail, or others behind
  // them.
  [[nodiscard]] found resume(node_id parent, const trail& t, const std::uint32_t* tokens,
                             std::uint32_t n) const noexcept;
  // Returns what stands for the group from now on.
  // REQUIRES: room reserved; the parent's child_changes are being written; no first block in the
  // group is a prefix of n's or the reverse.
  [[nodiscard]] ref insert(node_id parent, ref group, node_id n) noexcept;
  // The same where the last search has ended, if it was for n's first block and what stands for the
  // group will not change; else false, with nothing done.
  [[nodiscard]] bool insert_where_found(node_id parent, node_id n) noexcept;
  // REQUIRES: as above; n is not alone in its group.
  [[nodiscard]] change erase(node_id parent, node_id n) noexcept;
  // Puts `to` in the place of `from`. REQUIRES: as above; the same first block.
  void replace(node_id parent, node_id from, node_id to) noexcept;

  // Leading tokens of n's first block that match, or `conflict` where a writer came in the way.
  static constexpr std::uint32_t conflict = 0xffffffffu;
  [[nodiscard]] std::uint32_t common_with(node_id n, const std::uint32_t* tokens,
                                          std::uint32_t count) const noexcept;
  // A node of the group.
  [[nodiscard]] node_id member(ref group) const noexcept;

  // Fetches what erasing n, which is not alone and knows that hash, will look at first.
  void prefetch_erase(node_id n, std::uint32_t known) const noexcept;

  [[nodiscard]] std::uint32_t read_begin() const noexcept { return table_.read_begin(); }
  [[nodiscard]] bool read_valid(std::uint32_t v) const noexcept { return table_.read_valid(v); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return std::size_t{fresh_} * sizeof(fork) + table_.bytes();
  }
  // Checks a group, and counts its nodes, forks and entries of the table. Empty if sound.
  struct counts {
    std::size_t nodes = 0, forks = 0, entries = 0;
  };
  [[nodiscard]] std::string check(node_id parent, ref group, counts& seen) const;
  // Empty if there is nothing but what was counted.
  [[nodiscard]] std::string check(const counts& seen) const;

 private:
  static constexpr std::uint32_t none = no_node;
  // A fork's children are looked through up to this number: one is the node it knows, which was
  // compared; to look at the other takes no more lines than a look-up and what that leads to.
  static constexpr std::uint32_t scanned_children = 2;
  static constexpr std::uint32_t entries_of_a_change = scanned_children + 4;

  struct fork {
    relaxed<node_id> parent;  // of the siblings; none if the fork is not in use
    relaxed<std::uint32_t> up;
    // Among the children of `up`, which is the first one's previous; free ones are linked by
    // `next`.
    relaxed<ref> previous, next;
    relaxed<ref> head;         // its first child
    relaxed<node_id> witness;  // that it or the first child of it, and so on, is
    relaxed<std::uint16_t> top, end;
    // hashed_bit; inner_bit once a child was a fork; and how often it was taken for a fork, which
    // begins anew after 2³⁰ times, as versions do after 2³¹ changes.
    relaxed<std::uint32_t> state;
  };
  static_assert(sizeof(fork) == 32);
  static constexpr std::uint32_t hashed_bit = 0x80000000u;
  static constexpr std::uint32_t inner_bit = 0x40000000u;

  // Where tokens lead: into the edge that ends in `at`, or to a fork's end and no further.
  struct place {
    ref at;
    std::uint32_t up;      // the fork whose child `at` is, or none
    node_id witness;       // at or below `at`
    std::uint32_t common;  // its leading tokens that match, or conflict
    id_table::probe gap;   // where in the table a child that went on would be, if `at` is hashed
  };
  // Where hashes of prefixes lead, and where in the table the shortest would be that led to no
  // fork: the same length leads on to a child. And a leaf that was met on the way and compared.
  struct jumped {
    ref deepest = none;
    std::uint32_t missed = 0;
    id_table::probe at_missed;
    node_id leaf = none;
    std::uint32_t leaf_common = 0;
  };
  // A reference under the hash of a prefix in the table.
  struct entry {
    std::uint32_t length = 0;  // 0: none
    ref named = none;
  };
  using entries = std::array<entry, 4>;
  // The number in (a, b] that is divided by the highest power of two.
  [[nodiscard]] static std::uint32_t fattest(std::uint32_t a, std::uint32_t b) noexcept {
    return b & (~std::uint32_t{0} << (31 - __builtin_clz(a ^ b)));
  }
  [[nodiscard]] static std::uint32_t index(ref r) noexcept { return r & ~fork_bit; }
  [[nodiscard]] static bool hashed(const fork& f) noexcept { return (f.state & hashed_bit) != 0; }
  [[nodiscard]] static std::uint32_t times(const fork& f) noexcept {
    return f.state & ~(hashed_bit | inner_bit);
  }
  [[nodiscard]] static std::uint32_t handle_of(const fork& f) noexcept {
    return fattest(f.top - 1u, f.end);
  }
  [[nodiscard]] bool valid(ref r) const noexcept {
    return r != none && (is_fork(r) ? index(r) : r) < limit_;
  }
  [[nodiscard]] relaxed<ref>& previous(ref r) noexcept;
  [[nodiscard]] relaxed<ref>& next(ref r) noexcept;
  [[nodiscard]] ref previous(ref r) const noexcept;
  [[nodiscard]] ref next(ref r) const noexcept;
  // Whether `before`, the previous one of r, is the fork above it and r its first child.
  [[nodiscard]] bool is_above(ref before, ref r) const noexcept {
    return is_fork(before) && forks_[index(before)].head == r;
  }

  [[nodiscard]] place place_at(ref r, const leading_hashes& tokens) const noexcept;
  [[nodiscard]] place descend(node_id parent, place p, leading_hashes& tokens,
                              const jumped& by) const noexcept;
  // `for_answer`: if all tokens are matched, the fork above may be one that equal hashes have
  // named, or none. REQUIRES: start is the group's top, or the tokens lead to its end.
  [[nodiscard]] place search_from(node_id parent, ref start, leading_hashes& tokens,
                                  bool for_answer = false) const noexcept;
  [[nodiscard]] place beyond(node_id parent, ref at, leading_hashes& tokens, const jumped& by,
                             bool for_answer) const noexcept;
  // Whether the tokens lead to the end of a fork, and not into an edge.
  [[nodiscard]] bool leads_to_end(const place& p) const noexcept;
  [[nodiscard]] found to_found(const place& p) const noexcept;
  [[nodiscard]] std::uint32_t near_fork(ref r, std::uint32_t steps) const noexcept;
  [[nodiscard]] bool is_filed(std::uint32_t hash, ref r) const noexcept;
  void tell_edge(ref r, std::uint32_t hash) noexcept;
  [[nodiscard]] std::uint32_t find_edge(node_id parent, node_id n) const noexcept;
  struct standing {
    std::uint32_t fork;  // above it, if it is among the first children
    std::uint32_t edge;  // under which it is in the table, if `hashed`
    bool hashed;
  };
  [[nodiscard]] standing standing_of(node_id parent, node_id n) const noexcept;
  // REQUIRES: `start` is the group's top, or a fork on the way and not `for_answer`.
  [[nodiscard]] jumped jump(node_id parent, ref start, leading_hashes& tokens, bool for_answer,
                            bool looking = false) const noexcept;
  [[nodiscard]] bool begins_leaf(node_id parent, ref r, std::uint32_t length,
                                 const leading_hashes& tokens, jumped& by) const noexcept;
  [[nodiscard]] std::uint32_t end_of_named(node_id parent, ref r,
                                           std::uint32_t length) const noexcept;
  [[nodiscard]] ref child(node_id parent, const place& above, leading_hashes& tokens,
                          const jumped& by, place& to) const noexcept;
  // Of the first block of n, or of the node that a fork knows.
  [[nodiscard]] leading_hashes hashes_of(node_id parent, ref r) const noexcept;
  [[nodiscard]] const std::uint32_t* row(node_id n) const noexcept;

  [[nodiscard]] std::uint32_t take_fork(node_id parent, std::uint32_t up, std::uint32_t end,
                                        node_id witness) noexcept;
  void push_child(std::uint32_t f, ref r) noexcept;
  void put_second_first(std::uint32_t f) noexcept;
  void add_child(node_id parent, const place& where, node_id n) noexcept;
  [[nodiscard]] ref insert_at(node_id parent, ref group, const place& where, node_id n,
                              leading_hashes& tokens) noexcept;
  void link_in_place(ref from, ref to) noexcept;
  void put_in_place(std::uint32_t up, ref from, ref to) noexcept;
  [[nodiscard]] bool know_younger(std::uint32_t f, node_id old, node_id young) noexcept;
  void know_instead(std::uint32_t f, node_id gone, node_id w) noexcept;
  void file_edge(node_id parent, std::uint32_t f, ref r) noexcept;
  void add_entries(ref r, std::uint32_t up, entries& to) const noexcept;
  template <typename Hash>
  void refile(entries& before, const entries& after, Hash&& hash_of) noexcept;
  [[nodiscard]] change dissolve(node_id parent, std::uint32_t f) noexcept;

  radix_tree& tree_;
  stable_array<fork> forks_;
  std::uint32_t limit_ = 0;  // of nodes, and of forks
  std::uint32_t fresh_ = 0;
  std::uint32_t free_ = none;
  std::uint32_t in_use_ = 0;
  id_table table_;
  // Where the writer's last search ended, in this change.
  struct search {
    node_id parent = none;
    ref group = none;
    leading_hashes tokens;
    place to{};
  };
  mutable search last_;
};

}  // namespace radixkv::detail
