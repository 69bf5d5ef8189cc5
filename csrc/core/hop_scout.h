// Looks one hop ahead: while the run of a node is compared, the child that goes on below it is
// found and fetched, a miss at a time.
//
// What it fetches is a guess that nobody relies on: the look-up after the run starts anew and finds
// everything in the cache.
#pragma once

#include <algorithm>
#include <cstdint>

#include "csrc/core/radix_tree.h"

namespace radixkv::detail {

class hop_scout {
 public:
  // The run of `node` is being compared; the prompt goes on below it at `tokens`, null if it ends
  // before that.
  void start(node_id node, const token_id* tokens, std::uint32_t run_blocks) noexcept {
    node_ = node;
    tokens_ = tokens;
    stage_ = tokens ? stage::child : stage::done;
    stride_ = std::clamp(run_blocks / 5, 1u, 8u);
  }
  // Blocks to compare between two calls of advance().
  [[nodiscard]] std::uint32_t stride() const noexcept { return stride_; }
  [[nodiscard]] bool done() const noexcept { return stage_ == stage::done; }

  // Reads what the last call has fetched, and fetches the next thing.
  void advance(const radix_tree& tree) noexcept {
    switch (stage_) {
      case stage::child: {
        const tree_node& x = tree.nodes_[node_];
        const std::uint32_t children = x.children;
        if (children == 1) {
          aim(tree, x.child);
        } else if (children > 1) {
          hash_ = tree.hasher_.child_hash(node_, *tokens_);
          tree.child_table_.prefetch_slot(hash_);
          stage_ = stage::slot;
        } else {
          stage_ = stage::done;
        }
        return;
      }
      case stage::slot:
        aim(tree, tree.child_table_.first(hash_));
        return;
      case stage::node: {
        const tree_node& x = tree.nodes_[node_];
        prefetch(tree.first_row(x));
        run_ = x.tokens >> tree.block_shift_;
        list_ = x.list[0];
        if (run_ > tree_node::inline_blocks) prefetch(tree.lists_.at(list_));
        stage_ = run_ > tree_node::inline_blocks ? stage::rows : stage::done;
        return;
      }
      case stage::rows: {
        const std::uint32_t* ids = tree.lists_.at(list_);
        for (std::uint32_t i = 1; i < std::min(run_, rows_fetched); ++i) {
          const std::uint32_t id = load_word(ids + i);
          if (id < tree.block_limit_) prefetch(tree.row(static_cast<block_id>(id)));
        }
        stage_ = stage::done;
        return;
      }
      case stage::done:
        return;
    }
  }

 private:
  enum class stage : std::uint8_t { child, slot, node, rows, done };
  static constexpr std::uint32_t rows_fetched = 12;

  void aim(const radix_tree& tree, node_id n) noexcept {
    if (n >= tree.max_nodes_) {
      stage_ = stage::done;
      return;
    }
    prefetch(&tree.nodes_[n]);
    node_ = n;
    stage_ = stage::node;
  }

  stage stage_ = stage::done;
  node_id node_ = no_node;
  std::uint32_t stride_ = 1;
  std::uint32_t hash_ = 0;
  std::uint32_t run_ = 0;   // blocks of the next node's run
  std::uint32_t list_ = 0;  // where their ids are
  const token_id* tokens_ = nullptr;
};

}  // namespace radixkv::detail
