// Comparing the run of a candidate: its first block, which decides whether it is the child to
// follow, then the rest.
#include <algorithm>

#include "csrc/core/block_compare.h"
#include "csrc/core/match_cursor.h"
#include "csrc/core/step_count.h"
#include "csrc/core/streams.h"

namespace radixkv::detail {

namespace {

// Blocks whose tokens are being fetched, theirs and the prompt's: as many lines as memory has under
// way at once. The processor would see the prompt coming, but begins anew at every page.
constexpr std::uint32_t blocks_ahead = 32;
constexpr std::uint32_t blocks_a_step = 256;   // then another prompt of the batch has its turn
constexpr std::uint32_t short_run_blocks = 4;  // of such runs the scout finds the next ones ahead

}  // namespace

match_cursor::outcome match_cursor::first_block() noexcept {
  const std::uint32_t full = 1u << tree_.block_shift_;
  const auto reach = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(std::min(full, run_tokens_), count_ - at_));
  const std::uint32_t id = run_blocks_ > tree_node::inline_blocks ? inline_ids_[2] : inline_ids_[0];
  const std::uint32_t* r = tree_.row(static_cast<block_id>(id));
  const auto common = static_cast<std::uint32_t>(common_prefix(tokens_ + at_, r, reach));
  if (!sibling_) count_compared(common, reach);  // else it has just been compared
  if (guessed_ && common < reach) return next_candidate();
  if (common == 0 && grouped_) return next_candidate();
  if (common > best_common_) {
    best_ = child_;
    best_version_ = version_;
    best_common_ = common;
    best_block_ = static_cast<block_id>(id);
  }
  if (common == reach) {
    // The prompt or the run ends inside this block: no sibling can match more (invariant 3).
    if (reach < full) {
      // The fork where siblings were searched is known only if nobody changed them meanwhile.
      if (!tree_.nodes_[node_].child_changes.read_valid(children_version_)) {
        siblings_fork_ = no_node;
      }
      return settle(best_, best_version_);
    }
    emit(at_ >> tree_.block_shift_, id);
    compared_ = 1;
    stage_ = stage::run;
    // What a scout has found is there already, and nothing of a run of one block is left to fetch.
    return guessed_ || run_blocks_ == 1 ? run() : outcome::more;
  }
  return absent();
}

// Compares the run's blocks from compared_ on, up to `end`. Returns where it stopped: at the first
// that differs (or has no valid id).
std::uint32_t match_cursor::compare_blocks(std::uint32_t end) noexcept {
  const std::uint32_t shift = tree_.block_shift_;
  const std::uint64_t first = at_ >> shift;
  const std::uint64_t blocks = (count_ + (1u << shift) - 1) >> shift;  // of the prompt
  const std::uint32_t begin = compared_;
  std::uint32_t k = begin;
  block_stretch s{};
  s.rows = tree_.row(0);
  s.limit = tree_.block_limit_;
  s.shift = shift;
  while (k < end) {
    s.tokens = tokens_ + at_ + (std::size_t{k} << shift);
    s.ids = ids_ + k;
    s.blocks = end - k;
    s.later_tokens = s.tokens;
    s.later_ids = s.ids;
    if (const std::uint32_t later = k + blocks_ahead; first + later < blocks) {
      s.blocks = std::min<std::size_t>(s.blocks, blocks - first - later);
      s.later_tokens += std::size_t{blocks_ahead} << shift;
      if (later < run_blocks_) {
        s.blocks = std::min<std::size_t>(s.blocks, run_blocks_ - later);
        s.later_ids += blocks_ahead;
      } else if (const auto ids = hop_.ids_from(tree_, first + later); !ids.empty()) {
        s.blocks = std::min(s.blocks, ids.size());
        s.later_ids = ids.data();
      }
    }
    const auto equal = static_cast<std::uint32_t>(equal_blocks(s));
    k += equal;
    if (equal < s.blocks) break;
  }
  count_tokens(std::uint64_t{k - begin} << shift);
  emit(first + begin, ids_ + begin, k - begin);
  compared_ = k;
  return k;
}

// The rest of a run whose first block matched.
match_cursor::outcome match_cursor::run() noexcept {
  const std::uint32_t shift = tree_.block_shift_;
  const std::uint32_t full = 1u << shift;
  const std::uint32_t* const tokens = tokens_ + at_;
  // Whole blocks that both the run and the prompt have.
  const auto whole = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(run_tokens_ >> shift, (count_ - at_) >> shift));
  const std::uint32_t end = std::min(whole, compared_ + blocks_a_step);
  if (compared_ == 1 && run_blocks_ > short_run_blocks) hop_.enter(child_, at_ + run_tokens_);
  std::uint32_t k = compared_;
  while (k < end) {
    hop_.step(tree_, tokens_, count_,
              stream_fetch.only_begins ? 0 : (at_ >> shift) + k + blocks_ahead);
    const std::uint32_t stop = std::min(end, k + hop_scout::stride);
    k = compare_blocks(stop);
    if (k < stop) break;
  }
  compared_ = k;
  if (k == end && end < whole) return outcome::more;
  const tree_node& x = tree_.nodes_[child_];
  if (k == whole && std::uint64_t{whole} << shift == run_tokens_) {
    // The whole run matched: go on below it.
    if (!x.changes.read_valid(version_)) return again();
    at_ += run_tokens_;
    node_ = child_;
    node_version_ = version_;
    node_blocks_ = whole;
    retries_ = 0;
    short_runs_ = whole > short_run_blocks   ? std::uint8_t{0}
                  : short_runs_ < bushy_runs ? static_cast<std::uint8_t>(short_runs_ + 1)
                                             : bushy_runs;
    distrust_ = false;
    if (radix_tree::hashed_blocks(whole) == 0) scout_.lose();
    stage_ = stage::look_up;
    return outcome::more;
  }
  // It ends inside the run: at a difference, or where the prompt or a partial tail ends.
  best_ = child_;
  best_version_ = version_;
  best_common_ = 0;
  siblings_fork_ = no_node;
  const std::uint64_t left = count_ - at_ - (std::uint64_t{k} << shift);
  const std::uint32_t run_left = run_tokens_ - (k << shift);
  if (left > 0 && run_left > 0) {
    const auto reach =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(std::min(full, run_left), left));
    const std::uint32_t id = load_word(ids_ + k);
    if (id >= tree_.block_limit_) return again();
    best_block_ = static_cast<block_id>(id);
    best_common_ = static_cast<std::uint32_t>(
        common_prefix(tokens + (std::size_t{k} << shift), tree_.row(best_block_), reach));
  }
  if (!x.changes.read_valid(version_)) return again();
  at_ += std::uint64_t{k} << shift;
  match_.place = {child_, k};
  return settle(best_, best_version_);
}

}  // namespace radixkv::detail
