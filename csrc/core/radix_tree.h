// The prefix index: maps a token prefix, below a root, to a run of block ids.
//
// A compressed radix tree whose nodes are runs of whole blocks; only a leaf's last block may be
// partial. Matching is token-granular: prompts that part inside a block have sibling nodes whose
// first blocks repeat the shared leading tokens, and the sibling with the longest common prefix is
// found in a trie over them (sibling_trie.h). The tokens of a block lie in one row beside the pool,
// written once by the sequence that owns the block, so inserting, splitting and trimming copy no
// token.
//
// 1. A node's run starts at a block boundary; it holds ⌈tokens / block_tokens⌉ blocks, at least one
//    unless it is a root. Only a leaf's run may end inside a block.
// 2. A block belongs to at most one node.
// 3. Siblings differ in the tokens of their first blocks, and none of these is a prefix of
// another's.
// 4. On a split the old id stays with the lower node: children and recency stay valid.
// 5. What is pinned is never trimmed: of the node that it ends in the blocks up to there, and so
//    every ancestor. Pins are those of the node that they end in, also when it is split.
//
// Finding a child: the only child needs no look-up; else a table maps (parent, first token) to the
// group of siblings. In bushy regions a second table maps hashes of paths to nodes (path_hash.h),
// so that a reader can fetch nodes far ahead; what it fetched is verified by parent and tokens. A
// node is in that table if a window of blocks ends in its run (partial blocks aside), by the path
// up to the first such end, or, of a path's first run, up to its first block. Nodes between two
// ends are parents of one that is; those behind a path's last end are not in it. So a path's
// windows take a slot each, on another page of memory each, and not its blocks.
//
// Thread-safety: one writer at a time (the cache's lock). match() may run in any thread meanwhile.
#pragma once

#include <array>
#include <atomic>
#include <cassert>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "csrc/core/block_lists.h"
#include "csrc/core/id_table.h"
#include "csrc/core/path_hash.h"
#include "csrc/core/room_bounds.h"
#include "csrc/core/sibling_trie.h"
#include "csrc/core/stable_array.h"
#include "csrc/core/step_count.h"
#include "csrc/core/tree_node.h"
#include "csrc/core/tree_results.h"
#include "radixkv/eviction_policy.h"
#include "radixkv/types.h"

namespace radixkv::detail {

class match_cursor;

class radix_tree final : public tree_view {
 public:
  struct options {
    std::int64_t blocks = 0;
    std::uint32_t block_tokens = 16;
    std::int64_t max_roots = 1;
    std::uint32_t hash_bits = 64;
    bool prefault = false;  // take the memory of all rows and their ids now
  };
  // Told of every structural change, under the lock. Set before the first change.
  void observe(eviction_policy* policy) noexcept { policy_ = policy; }

  // False if the system refuses memory.
  [[nodiscard]] bool create(const options& o);

  // The tokens of block b; a sequence that holds b alone may write them.
  [[nodiscard]] std::uint32_t* row(block_id b) noexcept {
    return rows_.data() + (static_cast<std::size_t>(b) << block_shift_);
  }
  [[nodiscard]] const std::uint32_t* row(block_id b) const noexcept {
    return rows_.data() + (static_cast<std::size_t>(b) << block_shift_);
  }

  // A new root; no_node if memory is refused.
  [[nodiscard]] node_id add_root();
  // REQUIRES: no children, no pins.
  void remove_root(node_id root);
  [[nodiscard]] tree_root root_handle(node_id root) const noexcept;

  // The longest cached prefix; whole blocks' ids go to `table` as far as it reaches. False if a
  // writer came in the way (or the root went): try again. Takes no lock, allocates nothing.
  [[nodiscard]] bool match(tree_root root, std::span<const token_id> tokens,
                           std::span<block_id> table, tree_match& out) const;
  // Several at once, their cache misses overlapping. ok[i] tells whether out[i] counts.
  void match_batch(std::span<const tree_root> roots,
                   std::span<const std::span<const token_id>> tokens,
                   std::span<const std::span<block_id>> tables, std::span<tree_match> out,
                   std::span<bool> ok) const;
  // True if what a match found is still as it was. REQUIRES: the lock.
  [[nodiscard]] bool still(const tree_match& m) const noexcept {
    return nodes_[m.deepest].changes.read_valid(m.version);
  }
  // How often a leaf came into the tree: with the same number before a match and now there is
  // nothing that the match could have missed.
  [[nodiscard]] std::uint32_t leaves_added() const noexcept {
    return leaves_added_.load(std::memory_order_acquire);
  }
  // True if what a match found goes on now, by a leaf that came after it. REQUIRES: the lock, and
  // that the match still holds.
  [[nodiscard]] bool goes_on(const tree_match& m, std::span<const token_id> tokens) const noexcept;

  // Keeps the place and all above it. REQUIRES: p is not laid.
  void pin(tree_pin& p, tree_place at) noexcept;
  // Returns the node that it ended in, if less of that is pinned now, or no_node. REQUIRES: p is
  // laid.
  node_id unpin(tree_pin& p) noexcept;
  // Keeps another place instead. Returns the node that p ended in, and whether less of it is pinned
  // now.
  struct moved_pin {
    node_id from;
    bool less;
  };
  moved_pin repin(tree_pin& p, tree_place at) noexcept;
  // Where p ends. REQUIRES: p is laid.
  [[nodiscard]] tree_place place_of(const tree_pin& p) const noexcept {
    const node_id n = p.end();
    return {n, is_root(n) ? 0 : p.depth - nodes_[n].first_block};
  }
  // Where `depth` whole blocks end on the path to a node.
  [[nodiscard]] tree_place locate(node_id below, std::uint64_t depth) const noexcept;

  // Publishes `tokens` tokens held in `mine` (their rows are written) below `at`. `grow`: `at.node`
  // is a leaf of the caller's own making and may be lengthened instead of getting a child. `trail`:
  // of a match of these tokens, of whatever age.
  [[nodiscard]] tree_publication publish(tree_place at, std::span<const block_id> mine,
                                         std::uint64_t tokens, bool grow,
                                         const sibling_trie::trail& trail = {});
  // Makes the place the end of a node by a split if needed. False if memory is refused.
  [[nodiscard]] bool split_after(node_id n, std::uint32_t blocks);

  // Does what the last changes left for when its memory is at hand. To be called when the lock is
  // given up, so that nobody's call takes longer for what another's did; else the next change does.
  void settle() noexcept {
    if (coming_ > 0) settle_jumps();
  }

  // The child of `up` whose first block is b, which holds `tokens` tokens; no_node if there is
  // none, or if siblings share these tokens and b's node is not the one that stands for them.
  [[nodiscard]] node_id child_with(node_id up, block_id b, std::uint32_t tokens) const noexcept {
    const found_child c = find_child(up, row(b), tokens);
    return c.node != no_node && block(c.node, 0) == b ? c.node : no_node;
  }

  // Ids of the last n blocks of a node, valid until the next change.
  [[nodiscard]] std::span<const block_id> tail(node_id n, std::uint32_t count) const noexcept {
    const tree_node& x = nodes_[n];
    assert(count <= blocks_of(x.tokens));
    return {reinterpret_cast<const block_id*>(ids(x)) + blocks_of(x.tokens) - count, count};
  }
  // A leaf that is to go after about leaving_distance others, or no_node: fetches what removing it
  // and those named before will take. Gives the first block of one of them, of which others may
  // fetch what they keep, or no_block.
  static constexpr std::uint32_t leaving_distance = 24;
  block_id look_ahead(node_id leaf) noexcept;
  // Gives up the last `count` blocks of a leaf; all of them: removes it. Gives the root that has no
  // children any more, or no_node. REQUIRES: not pinned.
  node_id trim(node_id n, std::uint32_t count, bool evicted);

  // tree_view
  [[nodiscard]] std::uint32_t block_tokens() const noexcept override { return 1u << block_shift_; }
  [[nodiscard]] node_id parent(node_id n) const noexcept override { return nodes_[n].parent; }
  [[nodiscard]] std::uint32_t first_block(node_id n) const noexcept override {
    return nodes_[n].first_block;
  }
  [[nodiscard]] std::uint32_t blocks(node_id n) const noexcept override {
    return blocks_of(nodes_[n].tokens);
  }
  [[nodiscard]] std::uint32_t children(node_id n) const noexcept override {
    return nodes_[n].children;
  }
  [[nodiscard]] std::uint32_t pinned_blocks(node_id n) const noexcept override {
    const tree_node& x = nodes_[n];
    const std::uint32_t depth = x.pins.depth();
    return depth > x.first_block ? depth - x.first_block : 0;
  }
  [[nodiscard]] bool is_root(node_id n) const noexcept override {
    return nodes_[n].parent == no_node;
  }
  [[nodiscard]] std::uint32_t evictable_blocks(node_id n) const noexcept override {
    const tree_node& x = nodes_[n];
    if (x.parent == no_node || x.children != 0) return 0;
    const std::uint32_t all = blocks_of(x.tokens);
    const std::uint32_t pinned = radix_tree::pinned_blocks(n);
    return all > pinned ? all - pinned : 0;
  }

  [[nodiscard]] const node_pins& pins(node_id n) const noexcept { return nodes_[n].pins; }
  // How deep the pins of n reach, in blocks of its path; 0 without.
  [[nodiscard]] std::int64_t pinned_depth(node_id n) const noexcept;
  // Blocks of pinned paths, those of each pinned node's path counted apart: no less than are
  // pinned.
  [[nodiscard]] const running_total& pinned_depths() const noexcept { return pinned_depths_; }
  // Blocks of leaves that no pin keeps.
  [[nodiscard]] std::int64_t evictable_in_leaves() const noexcept { return evictable_in_leaves_; }
  [[nodiscard]] std::uint32_t tokens(node_id n) const noexcept { return nodes_[n].tokens; }
  [[nodiscard]] block_id block(node_id n, std::uint32_t i) const noexcept {
    return static_cast<block_id>(load_word(ids(nodes_[n]) + i));
  }
  [[nodiscard]] node_id root_of(node_id n) const noexcept;

  [[nodiscard]] std::int64_t nodes() const noexcept { return node_count_; }
  [[nodiscard]] std::int64_t leaves() const noexcept { return leaf_count_; }
  [[nodiscard]] std::int64_t cached_tokens() const noexcept { return token_count_; }
  // Ids of nodes in use, any order. O(nodes). For dumps and checks.
  [[nodiscard]] std::vector<node_id> all_nodes() const;
  // Ids are below the limit; not all are in use.
  [[nodiscard]] node_id node_limit() const noexcept { return fresh_node_; }
  [[nodiscard]] bool in_use(node_id n) const noexcept { return nodes_[n].first_block != free_mark; }
  // Host bytes that grow with what is cached, rows and block ids included.
  [[nodiscard]] std::size_t bytes(std::int64_t blocks_ever_used) const noexcept;
  // Empty if the invariants hold; O(tokens).
  [[nodiscard]] std::string check() const;

 private:
  friend class match_cursor;
  friend class hop_scout;
  friend class path_scout;
  friend class sibling_trie;

  using found_child = sibling_trie::found;

  [[nodiscard]] std::uint32_t blocks_of(std::uint32_t tokens) const noexcept {
    return (tokens + (1u << block_shift_) - 1) >> block_shift_;
  }
  [[nodiscard]] const std::uint32_t* ids(const tree_node& x) const noexcept {
    static_assert(sizeof(relaxed<std::uint32_t>) == sizeof(std::uint32_t));
    if (x.tokens <= tree_node::inline_blocks << block_shift_) {
      return reinterpret_cast<const std::uint32_t*>(x.list);
    }
    return lists_.at(x.list[0]);
  }
  [[nodiscard]] std::uint32_t first_block_tokens(const tree_node& x) const noexcept {
    const std::uint32_t t = x.tokens;
    const std::uint32_t b = 1u << block_shift_;
    return t < b ? t : b;
  }
  [[nodiscard]] std::uint32_t first_id(const tree_node& x) const noexcept {
    return x.tokens <= (tree_node::inline_blocks << block_shift_) ? x.list[0] : x.list[2];
  }
  [[nodiscard]] const std::uint32_t* first_row(const tree_node& x) const noexcept {
    return row(static_cast<block_id>(first_id(x)));
  }

  static constexpr std::uint32_t free_mark = 0xffffffffu;  // first_block of a node not in use

  [[nodiscard]] node_id take_node();
  void give_node(node_id n) noexcept;
  // Room for two nodes and what the tables need for them. False if memory is refused.
  [[nodiscard]] bool reserve_for_change();
  [[nodiscard]] node_id make_leaf(node_id parent, std::uint32_t first_block,
                                  std::span<const block_id> ids, std::uint32_t tokens);
  void attach_leaf(node_id n);
  node_id split(node_id n, std::uint32_t count);
  void fetch_for_split(node_id n, std::uint32_t count) const noexcept;
  void lengthen_tail(node_id n, block_id own, std::uint32_t tokens);
  // REQUIRES: p ends in n.
  void take_pin(node_id n, tree_pin& p) noexcept {
    recount(n, [&] { nodes_[n].pins.remove(p); });
  }

  // Changes n, which may be pinned and a leaf, and counts anew what can be evicted.
  template <typename Change>
  void recount(node_id n, Change&& change) noexcept {
    const std::int64_t pinned = pinned_depth(n);
    const std::uint32_t evictable = evictable_blocks(n);
    change();
    pinned_depths_.change(pinned, pinned_depth(n));
    evictable_in_leaves_ += std::int64_t{evictable_blocks(n)} - evictable;
  }

  // tree_children.cpp
  [[nodiscard]] found_child find_child(node_id parent, const std::uint32_t* tokens, std::uint32_t n,
                                       const sibling_trie::trail& trail = {}) const noexcept;
  // The child that begins with `first`, of a prompt that goes on there with `whole` whole blocks;
  // no_node if the jump table leads to none, which does not mean that there is none.
  [[nodiscard]] node_id sibling_on_path(node_id parent, leading_hashes& first,
                                        std::uint64_t whole) const noexcept;
  void link_child(node_id parent, node_id child);
  void add_to_group(node_id parent, node_id child);
  void replace_sibling(node_id parent, node_id from, node_id to) noexcept;
  [[nodiscard]] sibling_trie::ref group_of(node_id parent, std::uint32_t first) const noexcept;
  [[nodiscard]] bool is_group(sibling_trie::ref group, node_id parent,
                              std::uint32_t first) const noexcept;
  // Whether no sibling of a child begins with the same token.
  [[nodiscard]] static bool is_alone(const tree_node& child) noexcept {
    return child.previous == no_node;
  }

  // tree_leaf.cpp: what the tables know a leaf by lies in the leaf, so that neither a split nor its
  // end has to read a row for it. 0: not known, to be computed from the row.
  struct table_hashes {
    std::uint32_t jump = 0;
    std::uint32_t child = 0;  // in the child table if it is alone, else in that of siblings, if any
  };
  [[nodiscard]] static table_hashes known_hashes(const tree_node& leaf) noexcept {
    const std::uint64_t both = leaf.path_hash;
    return {static_cast<std::uint32_t>(both >> 32), static_cast<std::uint32_t>(both)};
  }
  // What the child table knows x by. REQUIRES: it is alone.
  [[nodiscard]] std::uint32_t child_hash_of(const tree_node& x) const noexcept {
    const std::uint32_t known = x.children == 0 ? known_hashes(x).child : 0;
    return known != 0 ? known : hasher_.child_hash(x.parent, load_word(first_row(x)));
  }
  static void know_hashes(const tree_node& leaf, table_hashes h) noexcept {
    leaf.path_hash = std::uint64_t{h.jump} << 32 | h.child;
  }
  // With `jump`, that to the jump table, too, if it is not known.
  [[nodiscard]] table_hashes hashes_of(node_id n, bool jump = true) const noexcept;
  void register_leaf(node_id n) noexcept;
  void unregister_jump(node_id n) noexcept;
  void register_jump(std::uint32_t hash, node_id n) noexcept;
  void settle_jumps() noexcept;
  std::uint32_t unregister_leaf(node_id n, node_id parent) noexcept;
  void remove_sibling(node_id parent, node_id child) noexcept;

  // Blocks of a run from block `first` of a path on before the one that the jump table knows its
  // node by: the end of a window; of a path's first run the first block, where most prompts part.
  [[nodiscard]] static constexpr std::uint32_t before_jump(std::uint32_t first) noexcept {
    return first == 0 ? 0 : path_hasher::left_of_window(first);
  }
  // Whether the jump table knows x.
  [[nodiscard]] bool has_jump(const tree_node& x) const noexcept {
    return x.tokens >> block_shift_ > before_jump(x.first_block);
  }
  // The hash `path` continued by the blocks of a run from block `first` on up to the one that the
  // jump table knows its node by.
  [[nodiscard]] std::uint64_t jump_path(std::uint64_t path, const std::uint32_t* ids,
                                        std::uint32_t first) const noexcept {
    for (std::uint32_t i = 0; i <= before_jump(first); ++i) {
      path = path_with(path, load_word(ids + i), first + i);
    }
    return path;
  }
  // What the jump table knows x by. REQUIRES: it does.
  [[nodiscard]] std::uint32_t jump_hash_of(const tree_node& x) const noexcept {
    return hasher_.jump_hash(jump_path(nodes_[x.parent].path_hash, ids(x), x.first_block));
  }
  [[nodiscard]] std::uint64_t end_path(node_id n) const noexcept;
  // The hash `path` continued by whole block `id` at depth `index`.
  [[nodiscard]] std::uint64_t path_with(std::uint64_t path, std::uint32_t id,
                                        std::uint32_t index) const noexcept {
    count_hashed(std::uint64_t{1} << block_shift_);
    const std::uint64_t digest =
        hasher_.digest(row(static_cast<block_id>(id)), std::size_t{1} << block_shift_);
    return path + hasher_.block_part(digest, index);
  }
  // Blocks of a run that are hashed to continue the path's hash to its end; 0 for runs that start a
  // new one there. It bounds what has to be hashed when a node gets its first child.
  [[nodiscard]] static std::uint32_t hashed_blocks(std::uint32_t run) noexcept {
    constexpr std::uint32_t longest = 8;
    return run <= longest ? run : 0;
  }

  // tree_runs.cpp: the block ids of a node.
  bool set_run(node_id n, std::span<const block_id> ids, std::uint32_t tokens);
  bool append_run(node_id n, std::span<const block_id> more, std::uint32_t tokens);
  void shorten_run(node_id n, std::uint32_t count) noexcept;
  void drop_run(node_id n) noexcept;
  void compact(node_id lowest, block_lists::chunk c);

  // tree_leaving.cpp: the leaves named last.
  struct leaving_nodes {
    static constexpr std::uint32_t ring = 32;
    struct entry {
      node_id node = no_node;
      bool known = false;   // the hashes below are all that there are
      table_hashes hashes;  // whose slots were fetched
    };
    std::array<entry, ring> entries;
    std::uint32_t last = 0;
  };
  void fetch_last_link(const leaving_nodes::entry& e) const noexcept;
  [[nodiscard]] block_id fetch_middle_link(leaving_nodes::entry& e) const noexcept;

  std::uint32_t block_shift_ = 4;
  stable_array<std::uint32_t> rows_;
  stable_array<tree_node> nodes_;
  std::uint32_t max_nodes_ = 0;
  std::uint32_t block_limit_ = 0;  // ids below it have a row
  std::uint32_t fresh_node_ = 0;
  node_id free_node_ = no_node;  // linked through `next`
  block_lists lists_;
  id_table child_table_;
  sibling_trie siblings_{*this};
  id_table jump_table_;
  // Nodes that are still to come into the jump table (settle): readers find nothing there that they
  // do not find without it.
  struct coming_jump {
    std::uint32_t hash;
    node_id node;
  };
  std::array<coming_jump, 2> coming_jumps_{};  // as many as one change makes
  std::uint32_t coming_ = 0;
  path_hasher hasher_;
  eviction_policy* policy_ = nullptr;
  // What readers do not look at while they match is on cache lines of its own.
  alignas(64) std::int64_t node_count_ = 0;
  std::int64_t leaf_count_ = 0;
  std::atomic<std::uint32_t> leaves_added_{0};  // counted when the leaf is there
  std::int64_t token_count_ = 0;
  running_total pinned_depths_;
  std::int64_t evictable_in_leaves_ = 0;
  std::uint64_t pin_secret_ = 0;
  std::uint64_t pins_laid_ = 0;  // ever
  leaving_nodes leaving_;
};

}  // namespace radixkv::detail
