// Looks ahead of a match in a bushy tree: which nodes will the prompt go through?
//
// Going from node to node costs a cache miss a hop, each waiting for the one before. The hash of
// the path up to a block, on the other hand, follows from the prompt alone, so the nodes that start
// at the next blocks are found in the jump table and fetched while earlier ones are compared. What
// the scout names is a guess: the cursor checks parent, depth and tokens of it like those of any
// candidate.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "csrc/core/radix_tree.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

class path_scout {
 public:
  // What it reads of the tree; taken anew for every turn of a cursor.
  struct view {
    explicit view(const radix_tree& tree) noexcept
        : hasher(tree.hasher_),
          jumps(tree.jump_table_.read()),
          nodes(tree.nodes_.data()),
          rows(tree.row(0)),
          max_nodes(tree.max_nodes_),
          inline_tokens(tree_node::inline_blocks << tree.block_shift_) {}
    const path_hasher& hasher;
    id_table::reader jumps;
    const tree_node* nodes;
    const std::uint32_t* rows;
    std::uint32_t max_nodes;
    std::uint32_t inline_tokens;
  };

  // Starts anew: the prompt's first `block` blocks have the path hash `path`.
  void restart(std::uint64_t path, std::uint64_t block) noexcept {
    // What a path that makes it start again and again looks at in vain is bounded: at first it
    // looks as far as it needs to name one node.
    ahead_ = started_ ? group + 1 : blocks_ahead;
    started_ = true;
    path_ = path;
    next_ = block;
    first_ = block;
    named_ = 0;
  }

  // The path went through a run at whose end hashes start anew: what it knows leads nowhere.
  void lose() noexcept {
    next_ = 0;
    named_ = 0;
  }

  // The node that probably starts at `block` (≥ the one last asked for), or no_node. Fetches what
  // the following blocks will need. `whole` is the number of the prompt's whole blocks, 2^shift
  // tokens each.
  [[nodiscard]] node_id at(const view& v, const token_id* tokens, std::uint32_t shift,
                           std::uint64_t whole, std::uint64_t block) noexcept {
    if (block < named_) [[likely]]
      return node_[(block - first_) % ring];
    return go_on(v, tokens, shift, whole, block);
  }

 private:
  // Blocks that take a step together. Where the address of what is fetched has to be translated,
  // too, the processor goes on with few instructions until that is done: fetches of a kind follow
  // one another closely, so that they wait together. Eight took 10 to 15 % less than one or four,
  // sixteen as long as eight; all kinds at once are more than can be on the way.
  static constexpr std::uint64_t group = 8;
  static_assert(group == path_hasher::group && group == id_table::reader::group);
  static constexpr std::uint64_t blocks_ahead = 3 * group;  // a group for each thing to fetch
  static constexpr std::uint64_t ring = blocks_ahead + group;
  static constexpr std::uint64_t tokens_ahead = 8;  // of the prompt, beyond what is hashed

  // Out of line, or what it keeps in registers is saved for each block.
  [[nodiscard, gnu::noinline]] node_id go_on(const view& v, const token_id* tokens,
                                             std::uint32_t shift, std::uint64_t whole,
                                             std::uint64_t block) noexcept {
    if (block > next_ || block >= whole) return no_node;  // the cursor has overtaken: restart
    while (next_ < block + ahead_) step(v, tokens, shift, whole);
    // It looks a block further ahead with each that it names.
    const std::uint64_t spare = next_ - block - ahead_;
    const std::uint64_t named = (ahead_ < blocks_ahead ? spare / 2 : spare) + 1;
    ahead_ = std::min(blocks_ahead, ahead_ + named);
    named_ = std::min(whole, block + named);
    return node_[(block - first_) % ring];
  }

  // A group further: fetches the slots of its blocks, reads those of the group before and fetches
  // its nodes, and reads those of the one before that and fetches their tokens.
  void step(const view& v, const token_id* tokens, std::uint32_t shift,
            std::uint64_t whole) noexcept {
    const std::uint64_t begin = next_;
    next_ += group;
    const auto whole_from = [&](std::uint64_t block) {
      return block < whole ? std::min(group, whole - block) : 0;
    };
    const std::uint64_t n = whole_from(begin);
    for (std::uint64_t i = 0; i < whole_from(begin + tokens_ahead); ++i) {
      prefetch(tokens + ((begin + tokens_ahead + i) << shift));
    }
    std::uint32_t* const hash = hash_.data() + (begin - first_) % ring;
    count_hashed(n << shift);
    path_ = v.hasher.extend(path_, tokens + (begin << shift), std::size_t{1} << shift, begin,
                            {hash, n});
    for (std::uint64_t i = 0; i < n; ++i) v.jumps.prefetch_slot(hash[i]);

    if (begin < first_ + group) return;
    const std::uint64_t before = begin - group;
    node_id* const node = node_.data() + (before - first_) % ring;
    const std::uint64_t nodes = whole_from(before);
    v.jumps.first_of({hash_.data() + (before - first_) % ring, nodes}, node);
    for (std::uint64_t i = 0; i < nodes; ++i) {
      if (node[i] < v.max_nodes) {
        prefetch(v.nodes + node[i]);
      } else {
        node[i] = no_node;
      }
    }

    if (before < first_ + group) return;
    const node_id* const fetched = node_.data() + (before - group - first_) % ring;
    for (std::uint64_t i = 0; i < whole_from(before - group); ++i) {
      if (fetched[i] == no_node) continue;
      const tree_node& x = v.nodes[fetched[i]];
      const std::uint32_t id = x.tokens <= v.inline_tokens ? x.list[0].load() : x.list[2].load();
      prefetch(v.rows + (std::size_t{id} << shift));
    }
  }

  std::uint64_t named_ = 0;  // blocks before it, from the one last asked for on, are named
  std::uint64_t ahead_ = blocks_ahead;
  bool started_ = false;
  std::uint64_t path_ = 0;
  std::uint64_t next_ = 0;   // blocks whose path hash is known
  std::uint64_t first_ = 0;  // where it started
  std::array<std::uint32_t, ring> hash_{};
  std::array<node_id, ring> node_{};
};

}  // namespace radixkv::detail
