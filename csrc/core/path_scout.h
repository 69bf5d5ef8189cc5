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

namespace radixkv::detail {

class path_scout {
 public:
  // Starts anew: the prompt's first `block` blocks have the path hash `path`.
  void restart(std::uint64_t path, std::uint64_t block) noexcept {
    path_ = path;
    hashed_ = probed_ = fetched_ = block;
  }

  // The node that probably starts at `block` (≥ the one last asked for), or no_node. Fetches what
  // the following blocks will need. `whole` is the number of the prompt's whole blocks.
  [[nodiscard]] node_id at(const radix_tree& tree, const token_id* tokens, std::uint64_t whole,
                           std::uint64_t block) noexcept {
    if (block > hashed_) return no_node;  // the cursor has overtaken: restart
    const std::uint32_t shift = tree.block_shift_;
    for (; hashed_ < std::min(block + slots_ahead, whole); ++hashed_) {
      const std::uint64_t digest =
          tree.hasher_.digest(tokens + (hashed_ << shift), std::size_t{1} << shift);
      path_ += tree.hasher_.block_part(digest, hashed_);
      const std::uint32_t hash = tree.hasher_.jump_hash(path_);
      tree.jump_table_.prefetch_slot(hash);
      hash_[hashed_ % ring] = hash;
    }
    for (; probed_ < std::min(block + nodes_ahead, hashed_); ++probed_) {
      node_id n = tree.jump_table_.first(hash_[probed_ % ring]);
      if (n >= tree.max_nodes_) n = no_node;
      if (n != no_node) prefetch(&tree.nodes_[n]);
      node_[probed_ % ring] = n;
    }
    for (; fetched_ < std::min(block + rows_ahead, probed_); ++fetched_) {
      const node_id n = node_[fetched_ % ring];
      if (n == no_node) continue;
      prefetch(tree.first_row(tree.nodes_[n]));
    }
    return block < probed_ ? node_[block % ring] : no_node;
  }

 private:
  static constexpr std::uint64_t ring = 32;
  static constexpr std::uint64_t slots_ahead = 16;
  static constexpr std::uint64_t nodes_ahead = 11;
  static constexpr std::uint64_t rows_ahead = 6;

  std::uint64_t path_ = 0;
  std::uint64_t hashed_ = 0;   // blocks whose path hash is known
  std::uint64_t probed_ = 0;   // … whose slot was read
  std::uint64_t fetched_ = 0;  // … whose first row is on its way
  std::array<std::uint32_t, ring> hash_{};
  std::array<node_id, ring> node_{};
};

}  // namespace radixkv::detail
