// Looks ahead of a match whose runs are long: which nodes come next?
//
// A hop costs two dependent cache misses, the slot of the child table and the node it names, about
// as much as comparing 32 blocks. The scout takes one of these steps every few blocks of
// comparison, so it is some hops ahead; and it tells which ids follow beyond the run that is being
// compared, so that the cursor fetches their rows at the same distance as those of the run itself.
// What it names is a guess: the cursor checks parent, depth and tokens of it like those of any
// candidate.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "csrc/core/radix_tree.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

class hop_scout {
 public:
  // Blocks to compare between two steps: about what memory takes to answer. With more, a run of 32
  // blocks has no step to spare, and the scout never gets ahead of the cursor.
  static constexpr std::uint32_t stride = 12;

  // The cursor compares the run of n, which ends at `end` tokens of the prompt. Goes on from where
  // it is if it came this way, else starts anew there.
  void enter(node_id n, std::uint64_t end) noexcept {
    if (size_ > 0 ? hops_[head_].parent == n : tip_ == n) return;
    size_ = 0;
    ahead_ = 0;
    tip_ = n;
    end_ = end;
    stage_ = stage::tip;
  }

  // The node that probably goes on below n, or no_node.
  [[nodiscard]] node_id below(node_id n) noexcept {
    if (size_ == 0 || hops_[head_].parent != n) return no_node;
    const node_id next = hops_[head_].node;
    head_ = (head_ + 1) % hops_ahead;
    --size_;
    if (ahead_ > 0) --ahead_;
    return next;
  }

  // The ids of blocks number `block` … of the prompt in one of the hops known, or none. `block`
  // only grows as long as the cursor goes on.
  [[nodiscard]] std::span<const std::uint32_t> ids_from(const radix_tree& tree,
                                                        std::uint64_t block) noexcept {
    while (ahead_ < size_) {
      const hop& h = hops_[(head_ + ahead_) % hops_ahead];
      if (block < h.first) return {};
      if (const std::uint64_t i = block - h.first; i < h.blocks) {
        const std::uint32_t* const ids =
            h.blocks > tree_node::inline_blocks ? tree.lists_.at(h.list[0]) : h.list.data();
        return {ids + i, h.blocks - i};
      }
      ++ahead_;
    }
    return {};
  }

  // Reads what the last step has fetched, and fetches the next thing. `count`: tokens of the
  // prompt; rows before block `fetched` of it have been fetched as far as they were known.
  void step(const radix_tree& tree, const token_id* tokens, std::uint64_t count,
            std::uint64_t fetched) noexcept {
    switch (stage_) {
      case stage::tip:
        look_below(tree, tokens, count);
        return;
      case stage::slot:
        aim(tree, tree.child_table_.read().first(hash_));
        return;
      case stage::node:
        arrive(tree, fetched);
        look_below(tree, tokens, count);
        return;
      case stage::lost:
        return;
    }
  }

 private:
  enum class stage : std::uint8_t { tip, slot, node, lost };
  struct hop {
    node_id parent;
    node_id node;
    std::uint64_t first;  // block of the prompt where its run begins
    std::uint32_t blocks;
    std::array<std::uint32_t, tree_node::inline_blocks> list;  // as in the node
  };
  static constexpr std::uint8_t hops_ahead = 4;

  void look_below(const radix_tree& tree, const token_id* tokens, std::uint64_t count) noexcept {
    if (stage_ != stage::tip || size_ == hops_ahead) return;
    const tree_node& x = tree.nodes_[tip_];
    const std::uint32_t children = x.children;
    if (end_ >= count || children == 0) {
      stage_ = stage::lost;
    } else if (children == 1) {
      aim(tree, x.child);
    } else {
      hash_ = tree.hasher_.child_hash(tip_, tokens[end_]);
      tree.child_table_.prefetch_slot(hash_);
      stage_ = stage::slot;
    }
  }

  void aim(const radix_tree& tree, node_id n) noexcept {
    if (n >= tree.max_nodes_) {
      stage_ = stage::lost;
      return;
    }
    prefetch(&tree.nodes_[n]);
    next_ = n;
    stage_ = stage::node;
  }

  void arrive(const radix_tree& tree, std::uint64_t fetched) noexcept {
    count_nodes();
    const tree_node& x = tree.nodes_[next_];
    const std::uint32_t seen = x.changes.read_begin();
    const std::uint32_t run = x.tokens;
    hop& h = hops_[(head_ + size_) % hops_ahead];
    h.parent = tip_;
    h.node = next_;
    h.first = end_ >> tree.block_shift_;
    h.blocks = tree.blocks_of(run);
    for (std::uint32_t i = 0; i < tree_node::inline_blocks; ++i) h.list[i] = x.list[i];
    // The ids will be read: they must be of one version of the run.
    if (x.parent != tip_ || run == 0 || !x.changes.read_valid(seen)) {
      stage_ = stage::lost;
      return;
    }
    const bool chunked = h.blocks > tree_node::inline_blocks;
    if (chunked) prefetch_ids(tree.lists_.at(h.list[0]), h.blocks);
    // Blocks of a run mostly have ids in a row: fetch rows before the ids are there. The first one
    // in any case.
    const std::uint32_t* row = tree.row(static_cast<block_id>(h.list[chunked ? 2 : 0]));
    prefetch(row);
    const std::uint64_t missed = fetched > h.first ? fetched - h.first : 0;
    for (std::uint64_t i = 1; i < std::min<std::uint64_t>(h.blocks, missed); ++i) {
      prefetch(row + (std::size_t{i} << tree.block_shift_));
    }
    ++size_;
    tip_ = next_;
    end_ += run;
    stage_ = stage::tip;
  }

  stage stage_ = stage::lost;
  std::uint8_t head_ = 0;
  std::uint8_t size_ = 0;   // hops known
  std::uint8_t ahead_ = 0;  // of them, those whose rows have been told
  node_id tip_ = no_node;   // the last of them
  std::uint64_t end_ = 0;   // tokens up to its end
  node_id next_ = no_node;  // what is being fetched
  std::uint32_t hash_ = 0;
  std::array<hop, hops_ahead> hops_{};
};

}  // namespace radixkv::detail
