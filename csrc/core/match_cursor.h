// One prompt on its way down the tree, a step at a time.
//
// Every step ends where the next one would wait for memory, with that memory being fetched: a
// single match runs the steps one after another, a batch runs those of several prompts in turn.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "csrc/core/hop_scout.h"
#include "csrc/core/path_scout.h"
#include "csrc/core/radix_tree.h"

namespace radixkv::detail {

class match_cursor {
 public:
  enum class outcome : std::uint8_t { more, found, conflict };

  match_cursor(const radix_tree& tree, tree_root root, std::span<const token_id> tokens,
               std::span<block_id> table) noexcept;

  // REQUIRES: the last step returned `more`.
  outcome step() noexcept;
  // REQUIRES: step returned `found`.
  [[nodiscard]] const tree_match& match() const noexcept { return match_; }

 private:
  static constexpr std::uint8_t bushy_runs = 2;  // so many short runs in a row
  enum class stage : std::uint8_t { look_up, probe, enter, first_block, run };

  // match_cursor.cpp: from a node to a candidate among its children.
  outcome look_up() noexcept;
  outcome probe() noexcept;
  outcome enter() noexcept;
  outcome next_candidate() noexcept;
  outcome again() noexcept;
  outcome absent() noexcept;
  outcome settle(node_id deepest, std::uint32_t version) noexcept;
  void aim(node_id n) noexcept;
  // match_runs.cpp: along the candidate's run.
  outcome first_block() noexcept;
  outcome run() noexcept;
  [[nodiscard]] std::uint32_t compare_blocks(std::uint32_t end) noexcept;
  // match_guided.cpp: along the nodes that a scout names.
  outcome follow() noexcept;
  outcome follow(std::uint32_t shift) noexcept;
  void emit(std::uint64_t index, std::uint32_t id) noexcept {
    if (index < table_.size()) table_[index] = static_cast<block_id>(id);
  }
  void emit(std::uint64_t index, const std::uint32_t* ids, std::size_t n) noexcept {
    if (index >= table_.size()) return;
    n = std::min<std::size_t>(n, table_.size() - index);
    copy_words(reinterpret_cast<std::uint32_t*>(table_.data()) + index, ids, n);
  }

  const radix_tree& tree_;
  const token_id* tokens_;
  std::uint64_t count_;
  std::span<block_id> table_;
  tree_match match_;

  std::uint64_t at_ = 0;  // tokens matched so far: where the run of `node_` ends
  node_id node_;          // node whose whole run matched
  std::uint32_t node_version_;
  std::uint32_t node_blocks_ = 0;

  // The look-up below node_.
  stage stage_ = stage::look_up;
  bool grouped_ = false;         // candidates come from the child table
  bool sibling_ = false;         // the candidate is the best of several siblings
  bool searched_ = false;        // several were searched
  bool guessed_ = false;         // the candidate came from the scout
  bool distrust_ = false;        // the scout was wrong here: look up
  std::uint8_t short_runs_ = 0;  // short runs in a row: the tree is bushy here
  std::uint8_t retries_ = 0;
  std::uint32_t children_version_ = 0;
  std::uint32_t table_version_ = 0;
  std::uint32_t siblings_version_ = 0;
  std::uint32_t siblings_fork_ = no_node;
  std::uint32_t siblings_times_ = 0;
  id_table::probe probe_;
  node_id best_ = no_node;
  std::uint32_t best_version_ = 0;
  std::uint32_t best_common_ = 0;
  block_id best_block_ = no_block;

  path_scout scout_;  // in bushy regions
  hop_scout hop_;     // below a long run

  // The candidate.
  node_id child_ = no_node;
  std::uint32_t version_ = 0;
  std::uint32_t run_tokens_ = 0;
  std::uint32_t run_blocks_ = 0;
  std::uint32_t compared_ = 0;  // whole blocks of the run that matched
  const std::uint32_t* ids_ = nullptr;
  std::uint32_t inline_ids_[tree_node::inline_blocks] = {};
};

}  // namespace radixkv::detail
