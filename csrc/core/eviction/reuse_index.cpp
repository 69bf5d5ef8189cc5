// The policy's events while the tree changes, and which run goes next.
#include "csrc/core/eviction/reuse_index.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "csrc/core/step_count.h"

namespace radixkv::detail {

reuse_index_policy::reuse_index_policy(reuse_index_options options) : options_(options) {
  for (std::uint32_t b = 0; b <= bins; ++b) {
    edges_[b] = static_cast<std::uint32_t>(std::ceil(hazard_model::edge(b)));
    periods_[b] =
        std::bit_floor(std::clamp(edges_[b] / options_.lateness, 1u, options_.longest_period));
  }
}

std::uint32_t reuse_index_policy::path_hash_tokens(std::uint32_t block_tokens) const noexcept {
  return std::max(options_.chunk_tokens, block_tokens);
}

void reuse_index_policy::attach(const tree_view& tree, std::int64_t capacity_blocks) {
  tree_ = &tree;
  block_tokens_ = tree.block_tokens();
  set_limits(capacity_blocks);
  runs_.reset(block_tokens_, path_hash_tokens(block_tokens_));
  queue_.clear();
  model_ = hazard_model(options_.model);
  guard_ = lru_guard(capacity_blocks, options_.guard);
  survey_ = key_survey(capacity_blocks);
  released_ = no_run;
  refresh_keys();
  shadow_.reset(capacity_blocks);
  statistics_ = {};
  ends_ = node_array<run_id>(capacity_blocks);
  orphans_ = {};
  unplaced_ = 0;
  now_ = 0;
  lessons_ = 0;
  lessons_waiting_ = 0;
  runs_waiting_ = 0;
  thin_out_ = options_.full_lessons;
  quantum_ = 0;
  credits_ = {};
  log_ = {};
  dropped_ = oldest_ = beyond_ = surveyed_ = 0;
  survey_stretch_ = 1;
  survey_draw_ = 0;
  cursors_ = {};
}

void reuse_index_policy::on_insert(node_id n) {
  end_of(n) = no_run;  // its place is known when its request comes
  ++unplaced_;
  const run_id above = end_of(tree_->parent(n));
  if (above != no_run) runs_.prefetch(above);
}

void reuse_index_policy::on_extend(node_id n, std::uint32_t blocks) {
  run_id r = end_of(n);
  if (r == no_run) return;
  const std::uint32_t depth = runs_[r].first + runs_[r].cached;
  if (depth < runs_[r].end()) r = cut(r, depth);
  if (runs_[r].children == 0) {
    if (runs_[r].uses > 0) shadow_.grow(runs_[r].turn, blocks);
    runs_.extend(r, blocks);
    if (log_entry* const e = log_.find(r, runs_[r].log)) measure(*e, runs_[r]);
  } else {
    unrank(r);
    r = runs_.add(r, blocks, {});
    runs_.set_cached(r, blocks);
    runs_[r].turn = now_;
    note(r, 0);
  }
  end_of(n) = r;
  lead(n);
  // Whoever extends it holds it: eviction by recency has to look at it again once it is let go of,
  // not each time.
  settle_release();
  released_ = r;
}

void reuse_index_policy::on_split(node_id upper, node_id lower) {
  run_id r = end_of(lower);
  if (r != no_run) {
    const std::uint32_t depth = tree_->first_block(lower);
    while (runs_[r].first >= depth) r = runs_[r].parent;
    if (depth < runs_[r].end()) r = cut(r, depth);
  } else {
    ++unplaced_;
  }
  end_of(upper) = r;
}

void reuse_index_policy::on_trim(node_id n, std::uint32_t blocks) {
  const run_id r = end_of(n);
  if (r == no_run) return;
  const bool was_tail = runs_[r].last_is_tail();
  const run_id left = uncache(r, blocks);
  end_of(n) = left;
  if (left != r || runs_[r].last_is_tail() != was_tail) {
    lead(n);
    look_again(left);
  }
}

void reuse_index_policy::on_remove(node_id n, bool) {
  const run_id r = end_of(n);
  if (r == no_run) {
    std::erase(orphans_, n);
    --unplaced_;
    return;
  }
  uncache(r, tree_->blocks(n));
  end_of(n) = no_run;
  const node_id above = tree_->parent(n);
  if (!tree_->is_root(above) && tree_->children(above) == 1) {
    lead(above);
    look_again(end_of(above));
  }
}

void reuse_index_policy::on_hold(node_id n) {
  if (const run_id r = end_of_or_none(n); r != no_run) unrank(r);
}

void reuse_index_policy::on_unpin(node_id n) {
  if (tree_->is_root(n) || tree_->children(n) != 0) return;
  if (end_of(n) == no_run) {
    wait_for_request(n);  // published, and its request comes now or was given up
    return;
  }
  settle_release();
  released_ = end_of(n);  // in the queue it may be and yet have been passed over while it was held
  if (!queue_.contains(end_of(n))) lead(n);
}

bool reuse_index_policy::kept_by_lru(const run& r) const {
  return r.uses > 0 && shadow_.keeps(r.turn);
}

victim reuse_index_policy::next_victim() {
  if (!orphans_.empty()) adopt_orphans();
  // Whether or not the guard is limited, which may change with each request: the shadow would have
  // to walk through all that is not cached each time.
  shadow_.make_room(runs_.cached_blocks() - 1);
  const std::int64_t allowance = guard_.allowance(shadow_.missing());
  if (guard_.by_recency() || allowance <= 0) {
    const run_id r = guard_.by_recency() ? least_recent_of_all() : least_beyond();
    if (r != no_run) return tail_of(runs_[r]);
  }
  for (run_id r; (r = queue_.front()) != no_run; unrank(r)) {  // comes back when it is let go
    count_nodes();
    if (!tree_->evictable(runs_[r].node)) continue;
    if (const run_id o = guard_.octaves() > 0 && !queue_.holds_least() ? least_recent() : no_run;
        o != no_run && o != r && queue_.contains(o) && queue_.is_within(o, r, guard_.octaves()))
      return tail_of(runs_[o]);
    const run& last = runs_[r];
    victim v = tail_of(last);
    if (kept_by_lru(last))
      v.blocks = static_cast<std::uint32_t>(
          std::clamp<std::int64_t>(allowance, 1, std::int64_t{v.blocks}));
    return v;
  }
  return {};
}

// What was aged out is older than all the log has.
run_id reuse_index_policy::least_recent_of_all() {
  // What is held comes back when it is let go.
  while (queue_.holds_least() && !tree_->evictable(runs_[queue_.front()].node)) {
    count_nodes();
    unrank(queue_.front());
  }
  const run_id first = queue_.holds_least() ? queue_.front() : no_run;
  if (first != no_run && !kept_by_lru(runs_[first])) return first;
  return least_recent();
}

// The smallest key of what LRU would not keep, so that no more of what it would is lost; without
// any, what LRU would evict.
run_id reuse_index_policy::least_beyond() {
  let_go_of_lru();
  for (run_id r; (r = queue_.front_beyond()) != no_run;) {
    count_nodes();
    if (kept_by_lru(runs_[r])) {  // again: the room was not needed
      queue_.set_beyond(r, false);
      if (log_.find(r, runs_[r].log) != nullptr)
        beyond_ = std::min(beyond_, log_.position(runs_[r].log));
    } else if (tree_->evictable(runs_[r].node)) {
      return r;
    } else {
      unrank(r);
    }
  }
  return least_recent_of_all();
}

// The first victim by recency among so many entries from oldest_ on, which passes the others, or
// no_run. The log is in order of recency, children before their parents.
run_id reuse_index_policy::pass_by_recency(std::uint64_t most) {
  oldest_ = std::max(oldest_, log_.begin());
  for (; most > 0 && oldest_ != log_.end(); --most) {
    count_entries();
    const log_entry& e = log_[oldest_];
    if (e.run != no_run && e.candidate && tree_->evictable(runs_[e.run].node)) return e.run;
    oldest_ = std::max(oldest_ + 1, log_.cleared_until(oldest_));
  }
  return no_run;
}

// The victim by recency.
run_id reuse_index_policy::least_recent() {
  settle_release();
  return pass_by_recency(log_.end());
}

// Eviction by recency may have passed it while it had children, or before it was known.
void reuse_index_policy::look_again(run_id r) {
  if (r == no_run || r == root_run || log_.find(r, runs_[r].log) == nullptr) return;
  oldest_ = std::min(oldest_, log_.position(runs_[r].log));
}

// A run that was let go of lies where it did, unless its request has followed or it is held again.
void reuse_index_policy::settle_release() {
  if (released_ == no_run) return;
  const run& r = runs_[released_];
  if (log_.find(released_, r.log) != nullptr && r.node != no_node && tree_->evictable(r.node)) {
    oldest_ = std::min(oldest_, log_.position(r.log));
  }
  released_ = no_run;
}

victim reuse_index_policy::tail_of(const run& last) const {
  const std::uint32_t blocks = last.last_is_tail() ? last.cached - last.body() : last.cached;
  return {last.node, std::min(blocks, tree_->blocks(last.node) - tree_->pinned_blocks(last.node))};
}

run_id reuse_index_policy::cut(run_id r, std::uint32_t depth) {
  const run_id upper = runs_.split(r, depth);
  if (runs_[r].cached == 0) unrank(r);
  std::uint32_t bin = bins;
  if (log_entry* const e = log_.find(r, runs_[r].log)) {
    measure(*e, runs_[r]);
    bin = e->bin;
  }
  note(upper, bin);
  return upper;
}

// The path that ends in r loses its last cached blocks. Returns the run in which it then ends.
run_id reuse_index_policy::uncache(run_id r, std::uint32_t blocks) {
  while (blocks > 0) {
    const std::uint32_t some = std::min(runs_[r].cached, blocks);
    if (runs_[r].uses > 0) shadow_.evicted(runs_[r].turn, some);
    runs_.set_cached(r, runs_[r].cached - some);
    blocks -= some;
    if (runs_[r].cached > 0) break;
    unrank(r);
    const run_id above = runs_[r].parent;
    if (runs_[r].aged_out && runs_[r].children == 0) drop(r);
    r = above;
  }
  return r;
}

}  // namespace radixkv::detail
