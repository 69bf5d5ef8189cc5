#include "csrc/core/match_cursor.h"

#include <algorithm>
#include <array>
#include <optional>

#include "csrc/core/sibling_set.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

namespace {

constexpr std::uint32_t rows_ahead = 16;       // blocks whose tokens are being fetched
constexpr std::uint32_t rows_guessed = 17;     // the same, before their ids are known
constexpr std::uint32_t blocks_a_step = 256;   // then another prompt of the batch has its turn
constexpr std::uint32_t short_run_blocks = 4;  // of such runs the scout finds the next ones ahead
constexpr std::uint8_t bushy_runs = 2;         // so many of them in a row
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
  depth_ = 0;
  sibling_ = false;
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
  probe_ = tree_.child_table_.find(hash);
  tree_.child_table_.prefetch_slot(hash);
  stage_ = stage::probe;
  return outcome::more;
}

match_cursor::outcome match_cursor::probe() noexcept {
  const node_id n = probe_.next();
  if (n == no_node) return absent();
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
  count_nodes();
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
    for (std::uint32_t i = 1; i < std::min(run_blocks_, rows_guessed); ++i) {
      prefetch(r + (std::size_t{i} << tree_.block_shift_));
    }
  }
  compared_ = 0;
  stage_ = stage::first_block;
  return guessed_ ? first_block() : outcome::more;
}

match_cursor::outcome match_cursor::first_block() noexcept {
  count_blocks();
  const std::uint32_t full = 1u << tree_.block_shift_;
  const auto reach = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(std::min(full, run_tokens_), count_ - at_));
  const std::uint32_t id = run_blocks_ > tree_node::inline_blocks ? inline_ids_[2] : inline_ids_[0];
  const std::uint32_t* r = tree_.row(static_cast<block_id>(id));
  const auto common = static_cast<std::uint32_t>(common_prefix(tokens_ + at_, r, reach));
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
    if (reach < full) return settle(best_, best_version_);
    emit(at_ >> tree_.block_shift_, id);
    compared_ = 1;
    stage_ = stage::run;
    // What a scout has found is there already, and nothing of a run of one block is left to fetch.
    return guessed_ || run_blocks_ == 1 ? run() : outcome::more;
  }
  if (!grouped_) return absent();
  const std::uint32_t theirs = load_word(r + common);
  const tree_node& x = tree_.nodes_[child_];
  const node_id next = tokens_[at_ + common] < theirs ? x.left : x.right;
  if (!x.changes.read_valid(version_)) return again();
  if (next == no_node) return absent();
  if (next >= tree_.max_nodes_ || ++depth_ > sibling_set::max_depth) return again();
  sibling_ = true;
  aim(next);
  return outcome::more;
}

// Compares the run's blocks from compared_ on, up to `end`. Returns where it stopped: at the first
// that differs (or has no valid id).
std::uint32_t match_cursor::compare_blocks(std::uint32_t end) noexcept {
  const std::uint32_t shift = tree_.block_shift_;
  const std::uint32_t* const tokens = tokens_ + at_;
  const std::uint32_t* const ids = ids_;
  const std::uint32_t limit = tree_.block_limit_;
  const std::uint32_t* const rows = tree_.row(0);
  const std::uint32_t begin = compared_;
  const std::uint32_t last = run_blocks_ - 1;
  std::uint32_t k = begin;
  for (; k < end; ++k) {
    const std::uint32_t ahead = load_word(ids + std::min(k + rows_ahead, last));
    prefetch(rows + (std::size_t{ahead} << shift));
    const std::uint32_t id = load_word(ids + k);
    if (id >= limit) break;
    if (!equal_block(tokens + (std::size_t{k} << shift), rows + (std::size_t{id} << shift),
                     shift)) {
      break;
    }
  }
  count_blocks(k - begin);
  emit((at_ >> shift) + begin, ids + begin, k - begin);
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
    hop_.step(tree_, tokens_, count_);
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
    stage_ = stage::look_up;
    return outcome::more;
  }
  // It ends inside the run: at a difference, or where the prompt or a partial tail ends.
  best_ = child_;
  best_version_ = version_;
  best_common_ = 0;
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

// No child goes on beyond best_common_ tokens, provided that nobody changed the children meanwhile.
match_cursor::outcome match_cursor::absent() noexcept {
  const tree_node& x = tree_.nodes_[node_];
  if (!x.child_changes.read_valid(children_version_)) return again();
  if (grouped_ && !tree_.child_table_.read_valid(table_version_)) return again();
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
  return outcome::found;
}

bool radix_tree::match(tree_root root, std::span<const token_id> tokens, std::span<block_id> table,
                       tree_match& out) const {
  match_cursor cursor(*this, root, tokens, table);
  // The prompt may be as cold as the tree: its first lines come while the first node is found.
  constexpr std::size_t line_tokens = 64 / sizeof(token_id);
  constexpr std::size_t lines_a_step = 16;
  constexpr std::size_t lines_in_all = 64;
  const std::size_t lines = std::min(lines_in_all, tokens.size() / line_tokens);
  std::size_t fetched = 0;
  match_cursor::outcome o = match_cursor::outcome::more;
  while (o == match_cursor::outcome::more) {
    for (const std::size_t end = std::min(lines, fetched + lines_a_step); fetched < end;
         ++fetched) {
      detail::prefetch(tokens.data() + fetched * line_tokens);
    }
    o = cursor.step();
  }
  if (o == match_cursor::outcome::conflict) return false;
  out = cursor.match();
  return true;
}

// Group prefetching (Chen, Ailamaki, Gibbons and Mowry, ICDE 2004): while one prompt's memory is on
// its way the others go on.
void radix_tree::match_batch(std::span<const tree_root> roots,
                             std::span<const std::span<const token_id>> tokens,
                             std::span<const std::span<block_id>> tables, std::span<tree_match> out,
                             std::span<bool> ok) const {
  constexpr std::size_t lanes = 16;
  std::array<std::optional<match_cursor>, lanes> lane;
  std::array<std::size_t, lanes> index{};  // which prompt a lane works on
  std::array<std::size_t, lanes> active{};
  std::size_t next = 0;
  std::size_t running = 0;
  const auto start = [&](std::size_t l) {
    lane[l].emplace(*this, roots[next], tokens[next],
                    tables.empty() ? std::span<block_id>{} : tables[next]);
    index[l] = next++;
  };
  for (; running < lanes && next < out.size(); ++running) {
    start(running);
    active[running] = running;
  }
  while (running > 0) {
    for (std::size_t i = 0; i < running;) {
      const std::size_t l = active[i];
      const match_cursor::outcome o = lane[l]->step();
      if (o == match_cursor::outcome::more) {
        ++i;
        continue;
      }
      ok[index[l]] = o == match_cursor::outcome::found;
      out[index[l]] = lane[l]->match();
      if (next < out.size()) {
        start(l);
        ++i;
      } else {
        active[i] = active[--running];
      }
    }
  }
}

}  // namespace radixkv::detail
