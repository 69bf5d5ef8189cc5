// Places in the index, and what matching and publishing find out.
#pragma once

#include <cstdint>

#include "csrc/core/sibling_trie.h"
#include "radixkv/eviction_policy.h"
#include "radixkv/types.h"

namespace radixkv::detail {

// A place on a path: the first `blocks` whole blocks of `node`'s run (0 only at a root).
struct tree_place {
  node_id node = no_node;
  std::uint32_t blocks = 0;
};

// A root as its namespace knows it: valid while the node's version is the one that was seen.
struct tree_root {
  node_id node = no_node;
  std::uint32_t version = 0;
};

struct tree_match {
  std::uint64_t tokens = 0;   // matched, remainder inside a block included
  std::uint64_t blocks = 0;   // whole blocks matched
  tree_place place;           // where the whole blocks end
  node_id deepest = no_node;  // node whose version validates the match
  std::uint32_t version = 0;
  block_id partial_block = no_block;  // block that holds the remainder
  sibling_trie::trail siblings;       // for the publication that may follow
};

struct tree_publication {
  bool ok = false;                // false: out of memory, nothing was changed
  std::uint32_t first_taken = 0;  // blocks before it were there already (or their tokens were)
  std::uint32_t processed = 0;    // == the blocks that hold the published tokens
  block_id replaced = no_block;   // partial block that a longer one took the place of
  tree_place place;               // where the whole blocks end
  node_id end = no_node;          // node that holds the last published token
  std::uint32_t end_blocks = 0;   // blocks of `end` up to that token
};

}  // namespace radixkv::detail
