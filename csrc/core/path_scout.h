// Looks ahead of a match in a bushy tree: which nodes will the prompt go through?
//
// Going from node to node costs a cache miss a hop, each waiting for the one before. The hash of
// the path up to a block, on the other hand, follows from the prompt alone, so the nodes where a
// window of blocks ends (path_hash.h) are found in the jump table, those before them as their
// parents, and all are fetched while earlier ones are compared. What the scout names is a guess:
// the cursor checks parent, depth and tokens of it like those of any candidate.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "csrc/core/radix_tree.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

class path_scout {
 public:
  // What it reads of the tree, and the prompt; taken anew for every turn of a cursor.
  struct view {
    // `whole`: the prompt's whole blocks.
    view(const radix_tree& tree, const token_id* prompt, std::uint64_t whole) noexcept
        : hasher(tree.hasher_),
          jumps(tree.jump_table_.read()),
          nodes(tree.nodes_.data()),
          rows(tree.row(0)),
          max_nodes(tree.max_nodes_),
          inline_tokens(tree_node::inline_blocks << tree.block_shift_),
          shift(tree.block_shift_),
          tokens(prompt),
          end(whole) {}
    const path_hasher& hasher;
    id_table::reader jumps;
    const tree_node* nodes;
    const std::uint32_t* rows;
    std::uint32_t max_nodes;
    std::uint32_t inline_tokens;
    std::uint32_t shift;
    const token_id* tokens;
    std::uint64_t end;
  };

  // Starts anew: the prompt's first `block` blocks have the path hash `path`. False if it did so in
  // the same window before: what its end did not lead to then it does not lead to now.
  [[nodiscard]] bool restart(std::uint64_t path, std::uint64_t block) noexcept {
    if (started_ && block / window == started_in_) return false;
    started_in_ = block / window;
    // What a path that makes it start again and again looks at in vain is bounded: at first it
    // looks as far as it needs to name one node.
    ahead_ = started_ ? group + 1 : far;
    started_ = true;
    path_ = path;
    next_ = block;
    done_.fill(block / group);
    named_ = 0;
    return true;
  }

  // The path went through a run at whose end hashes start anew: what it knows leads nowhere.
  void lose() noexcept {
    next_ = 0;
    named_ = 0;
  }

  // Whether it can name a node that starts at `block`, of a prompt of `whole` whole blocks: not
  // behind the last window that ends in the prompt.
  [[nodiscard]] static bool reaches(std::uint64_t block, std::uint64_t whole) noexcept {
    return block + path_hasher::left_of_window(block) < whole;
  }

  // The node that probably starts at `block` (≥ the one last asked for), or no_node. Fetches what
  // the following blocks will need.
  [[nodiscard]] node_id at(const view& v, std::uint64_t block) noexcept {
    if (block < named_) [[likely]]
      return node_[block % ring];
    return go_on(v, block);
  }

 private:
  // Blocks that take a step together. Where the address of what is fetched has to be translated,
  // too, the processor goes on with few instructions until that is done: fetches of a kind follow
  // one another closely, so that they wait together. With a slot for each block eight took 10 to
  // 15 % less than one or four, sixteen as long as eight; all kinds at once are more than can be on
  // the way.
  static constexpr std::uint64_t group = path_hasher::group;
  static constexpr std::uint64_t window = path_hasher::window;
  static_assert(group / window == id_table::reader::group);
  // Stages that follow hashing: looking up where windows end, then reading a node of each window,
  // the last one first.
  static constexpr std::size_t stages = 1 + window;
  static constexpr std::uint64_t far = (1 + stages) * group;  // blocks ahead: a group for each
  static constexpr std::uint64_t ring = std::bit_ceil(far + 2 * group);
  static constexpr std::uint64_t groups = ring / group;
  struct path_group {
    path_hasher::group_hashes hashes;
    std::size_t first;  // window whose end's hash is known
    std::size_t end;
    std::array<node_id, group / window> nodes;  // by window: the one to read next
  };

  // Out of line, or what it keeps in registers is saved for each block.
  [[nodiscard, gnu::noinline]] node_id go_on(const view& v, std::uint64_t block) noexcept {
    if (block > next_ || block >= v.end) return no_node;  // the cursor has overtaken: restart
    while (next_ < block + ahead_) step(v);
    // It looks a block further ahead with each that it names.
    const std::uint64_t spare = next_ - block - ahead_;
    const std::uint64_t named = (ahead_ < far ? spare / 2 : spare) + 1;
    ahead_ = std::min(far, ahead_ + named);
    // What comes first after a restart is not waited for.
    for (std::size_t s = 0; s < stages && done_.back() <= block / group; ++s) {
      while (done_[s] <= block / group) go_through(s, v);
    }
    named_ = std::min({v.end, block + named, done_.back() * group});
    return node_[block % ring];
  }

  // A group further, in all stages: fetches what the next stage of each group will read.
  void step(const view& v) noexcept {
    hash(v);
    std::uint64_t before = next_ / group;
    for (std::size_t s = 0; s < stages && before - done_[s] > 1; ++s) {
      go_through(s, v);
      before = done_[s];
    }
  }

  // The rest of the group that next_ is in.
  void hash(const view& v) noexcept {
    const std::uint64_t begin = next_;
    path_group& g = groups_[begin / group % groups];
    next_ = (begin / group + 1) * group;
    g.first = g.end = 0;
    if (begin >= v.end) return;
    // Of the next group, too.
    for (std::uint64_t b = begin + group; b < std::min(v.end, next_ + group); ++b) {
      prefetch(v.tokens + (b << v.shift));
    }
    const std::uint64_t n = std::min(v.end, next_) - begin;
    count_hashed(n << v.shift);
    path_ = v.hasher.extend(path_, v.tokens + (begin << v.shift), std::size_t{1} << v.shift, begin,
                            n, g.hashes);
    g.first = begin % group / window;
    g.end = (begin % group + n) / window;
    for (std::size_t w = g.first; w < g.end; ++w) v.jumps.prefetch_slot(g.hashes[w]);
  }

  // Takes the next group through a stage.
  void go_through(std::size_t stage, const view& v) noexcept {
    const std::uint64_t number = done_[stage]++;
    path_group& g = groups_[number % groups];
    node_id* const names = node_.data() + number * group % ring;
    if (stage == 0) {
      std::fill_n(names, group, no_node);
      look_up(v, g);
    } else {
      climb(v, number * group, g, names);
    }
  }

  static void look_up(const view& v, path_group& g) noexcept {
    g.nodes.fill(no_node);
    if (g.first == g.end) return;
    v.jumps.first_of(std::span(g.hashes).subspan(g.first, g.end - g.first),
                     g.nodes.data() + g.first);
    for (node_id& n : g.nodes) {
      if (n < v.max_nodes) {
        prefetch(v.nodes + n);
      } else {
        n = no_node;
      }
    }
  }

  // Names a node of each window of a group, which begins at block `begin`; what comes next is its
  // parent, if that is in the window, too.
  static void climb(const view& v, std::uint64_t begin, path_group& g, node_id* names) noexcept {
    for (std::size_t w = 0; w < g.nodes.size(); ++w, begin += window, names += window) {
      const node_id n = g.nodes[w];
      if (n == no_node) continue;
      g.nodes[w] = no_node;
      const tree_node& x = v.nodes[n];
      const std::uint32_t at = x.first_block - static_cast<std::uint32_t>(begin);
      if (at >= window) continue;
      names[at] = n;
      const std::uint32_t id = x.tokens <= v.inline_tokens ? x.list[0].load() : x.list[2].load();
      prefetch(v.rows + (std::size_t{id} << v.shift));
      const node_id up = x.parent;
      if (at == 0 || up >= v.max_nodes) continue;
      prefetch(v.nodes + up);
      g.nodes[w] = up;
    }
  }

  std::uint64_t named_ = 0;  // blocks before it, from the one last asked for on, are named
  std::uint64_t ahead_ = far;
  bool started_ = false;
  std::uint64_t started_in_ = 0;  // the window
  std::uint64_t path_ = 0;
  std::uint64_t next_ = 0;                    // blocks whose path hash is known
  std::array<std::uint64_t, stages> done_{};  // by stage: the first group that it has yet to see
  std::array<path_group, groups> groups_{};
  std::array<node_id, ring> node_{};
};

}  // namespace radixkv::detail
