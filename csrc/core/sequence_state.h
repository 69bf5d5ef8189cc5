// What a sequence knows: its block table and which part of it is the index's, which its own.
//
// 1. table[0 … path_blocks) are blocks of the pinned path, or the sequence's own duplicates of them
//    (listed in `duplicates`, held directly); the index keeps the path alive through the pin.
// 2. table[path_blocks …) are held directly. The last one may be borrowed: matched, not
//    allocated, to be copied before anything is written to it.
// 3. committed ≤ filled ≤ tokens ≤ writable ≤ table.size() × block_tokens.
// 4. Blocks of positions [filled, writable) are held by no other sequence.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "csrc/core/radix_tree.h"
#include "csrc/core/sequence_hints.h"
#include "csrc/core/unset_vector.h"
#include "radixkv/types.h"

namespace radixkv::detail {

class cache_core;

struct sequence_state {
  std::shared_ptr<cache_core> core;
  std::uint64_t id = 0;
  // Links of the cache's list of open sequences.
  sequence_state* previous = nullptr;
  sequence_state* next = nullptr;

  unset_vector<block_id> table;
  std::int64_t tokens = 0;
  std::int64_t filled = 0;
  std::int64_t writable = 0;
  std::int64_t committed = 0;
  std::int64_t cached = 0;   // served by open
  std::int64_t matched = 0;  // found by open

  node_id root = no_node;        // of its namespace
  tree_pin pin;                  // on a root when nothing matched
  std::int64_t path_blocks = 0;  // whole blocks of the pinned path
  std::vector<block_id> duplicates;
  sibling_trie::trail siblings;  // of the prompt, to publish from
  bool borrowed_tail = false;
  bool grows_leaf = false;  // the pinned leaf is of this sequence's making
  // A plan that fills its blocks could not be run, as far as was known when there had been so many
  // reports (failed_blocks.h).
  bool failed = false;
  std::uint64_t reports_known = 0;

  logits_slot slot = no_slot;  // pinned row
  std::uint64_t request = 0;
  double opened_at = 0;
  std::int64_t prompt_tokens = 0;
  std::int64_t output_tokens = 0;
  std::uint64_t path_seed = 0;             // of its namespace
  std::vector<std::uint64_t> path_hashes;  // of the prompt, or further, for the policy
  std::unique_ptr<sequence_hints> hints;   // null: none
};

}  // namespace radixkv::detail
