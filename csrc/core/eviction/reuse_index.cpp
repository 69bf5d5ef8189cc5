#include "csrc/core/eviction/reuse_index.h"

#include <algorithm>
#include <cmath>

namespace radixkv::detail {

namespace {
constexpr std::uint32_t tail_tokens = 256;
// The last bin that begins before an age of 64 requests.
constexpr std::uint32_t last_small_bin = 6;
// A run with more continuations than this is a shared beginning.
constexpr std::uint32_t shared_children = 8;
// Small caches get this much for histories, whatever their share.
constexpr std::size_t history_bytes_least = 64 * 1024;
}  // namespace

reuse_index_policy::reuse_index_policy(reuse_index_options options) : options_(options) {
  for (std::uint32_t b = 0; b <= bins; ++b)
    edges_[b] = static_cast<std::uint32_t>(std::ceil(hazard_model::edge(b)));
}

std::uint32_t reuse_index_policy::path_hash_tokens(std::uint32_t block_tokens) const noexcept {
  return std::max(options_.chunk_tokens, block_tokens);
}

void reuse_index_policy::attach(const tree_view& tree, std::int64_t capacity_blocks) {
  tree_ = &tree;
  block_tokens_ = tree.block_tokens();
  const double tokens = static_cast<double>(capacity_blocks) * block_tokens_;
  byte_limit_ = std::max(history_bytes_least,
                         static_cast<std::size_t>(options_.history_bytes_per_token * tokens));
  ghost_limit_ = std::max(8 * capacity_blocks, options_.ghost_tokens_least / block_tokens_);
  runs_.reset(block_tokens_, path_hash_tokens(block_tokens_));
  heap_.clear();
  model_ = {};
  guard_ = {};
  shadow_.reset(capacity_blocks);
  statistics_ = {};
  ends_ = {};
  orphans_ = {};
  now_ = 0;
  log_.assign(64, {});
  log_begin_ = log_end_ = dropped_ = oldest_ = 0;
  cursors_ = {};
}

void reuse_index_policy::on_insert(node_id n) {
  end_of(n) = no_run;  // its place is known when its request comes
}

void reuse_index_policy::on_extend(node_id n, std::uint32_t blocks) {
  run_id r = end_of(n);
  if (r == no_run) return;
  const std::uint32_t depth = runs_[r].first + runs_[r].cached;
  if (depth < runs_[r].end()) r = cut(r, depth);
  if (runs_[r].children == 0) {
    if (runs_[r].uses > 0) shadow_.grow(runs_[r].turn, blocks);
    runs_.extend(r, blocks);
  } else {
    heap_.remove(r);
    r = runs_.add(r, blocks, {});
    runs_.set_cached(r, blocks);
    runs_[r].turn = now_;
    push_log(r);
  }
  end_of(n) = r;
  lead(n);
}

void reuse_index_policy::on_split(node_id upper, node_id lower) {
  run_id r = end_of(lower);
  if (r != no_run) {
    const std::uint32_t depth = tree_->first_block(lower);
    while (runs_[r].first >= depth) r = runs_[r].parent;
    if (depth < runs_[r].end()) r = cut(r, depth);
  }
  end_of(upper) = r;
}

void reuse_index_policy::on_trim(node_id n, std::uint32_t blocks) {
  const run_id r = end_of(n);
  if (r == no_run) return;
  const bool was_tail = runs_[r].last_is_tail();
  const run_id left = uncache(r, blocks);
  end_of(n) = left;
  if (left != r || runs_[r].last_is_tail() != was_tail) lead(n);
}

void reuse_index_policy::on_remove(node_id n, bool) {
  const run_id r = end_of(n);
  if (r == no_run) {
    std::erase(orphans_, n);
    return;
  }
  uncache(r, tree_->blocks(n));
  end_of(n) = no_run;
  const node_id above = tree_->parent(n);
  if (!tree_->is_root(above) && tree_->children(above) == 1) lead(above);
}

void reuse_index_policy::on_unpin(node_id n) {
  if (tree_->is_root(n) || tree_->children(n) != 0) return;
  if (end_of(n) == no_run) {
    // Published, and its request comes now or was given up.
    if (std::find(orphans_.begin(), orphans_.end(), n) == orphans_.end()) orphans_.push_back(n);
    return;
  }
  if (runs_[end_of(n)].heap_place == no_run) lead(n);
}

// Leaves that no request has spoken for are placed nevertheless, so that they can be evicted.
void reuse_index_policy::adopt_orphans() {
  for (const node_id n : orphans_) {
    if (end_of(n) != no_run) continue;
    adopt(n, {});
    for (run_id r = end_of(n); r != root_run && runs_[r].uses == 0; r = runs_[r].parent) {
      runs_[r].turn = now_;
      push_log(r);
    }
    if (tree_->children(n) == 0) lead(n);
  }
  orphans_.clear();
}

void reuse_index_policy::on_request(const request_info& request) {
  const node_id n = request.node;
  if (n == no_node || tree_->is_root(n)) return;
  const std::uint32_t end = tree_->first_block(n) + tree_->blocks(n);
  const auto [known, known_depth] = adopt(n, request.path_hashes);
  const run_id deepest = end_of(n);
  runs_.tell_hashes(deepest, request.path_hashes);

  const turn_record* const last = runs_[known].uses > 0 ? shadow_.find(runs_[known].turn) : nullptr;
  const turn_record continued = last != nullptr ? *last : turn_record{};
  ++now_;
  turn_record& turn = shadow_.begin(now_, dropped_ < log_end_ ? log_at(dropped_).turn : now_);
  turn.request = static_cast<std::uint32_t>(request.request);
  turn.seconds = static_cast<float>(request.seconds);
  turn.end = end;
  const bool again = last != nullptr && continued.request == turn.request;
  run_features features;
  if (again) {
    features = runs_[known].features;
    turn.number = continued.number;
  } else {
    // What many prompts begin with is where conversations start, not a turn of one.
    const bool starts = known == root_run || runs_[known].children_ever > shared_children;
    turn.number = starts ? 0 : std::min(continued.number, 1'000u) + 1;
    features.set(run_features::turn, std::min(5u, turn.number));
    features.set(run_features::fresh, run_features::log2_category(units(end - known_depth)));
    features.set(run_features::pause,
                 last == nullptr
                     ? 7
                     : run_features::pause_category(request.seconds - double{continued.seconds}));
    const std::uint32_t rest = continued.end > known_depth ? continued.end - known_depth : 0;
    features.set(run_features::remnant, run_features::log2_category(units(rest)));
  }
  features.set(run_features::output, run_features::output_category(request.output_tokens));

  const std::uint32_t tail = (tail_tokens + block_tokens_ - 1) / block_tokens_;
  std::uint32_t lru_hits = 0, lru_part = 0;
  const std::uint32_t partial_turn = shadow_.partial_turn(), left = shadow_.partial_blocks();
  for (run_id r = deepest; r != root_run; r = runs_[r].parent) {
    if (runs_[r].uses > 0 && shadow_.holds(runs_[r].turn)) lru_hits += runs_[r].blocks;
    if (runs_[r].uses > 0 && runs_[r].turn == partial_turn) lru_part += runs_[r].blocks;
    use(r, features, end > tail ? end - tail : 0, again);
  }
  shadow_.settle();
  if (!again) {
    ++statistics_.requests;
    const std::uint32_t whole = request.prompt_tokens / block_tokens_;
    statistics_.blocks += whole;
    statistics_.hit_blocks += std::min(whole, request.matched_blocks);
    lru_hits = std::min(whole, lru_hits + std::min(lru_part, left));
    statistics_.lru_hit_blocks += lru_hits;
    if (guard_.count(std::min(whole, request.matched_blocks), lru_hits)) oldest_ = log_begin_;
  }
  if (tree_->children(n) == 0) lead(n);
  if (!orphans_.empty()) adopt_orphans();
  age();
  drop_old();
}

victim reuse_index_policy::next_victim() {
  if (!orphans_.empty()) adopt_orphans();
  // The log is in order of recency, children before their parents.
  if (guard_.by_recency())
    for (oldest_ = std::max(oldest_, log_begin_); oldest_ != log_end_; ++oldest_) {
      const log_entry& e = log_at(oldest_);
      const run& last = runs_[e.run];
      if (last.turn == e.turn && last.heap_place != no_run && tree_->evictable(last.node))
        return tail_of(last);
    }
  while (!heap_.empty()) {
    const run& last = runs_[heap_.top()];
    if (tree_->evictable(last.node)) return tail_of(last);
    heap_.remove(heap_.top());  // comes back when it is let go
  }
  return {};
}

victim reuse_index_policy::tail_of(const run& last) const {
  const std::uint32_t blocks = last.last_is_tail() ? last.cached - last.body() : last.cached;
  return {last.node, std::min(blocks, tree_->blocks(last.node) - tree_->pinned_blocks(last.node))};
}

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
  if (top == n) return {start, depth};
  const std::uint32_t end = tree_->first_block(n) + tree_->blocks(n);
  if (depth < runs_[start].end()) start = end_of(top) = cut(start, depth);
  heap_.remove(start);
  run_id known = runs_.follow(start, depth, end, hashes);
  // Nothing of it agreed: the path parts where its parent ends.
  if (known != start && depth <= runs_[known].first) known = runs_[known].parent;
  if (depth < runs_[known].end()) known = cut(known, depth);
  run_id deepest = known;
  if (depth < end) deepest = runs_.add(known, end - depth, hashes);
  for (run_id r = deepest; r != start; r = runs_[r].parent) runs_.set_cached(r, runs_[r].blocks);
  end_of(n) = deepest;
  for (node_id below = n, at = tree_->parent(n); at != top; below = at, at = tree_->parent(at)) {
    const std::uint32_t at_end = tree_->first_block(below);
    run_id r = deepest;
    while (runs_[r].first >= at_end) r = runs_[r].parent;
    end_of(at) = at_end < runs_[r].end() ? cut(r, at_end) : r;
  }
  return {known, depth};
}

// Stamps a run with this turn. What it was until now has been used.
void reuse_index_policy::use(run_id r, const run_features& features, std::uint32_t tail_from,
                             bool again) {
  run& at = runs_[r];
  if (at.uses > 0 && !again) teach(at, true, 1);
  shadow_.move(at.uses > 0, at.turn, at.blocks);
  at.features = features;
  at.features.set(run_features::uses, run_features::uses_category(at.uses));
  at.features.set(run_features::children, run_features::children_category(at.children_ever));
  at.features.set(run_features::depth, run_features::depth_category(static_cast<std::uint32_t>(
                                           std::uint64_t{at.first} * block_tokens_ / 512)));
  at.tail = at.end() > tail_from ? std::min(at.blocks, at.end() - tail_from) : 0;
  if (!again || at.uses == 0) at.uses = static_cast<std::uint16_t>(std::min(65'535, at.uses + 1));
  at.turn = now_;
  at.bin = 0;
  push_log(r);
}

run_id reuse_index_policy::cut(run_id r, std::uint32_t depth) {
  const run_id upper = runs_.split(r, depth);
  if (runs_[r].cached == 0) heap_.remove(r);
  push_log(upper);
  return upper;
}

// The path that ends in r loses its last cached blocks. Returns the run in which it then ends.
run_id reuse_index_policy::uncache(run_id r, std::uint32_t blocks) {
  while (blocks > 0) {
    const std::uint32_t some = std::min(runs_[r].cached, blocks);
    runs_.set_cached(r, runs_[r].cached - some);
    blocks -= some;
    if (runs_[r].cached > 0) break;
    heap_.remove(r);
    const run_id above = runs_[r].parent;
    if (runs_[r].aged_out && runs_[r].children == 0) drop(r);
    r = above;
  }
  return r;
}

// Leaf n's last run may be a victim.
void reuse_index_policy::lead(node_id n) {
  const run_id r = end_of(n);
  if (r == no_run || r == root_run) return;
  runs_[r].node = n;
  rank(r);
}

void reuse_index_policy::teach(const run& r, bool used, float times) {
  const float unit = static_cast<float>(block_tokens_) / 512.0f;
  if (r.body() > 0)
    model_.learn(r.features, r.bin, used, static_cast<float>(r.body()) * unit, times);
  if (r.tail > 0)
    model_.learn(run_features::of_tail(), r.bin, used, static_cast<float>(r.tail) * unit, times);
}

void reuse_index_policy::rank(run_id r) {
  const run& at = runs_[r];
  heap_.put(r, model_.key(at.last_is_tail() ? run_features::of_tail() : at.features, at.bin));
}

void reuse_index_policy::push_log(run_id r) {
  runs_[r].aged_out = false;
  if (log_end_ - log_begin_ == log_.size()) {
    std::vector<log_entry> larger(2 * log_.size());
    for (std::uint64_t i = log_begin_; i != log_end_; ++i)
      larger[i & (larger.size() - 1)] = log_at(i);
    log_ = std::move(larger);
  }
  log_at(log_end_++) = {r, runs_[r].turn};
}

// Moves every run whose age has reached the next bin there.
void reuse_index_policy::age() {
  // Old runs go in batches, which finds the model's weights in the processor's cache.
  for (std::uint32_t b = 1; b <= (now_ % 16 == 0 ? bins : last_small_bin); ++b)
    for (; cursors_[b] != log_end_; ++cursors_[b]) {
      const log_entry& e = log_at(cursors_[b]);
      if (now_ - e.turn < edges_[b]) break;
      if (cursors_[b] + 4 < log_end_) runs_.prefetch(log_at(cursors_[b] + 4).run);
      step(e, b);
    }
}

void reuse_index_policy::step(const log_entry& e, std::uint32_t bin) {
  run& at = runs_[e.run];
  if (at.blocks == 0 || at.turn != e.turn || at.bin != bin - 1) return;
  // Outliving is common and tells little each time: every second one, chosen at random, counts
  // twice.
  const std::uint32_t coin = (e.run * 0x9e3779b1u) ^ ((e.turn + bin) * 0x85ebca6bu);
  if (at.uses > 0 && ((coin >> 16) & 1) != 0) teach(at, false, 2);
  if (bin == bins) return;
  at.bin = static_cast<std::uint8_t>(bin);
  if (at.heap_place != no_run) rank(e.run);
}

// Forgets the oldest ghosts beyond the limits, and the log where nothing needs it any more.
void reuse_index_policy::drop_old() {
  while (dropped_ != log_end_) {
    const bool log_full = (log_end_ - log_begin_) * sizeof(log_entry) > byte_limit_ / 4;
    if (runs_.ghost_blocks() <= ghost_limit_ && history_bytes() <= byte_limit_ && !log_full) break;
    const log_entry e = log_at(dropped_);
    if (e.turn == now_) break;
    ++dropped_;
    run& at = runs_[e.run];
    if (at.blocks != 0 && at.turn == e.turn) {
      at.aged_out = true;
      if (at.cached == 0 && at.children == 0) drop(e.run);
    }
    if (log_full)  // its runs stay in the bins where they are
      for (std::uint64_t& c : cursors_) c = std::max(c, dropped_);
    log_begin_ = std::min(dropped_, cursors_[bins]);
  }
  log_begin_ = std::min(dropped_, cursors_[bins]);
}

void reuse_index_policy::drop(run_id r) {
  for (;;) {
    r = runs_.remove(r);
    const run& above = runs_[r];
    if (r == root_run || above.cached > 0 || above.children > 0 || !above.aged_out) return;
  }
}

std::size_t reuse_index_policy::history_bytes() const {
  return runs_.used_bytes() + (log_end_ - log_begin_) * sizeof(log_entry) + shadow_.bytes();
}

std::size_t reuse_index_policy::bytes() const noexcept {
  return runs_.bytes() + heap_.bytes() + shadow_.bytes() + log_.capacity() * sizeof(log_entry) +
         ends_.capacity() * sizeof(run_id);
}

std::string reuse_index_policy::check() const {
  if (std::string wrong = runs_.check(); !wrong.empty()) return "reuse_index: " + wrong;
  if (!heap_.sound()) return "reuse_index: the heap is out of order";
  std::int64_t cached = 0;
  for (node_id n = 0; n < ends_.size(); ++n) {
    const run_id r = ends_[n];
    if (r == no_run) continue;
    const std::string name = "reuse_index: node " + std::to_string(n);
    if (r >= runs_.limit() || runs_[r].cached == 0)
      return name + " ends in a run that is not cached";
    if (runs_[r].first + runs_[r].cached != tree_->first_block(n) + tree_->blocks(n))
      return name + " does not end where its run does";
    cached += tree_->blocks(n);
    if (tree_->evictable(n) && runs_[r].heap_place == no_run) return name + " can never be evicted";
  }
  if (cached != runs_.cached_blocks())
    return "reuse_index: nodes have " + std::to_string(cached) + " blocks, runs " +
           std::to_string(runs_.cached_blocks());
  return {};
}

}  // namespace radixkv::detail
