// Matching in bushy regions, where nodes are short: along the nodes that the scout names.
#include "csrc/core/match_cursor.h"

namespace radixkv::detail {

namespace {

constexpr int nodes_a_turn = 64;  // then another prompt of the batch has its turn

}  // namespace

// The node that probably goes on below node_, or no_node.
node_id match_cursor::guess() noexcept {
  const std::uint64_t block = at_ >> tree_.block_shift_;
  const std::uint64_t whole = count_ >> tree_.block_shift_;
  const node_id n = scout_.at(tree_, tokens_, whole, block);
  if (n != no_node) return n;
  // It passed a long run, where path hashes start anew; or the path ends here.
  scout_.restart(tree_.nodes_[node_].path_hash, block);
  return scout_.at(tree_, tokens_, whole, block);
}

// Goes down as long as the guess, n at first, is right and its run is short and matches whole.
// Anything else (a difference, the prompt's end, a long run, a change meanwhile) is for enter().
match_cursor::outcome match_cursor::follow(node_id n) noexcept {
  const std::uint32_t shift = tree_.block_shift_;
  const std::uint32_t full = 1u << shift;
  const std::uint64_t whole = count_ >> shift;
  const std::uint32_t limit = tree_.block_limit_;
  const tree_node* const nodes = tree_.nodes_.data();
  const std::uint32_t* const rows = tree_.row(0);
  guessed_ = true;
  for (int turn = 0; turn < nodes_a_turn; ++turn) {
    const tree_node& x = nodes[n];
    const std::uint64_t block = at_ >> shift;
    const std::uint32_t seen = x.changes.read_begin();
    const std::uint32_t parent = x.parent;
    const std::uint32_t first = x.first_block;
    const std::uint32_t run = x.tokens;
    const std::uint32_t blocks = run >> shift;
    const std::uint32_t* const ids = reinterpret_cast<const std::uint32_t*>(x.list);
    child_ = n;
    if (parent != node_ || first != block || (run & (full - 1)) != 0 ||
        blocks - 1 >= tree_node::inline_blocks || blocks > whole - block) {
      return enter();
    }
    const std::uint32_t* const tokens = tokens_ + at_;
    std::uint32_t id[tree_node::inline_blocks];
    std::uint32_t k = 0;
    for (; k < blocks; ++k) {
      id[k] = load_word(ids + k);
      if (id[k] >= limit || !equal_block(tokens + (std::size_t{k} << shift),
                                         rows + (std::size_t{id[k]} << shift), shift)) {
        break;
      }
    }
    if (k < blocks || !x.changes.read_valid(seen) ||
        !nodes[node_].changes.read_valid(node_version_)) {
      return enter();
    }
    for (std::uint32_t i = 0; i < blocks; ++i) emit(block + i, id[i]);
    at_ += run;
    node_ = n;
    node_version_ = seen;
    node_blocks_ = blocks;
    retries_ = 0;
    if (at_ == count_) return settle(node_, node_version_);
    n = scout_.at(tree_, tokens_, whole, block + blocks);
    if (n == no_node) break;
  }
  stage_ = stage::look_up;
  return outcome::more;
}

}  // namespace radixkv::detail
