// One node of the index: a cache line.
#pragma once

#include <cstdint>

#include "csrc/core/relaxed.h"
#include "csrc/core/tree_pin.h"

namespace radixkv::detail {

// A run of whole blocks on a path from a root (the last block of a leaf may be partial). Readers
// look at it without a lock: `changes` guards the run and the node's identity, `child_changes` the
// set of children. Both only ever grow, also when the node is given back and taken again.
struct alignas(64) tree_node {
  static constexpr std::uint32_t inline_blocks = 3;

  version changes;
  relaxed<std::uint32_t> parent;       // no_node for a root or a node that is not in use
  relaxed<std::uint32_t> first_block;  // depth of the run's first block
  relaxed<std::uint32_t> tokens;       // length of the run; 0 for a root
  // Up to inline_blocks: the block ids. More: {arena offset of the first id, chunk, first id}.
  relaxed<std::uint32_t> list[inline_blocks];
  relaxed<std::uint32_t> child;     // the children's ids, xor-ed: the only child if there is one
  relaxed<std::uint32_t> children;  // how many
  version child_changes;
  // Links among the children of a fork of siblings (sibling_trie.h).
  relaxed<std::uint32_t> previous;
  relaxed<std::uint32_t> next;
  // With children: hash of the path to the end of the run, from which their jump keys derive
  // (radix_tree.h). Without: what the tables know the node by (radix_tree::table_hashes).
  mutable relaxed<std::uint64_t> path_hash;
  // For the writer only: of sequences whose path ends in the run.
  node_pins pins;
};
static_assert(sizeof(tree_node) == 64);

}  // namespace radixkv::detail
