#include "csrc/core/match_cursor.h"

#include <algorithm>

#include "csrc/core/step_count.h"
#include "csrc/core/streams.h"

namespace radixkv::detail {

namespace {

constexpr std::uint8_t max_retries = 16;  // of one look-up, before the whole match starts again

}  // namespace

match_cursor::match_cursor(const radix_tree& tree, tree_root root, std::span<const token_id> tokens,
                           std::span<block_id> table) noexcept
    : tree_(tree),
      tokens_(tokens.data()),
      count_(tokens.size()),
      table_(table),
      node_(root.node),
      node_version_(root.version) {}

match_cursor::outcome match_cursor::step() noexcept {
  switch (stage_) {
    case stage::look_up:
      return look_up();
    case stage::probe:
      return probe();
    case stage::enter:
      return enter();
    case stage::first_block:
      return first_block();
    case stage::run:
      return run();
  }
  return outcome::conflict;
}

void match_cursor::aim(node_id n) noexcept {
  child_ = n;
  prefetch(&tree_.nodes_[n]);
  stage_ = stage::enter;
}

// Starts the look-up below node_ once more: a writer came in the way.
match_cursor::outcome match_cursor::again() noexcept {
  if (++retries_ > max_retries || !tree_.nodes_[node_].changes.read_valid(node_version_)) {
    return outcome::conflict;
  }
  stage_ = stage::look_up;
  return outcome::more;
}

// Which child continues the prompt?
match_cursor::outcome match_cursor::look_up() noexcept {
  const tree_node& x = tree_.nodes_[node_];
  best_ = no_node;
  best_common_ = 0;
  siblings_fork_ = no_node;
  sibling_ = false;
  searched_ = false;
  grouped_ = false;
  if (at_ == count_) return settle(node_, node_version_);
  if (short_runs_ >= bushy_runs && !distrust_) {
    return follow();
  } else if (!distrust_) {
    if (const node_id n = hop_.below(node_); n != no_node) {
      guessed_ = true;
      child_ = n;
      return enter();
    }
  }
  guessed_ = false;
  children_version_ = x.child_changes.read_begin();
  if (children_version_ & 1) return again();
  const std::uint32_t children = x.children;
  if (children == 0) return absent();
  if (children == 1) {
    const node_id only = x.child;
    if (only >= tree_.max_nodes_) return again();
    aim(only);
    return outcome::more;
  }
  grouped_ = true;
  const std::uint32_t hash = tree_.hasher_.child_hash(node_, tokens_[at_]);
  table_version_ = tree_.child_table_.read_begin();
  siblings_version_ = tree_.siblings_.read_begin();
  probe_ = tree_.child_table_.find(hash);
  tree_.child_table_.prefetch_slot(hash);
  stage_ = stage::probe;
  return outcome::more;
}

match_cursor::outcome match_cursor::probe() noexcept {
  node_id n = probe_.next();
  if (n == no_node) return absent();
  sibling_ = sibling_trie::is_fork(n);
  if (sibling_) {
    searched_ = true;
    const auto reach =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(tree_.block_tokens(), count_ - at_));
    leading_hashes first(tree_.hasher_, node_, tokens_ + at_, reach);
    const node_id exact = tree_.sibling_on_path(node_, first, (count_ - at_) >> tree_.block_shift_);
    if (exact != no_node) {
      n = exact;
    } else {
      const sibling_trie::found best = tree_.siblings_.find(node_, n, first);
      if (best.conflict) return again();
      n = best.node;
      siblings_fork_ = best.fork;
      siblings_times_ = best.times;
      if (n == no_node) return outcome::more;  // another node's
    }
  }
  if (n >= tree_.max_nodes_) return again();
  aim(n);
  return outcome::more;
}

match_cursor::outcome match_cursor::next_candidate() noexcept {
  if (guessed_) {
    distrust_ = true;
    stage_ = stage::look_up;
    return outcome::more;
  }
  if (!grouped_ || sibling_) return again();
  stage_ = stage::probe;
  return outcome::more;
}

// Takes the candidate's run, all of one version.
match_cursor::outcome match_cursor::enter() noexcept {
  if (!sibling_) count_nodes();  // else it has just been read
  const tree_node& x = tree_.nodes_[child_];
  version_ = x.changes.read_begin();
  if (version_ & 1) return again();
  const node_id parent = x.parent;
  const std::uint32_t first = x.first_block;
  run_tokens_ = x.tokens;
  run_blocks_ = tree_.blocks_of(run_tokens_);
  for (std::uint32_t i = 0; i < tree_node::inline_blocks; ++i) inline_ids_[i] = x.list[i];
  if (!x.changes.read_valid(version_)) return again();
  if (parent != node_ || first != at_ >> tree_.block_shift_ || run_tokens_ == 0) {
    return next_candidate();
  }
  // The parent by this name must still be the node that matched, not one that took its place.
  if (!tree_.nodes_[node_].changes.read_valid(node_version_)) return outcome::conflict;
  std::uint32_t first_id = inline_ids_[0];
  ids_ = inline_ids_;
  if (run_blocks_ > tree_node::inline_blocks) {
    first_id = inline_ids_[2];
    ids_ = tree_.lists_.at(inline_ids_[0]);
    prefetch_ids(ids_, run_blocks_);
  }
  const std::uint32_t* r = tree_.row(static_cast<block_id>(first_id));
  prefetch(r);
  // Blocks of a run mostly have ids in a row: fetch them before the ids are there.
  if (run_blocks_ > tree_node::inline_blocks && !guessed_) {
    fetch_ahead(r, std::min(run_blocks_, stream_fetch.rows_guessed), tree_.block_tokens());
  }
  compared_ = 0;
  stage_ = stage::first_block;
  return guessed_ ? first_block() : outcome::more;
}

// No child goes on beyond best_common_ tokens, provided that nobody changed the children meanwhile.
match_cursor::outcome match_cursor::absent() noexcept {
  const tree_node& x = tree_.nodes_[node_];
  if (!x.child_changes.read_valid(children_version_)) return again();
  if (grouped_ && !tree_.child_table_.read_valid(table_version_)) return again();
  if (searched_ && !tree_.siblings_.read_valid(siblings_version_)) return again();
  if (best_ == no_node) return settle(node_, node_version_);
  if (!tree_.nodes_[best_].changes.read_valid(best_version_)) return again();
  return settle(best_, best_version_);
}

match_cursor::outcome match_cursor::settle(node_id deepest, std::uint32_t version) noexcept {
  if (!tree_.nodes_[deepest].changes.read_valid(version)) return outcome::conflict;
  if (match_.place.node == no_node) match_.place = {node_, node_blocks_};
  match_.blocks = at_ >> tree_.block_shift_;
  match_.tokens = at_ + best_common_;
  match_.deepest = deepest;
  match_.version = version;
  match_.partial_block = best_common_ ? best_block_ : no_block;
  const bool parted = best_common_ != 0 && match_.tokens < count_;
  const bool known = parted || (best_common_ != 0 && siblings_fork_ == no_node);
  match_.siblings = {siblings_fork_, siblings_times_, known ? deepest : no_node, version,
                     best_common_};
  return outcome::found;
}

}  // namespace radixkv::detail
