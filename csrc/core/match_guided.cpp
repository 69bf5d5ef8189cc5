// Matching in bushy regions, where nodes are short: along the nodes that the scout names.
#include "csrc/core/match_cursor.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

match_cursor::outcome match_cursor::follow() noexcept {
  // The common size of a block is worth a copy of the loop of its own.
  constexpr std::uint32_t common_shift = 4;
  return tree_.block_shift_ == common_shift ? follow(common_shift) : follow(tree_.block_shift_);
}

// Goes down as long as the scout is right and the run that it found is short and matches whole.
// Anything else (a difference, the prompt's end, a long run, a change meanwhile) is for enter().
[[gnu::always_inline]] inline match_cursor::outcome match_cursor::follow(
    std::uint32_t shift) noexcept {
  const std::uint32_t full = 1u << shift;
  const std::uint64_t whole = count_ >> shift;
  const std::uint32_t limit = tree_.block_limit_;
  std::uint64_t block = at_ >> shift;
  if (!path_scout::reaches(block, whole)) {
    distrust_ = true;
    stage_ = stage::look_up;
    return outcome::more;
  }
  const path_scout::view view(tree_, tokens_, whole);
  node_id n = scout_.at(view, block);
  if (n == no_node) {
    // It passed a long run, where path hashes start anew; or the path ends here.
    if (scout_.restart(view.nodes[node_].path_hash, block)) n = scout_.at(view, block);
    if (n == no_node) {
      distrust_ = true;
      stage_ = stage::look_up;
      return outcome::more;
    }
  }
  guessed_ = true;
  const std::span<block_id> table = table_;
  const token_id* t = tokens_ + (block << shift);
  node_id up_id = node_;
  const tree_node* up = view.nodes + node_;
  std::uint32_t up_version = node_version_;
  for (;;) {
    // What a node of one block, the most common one, needs; all others are for enter().
    count_nodes();
    count_tokens(full);
    const tree_node& x = view.nodes[n];
    const std::uint32_t seen = x.changes.read_begin();
    const std::uint32_t id = x.list[0];
    const bool taken = x.parent == up_id && x.first_block == block && x.tokens == full &&
                       id < limit &&
                       equal_block(t, view.rows + (std::size_t{id} << shift), shift) &&
                       x.changes.read_valid(seen) && up->changes.read_valid(up_version);
    if (taken) {
      if (block < table.size()) table[block] = static_cast<block_id>(id);
      ++block;
      t += full;
      up = &x;
      up_id = n;
      up_version = seen;
      n = scout_.at(view, block);
      if (n != no_node) continue;
    }
    // Back to where a step begins.
    if (block != at_ >> shift) {
      at_ = block << shift;
      node_ = up_id;
      node_version_ = up_version;
      node_blocks_ = 1;
      retries_ = 0;
    }
    if (!taken) {
      child_ = n;
      return enter();
    }
    if (at_ == count_) return settle(node_, node_version_);
    stage_ = stage::look_up;
    return outcome::more;
  }
}

}  // namespace radixkv::detail
