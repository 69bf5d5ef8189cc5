// What a request tells: the runs of its path, and that they were used.
#include <algorithm>

#include "csrc/core/eviction/reuse_index.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

// Finds or makes the runs of n's path. Returns the deepest that was known, and the depth so far
// known.
reuse_index_policy::place reuse_index_policy::adopt(node_id n,
                                                    std::span<const std::uint64_t> hashes) {
  node_id top = n;
  while (!tree_->is_root(top) && end_of(top) == no_run) top = tree_->parent(top);
  run_id start = root_run;
  std::uint32_t depth = 0;
  if (!tree_->is_root(top)) {
    start = end_of(top);
    depth = tree_->first_block(top) + tree_->blocks(top);
  }
  // What lies behind was evicted, and this request does not use it.
  if (start != root_run && depth < runs_[start].end()) start = end_of(top) = cut(start, depth);
  if (top == n) return {start, depth};
  const std::uint32_t end = tree_->first_block(n) + tree_->blocks(n);
  unrank(start);
  run_id known = runs_.follow(start, depth, end, hashes);
  // Nothing of it agreed: the path parts where its parent ends.
  if (known != start && depth <= runs_[known].first) known = runs_[known].parent;
  if (depth < runs_[known].end()) known = cut(known, depth);
  run_id deepest = known;
  if (depth < end) deepest = runs_.add(known, end - depth, hashes);
  for (run_id r = deepest; r != start; r = runs_[r].parent) {
    const run& at = runs_[r];
    if (at.uses > 0) shadow_.restored(at.turn, at.blocks - at.cached);
    runs_.set_cached(r, at.blocks);
  }
  end_of(n) = deepest;
  --unplaced_;
  for (node_id below = n, at = tree_->parent(n); at != top; below = at, at = tree_->parent(at)) {
    const std::uint32_t at_end = tree_->first_block(below);
    run_id r = deepest;
    while (runs_[r].first >= at_end) r = runs_[r].parent;
    end_of(at) = at_end < runs_[r].end() ? cut(r, at_end) : r;
    --unplaced_;
  }
  return {known, depth};
}

// Leaves that no request has spoken for are placed nevertheless, so that they can be evicted. Those
// for which there is no memory go on waiting.
void reuse_index_policy::adopt_orphans() {
  std::size_t placed = 0;
  for (; placed < orphans_.size(); ++placed) {
    const node_id n = orphans_[placed];
    if (end_of(n) != no_run) continue;
    if (!room_for_runs(runs_of_adoption())) break;
    adopt(n, {});
    for (run_id r = end_of(n); r != root_run && runs_[r].uses == 0; r = runs_[r].parent) {
      runs_[r].turn = now_;
      unnote(r);  // an orphan above may have been placed before
      note(r, 0);
    }
    if (tree_->children(n) != 0) continue;
    lead(n);
    look_again(end_of(n));
  }
  orphans_.erase(orphans_.begin(), orphans_.begin() + static_cast<std::ptrdiff_t>(placed));
}

// Room for it among the orphans is made when the tree changes.
void reuse_index_policy::wait_for_request(node_id n) {
  if (std::find(orphans_.begin(), orphans_.end(), n) == orphans_.end()) orphans_.push_back(n);
}

// Stamps a run with this turn. What it was until now has been used.
void reuse_index_policy::use(run_id r, const run_features& features, std::uint32_t tail_from,
                             bool again) {
  run& at = runs_[r];
  if (log_entry* const e = again ? nullptr : log_.find(r, at.log)) {
    const std::uint32_t bin = bin_of(at.turn);
    for (std::uint32_t b = e->bin; b < bin; ++b) outlived(*e, b);
    if (bin < bins && e->body > 0) teach({e->features, bin, true, e->body, 1});
    if (bin < bins && e->tail > 0) teach({run_features::of_tail(), bin, true, e->tail, 1});
  }
  shadow_.move(at.uses > 0, at.turn, at.blocks);
  at.features = features;
  at.features.set(run_features::uses, run_features::uses_category(at.uses));
  at.features.set(run_features::children, run_features::children_category(at.children_ever));
  at.features.set(run_features::depth, run_features::depth_category(static_cast<std::uint32_t>(
                                           std::uint64_t{at.first} * block_tokens_ / 512)));
  at.tail = at.end() > tail_from ? std::min(at.blocks, at.end() - tail_from) : 0;
  if (!again || at.uses == 0) at.uses = static_cast<std::uint16_t>(std::min(65'535, at.uses + 1));
  at.turn = now_;
  unnote(r);
  note(r, 0);
}

// What is known of the requests that use a path like this one's, but for each run's own features.
run_features reuse_index_policy::describe(const request_info& request, const place& known,
                                          const turn_record* last, turn_record& turn) const {
  run_features features;
  if (last != nullptr && last->request == turn.request) {  // the same, told of again
    features = runs_[known.run].features;
    turn.number = last->number;
  } else {
    // What many prompts begin with is where conversations start, not a turn of one.
    const bool starts =
        known.run == root_run || runs_[known.run].children_ever > options_.shared_children;
    turn.number = starts ? 0 : std::min(last != nullptr ? last->number : 0u, 1'000u) + 1;
    features.set(run_features::turn, std::min(5u, turn.number));
    features.set(run_features::fresh, run_features::log2_category(units(turn.end - known.depth)));
    features.set(run_features::pause,
                 last == nullptr
                     ? 7
                     : run_features::pause_category(request.seconds - double{last->seconds}));
    const std::uint32_t rest =
        last != nullptr && last->end > known.depth ? last->end - known.depth : 0;
    features.set(run_features::remnant, run_features::log2_category(units(rest)));
  }
  features.set(run_features::output, run_features::output_category(request.output_tokens));
  return features;
}

void reuse_index_policy::on_request(const request_info& request) {
  const node_id n = request.node;
  if (n == no_node || tree_->is_root(n)) return;
  if (!room_for_runs(runs_of_adoption())) {  // no memory: the use is forgotten
    if (end_of(n) == no_run) wait_for_request(n);
    return;
  }
  const std::uint32_t end = tree_->first_block(n) + tree_->blocks(n);
  constexpr std::size_t notes = 32;  // enough for most paths
  while (!room_in_log(notes) && drop_oldest(true)) {
  }
  runs_.allow(allowance());
  for (std::uint32_t b = 1; b <= bins; ++b)
    if (is_due(b, now_ + 1)) log_.prefetch(cursors_[b]);
  const place known = adopt(n, request.path_hashes);
  const run_id deepest = end_of(n);
  runs_.tell_hashes(deepest, request.path_hashes);

  // By value: the shadow may forget it.
  const turn_record* const found =
      runs_[known.run].uses > 0 ? shadow_.find(runs_[known.run].turn) : nullptr;
  const turn_record before = found != nullptr ? *found : turn_record{};
  const turn_record* const last = found != nullptr ? &before : nullptr;
  ++now_;
  turn_record& turn =
      shadow_.begin(now_, dropped_ < log_.end() ? log_[dropped_].turn : now_, allowance());
  runs_.allow(allowance());
  turn.request = static_cast<std::uint32_t>(request.request);
  turn.seconds = static_cast<float>(request.seconds);
  turn.end = end;
  turn.ends_inside_block = request.ends_inside_block;
  const bool again = last != nullptr && last->request == turn.request;
  const std::uint64_t noted_before = log_.end();
  path_hits hits = use_path(deepest, describe(request, known, last, turn), again);
  // Of a block that was cached in part no policy has the rest.
  if (last != nullptr && last->ends_inside_block && known.depth >= last->end &&
      request.matched_blocks < last->end) {
    hits.lru = std::min(hits.lru, last->end - 1);
    hits.promised = std::min(hits.promised, last->end - 1);
  }
  if (!again) count(request, hits, log_.end() - noted_before);
  if (!orphans_.empty()) adopt_orphans();
  if (tree_->children(n) == 0) lead(n, true);
  tick();
}

// Stamps the runs of a path with this turn. Returns how many of their blocks LRU would have hit,
// and the model where that is asked for.
reuse_index_policy::path_hits reuse_index_policy::use_path(run_id deepest, run_features features,
                                                           bool again) {
  for (run_id r = deepest; r != root_run; r = runs_[r].parent) {
    log_.prefetch(log_.position(runs_[r].log));
    shadow_.prefetch(runs_[r].turn);
  }
  const std::uint32_t end = runs_[deepest].end();
  const std::uint32_t tail = (options_.tail_tokens + block_tokens_ - 1) / block_tokens_;
  path_hits hits;
  std::uint32_t lru_part = 0;
  const std::uint32_t partial_turn = shadow_.partial_turn(), left = shadow_.partial_blocks();
  for (run_id r = deepest; r != root_run; r = runs_[r].parent) {
    count_nodes();
    if (runs_[r].uses > 0 && shadow_.holds(runs_[r].turn)) hits.lru += runs_[r].blocks;
    if (runs_[r].uses > 0 && runs_[r].turn == partial_turn) lru_part += runs_[r].blocks;
    if (guard_.asks_for_promises()) hits.promised = promised_from(runs_[r], hits.promised);
    use(r, features, end > tail ? end - tail : 0, again);
  }
  shadow_.settle();
  hits.lru += std::min(lru_part, left);
  return hits;
}

// `noted`: entries that its path has made.
void reuse_index_policy::count(const request_info& request, const path_hits& of_path,
                               std::uint64_t noted) {
  ++statistics_.requests;
  const std::uint32_t whole = request.prompt_tokens / block_tokens_;
  const std::uint32_t hits = std::min(whole, request.matched_blocks);
  const std::uint32_t lru_hits = std::min(whole, of_path.lru);
  statistics_.blocks += whole;
  statistics_.hit_blocks += hits;
  statistics_.lru_hit_blocks += lru_hits;
  if (guard_.asks_for_promises()) {
    guard_.count_promise(lru_hits, std::min(whole, of_path.promised));
    survey_some(noted);
  }
  guard_.count(whole, hits, lru_hits);
}

}  // namespace radixkv::detail
