// The policy's events: which run a node ends in, what a request tells about the runs of its path,
// and which goes next.
#include "csrc/core/eviction/reuse_index.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "csrc/core/eviction/node_states.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

namespace {
constexpr std::uint32_t tail_tokens = 256;
// A bin is looked at so often that no run is late by more than this share of its age, which costs
// hits where it is an eighth (1 % with 16-token blocks), and not measurably from 1/32 on.
constexpr std::uint32_t lateness = 32;
constexpr std::uint32_t longest_period = 64;  // requests
// Everything is learnt for this many lessons; then they thin out as the model's own steps shorten.
constexpr std::uint64_t full_lessons = 20'000;
constexpr std::uint32_t least_quantum = 1280, largest_quantum = 20'480;  // tokens
// A run with more continuations than this is a shared beginning.
constexpr std::uint32_t shared_children = 8;
// Small caches get this much for histories, whatever their share.
constexpr std::size_t history_bytes_least = 64 * 1024;
}  // namespace

reuse_index_policy::reuse_index_policy(reuse_index_options options) : options_(options) {
  for (std::uint32_t b = 0; b <= bins; ++b) {
    edges_[b] = static_cast<std::uint32_t>(std::ceil(hazard_model::edge(b)));
    periods_[b] = std::bit_floor(std::clamp(edges_[b] / lateness, 1u, longest_period));
  }
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
  queue_.clear();
  model_ = {};
  guard_ = lru_guard(capacity_blocks);
  released_ = no_run;
  refresh_keys();
  shadow_.reset(capacity_blocks);
  statistics_ = {};
  ends_ = {};
  orphans_ = {};
  unplaced_ = 0;
  now_ = 0;
  lessons_ = 0;
  lessons_waiting_ = 0;
  waiting_.size = 0;
  thin_out_ = full_lessons;
  quantum_ = 0;
  credits_ = {};
  log_ = {};
  dropped_ = oldest_ = 0;
  cursors_ = {};
}

void reuse_index_policy::on_insert(node_id n) {
  end_of(n) = no_run;  // its place is known when its request comes
  ++unplaced_;
}

// A split cuts a run; a request cuts two and makes one, and one more for each node that it places.
bool reuse_index_policy::make_room(node_id limit) noexcept {
  constexpr std::size_t most = 8;
  const std::size_t runs = unplaced_ + most;
  // Ghosts make way rather than that memory is taken beyond the limit.
  constexpr std::size_t run_bytes = sizeof(run) + key_queue::bytes_per_run;
  while (!runs_.has_room(runs) && allowance() < runs * run_bytes && drop_oldest(false)) {
  }
  const std::size_t spare = allowance() / run_bytes;
  // Where what is cached needs more than the limit, growth is by a share again: else it would cost
  // more each time.
  if (!runs_.reserve(runs, spare < runs ? runs_.capacity() : spare - runs)) return false;
  if (!queue_.reserve(runs_.capacity())) return false;
  if (!grow_to(ends_, limit, no_run)) return false;
  runs_.allow(allowance());
  try {
    if (orphans_.capacity() < unplaced_ + 1) orphans_.reserve(2 * unplaced_ + 16);
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
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
  if (left != r || runs_[r].last_is_tail() != was_tail) lead(n);
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
  if (!tree_->is_root(above) && tree_->children(above) == 1) lead(above);
}

void reuse_index_policy::on_unpin(node_id n) {
  if (tree_->is_root(n) || tree_->children(n) != 0) return;
  if (end_of(n) == no_run) {
    // Published, and its request comes now or was given up.
    if (std::find(orphans_.begin(), orphans_.end(), n) == orphans_.end()) orphans_.push_back(n);
    return;
  }
  if (queue_.contains(end_of(n))) return;
  settle_release();
  released_ = end_of(n);
  lead(n);
}

// Leaves that no request has spoken for are placed nevertheless, so that they can be evicted.
void reuse_index_policy::adopt_orphans() {
  for (const node_id n : orphans_) {
    if (end_of(n) != no_run) continue;
    adopt(n, {});
    for (run_id r = end_of(n); r != root_run && runs_[r].uses == 0; r = runs_[r].parent) {
      runs_[r].turn = now_;
      note(r, 0);
    }
    if (tree_->children(n) == 0) lead(n);
  }
  orphans_.clear();
}

void reuse_index_policy::on_request(const request_info& request) {
  const node_id n = request.node;
  if (n == no_node || tree_->is_root(n)) return;
  const std::uint32_t end = tree_->first_block(n) + tree_->blocks(n);
  constexpr std::size_t notes = 32;  // enough for most paths
  while (!log_.has_room(notes) && !log_.reserve(notes, allowance()) && drop_oldest(true)) {
  }
  runs_.allow(allowance());
  const auto [known, known_depth] = adopt(n, request.path_hashes);
  const run_id deepest = end_of(n);
  runs_.tell_hashes(deepest, request.path_hashes);

  const turn_record* const last = runs_[known].uses > 0 ? shadow_.find(runs_[known].turn) : nullptr;
  const turn_record continued = last != nullptr ? *last : turn_record{};
  ++now_;
  turn_record& turn =
      shadow_.begin(now_, dropped_ < log_.end() ? log_[dropped_].turn : now_, allowance());
  runs_.allow(allowance());
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
    count_nodes();
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
    if (guard_.count(std::min(whole, request.matched_blocks), lru_hits)) oldest_ = log_.begin();
  }
  if (tree_->children(n) == 0) lead(n);
  if (!orphans_.empty()) adopt_orphans();
  if (lessons_ > thin_out_) {
    thin_out_ *= 2;
    quantum_ = std::clamp(2 * quantum_, least_quantum, largest_quantum);
  }
  if (now_ % longest_period == 0) refresh_keys();
  for (std::uint32_t b = 1; b <= bins; ++b)
    if ((now_ & (periods_[b] - 1)) == 0) age(b);
  if (waiting_.size > 0) rank_waiting();
  drop_old();
}

victim reuse_index_policy::next_victim() {
  if (!orphans_.empty()) adopt_orphans();
  const std::int64_t allowance = guard_.allowance(shadow_.missing());
  const auto held_by_lru = [this](const run& r) { return r.uses > 0 && shadow_.holds(r.turn); };
  if (guard_.by_recency() || allowance <= 0) {
    // What was aged out is older than all the log has.
    const run_id first = queue_.holds_least() ? queue_.front() : no_run;
    if (first == no_run || held_by_lru(runs_[first]))
      if (const run_id r = least_recent(); r != no_run) return tail_of(runs_[r]);
  }
  for (run_id r; (r = queue_.front()) != no_run; unrank(r)) {  // comes back when it is let go
    count_nodes();
    const run& last = runs_[r];
    if (!tree_->evictable(last.node)) continue;
    victim v = tail_of(last);
    if (held_by_lru(last))
      v.blocks = static_cast<std::uint32_t>(
          std::clamp<std::int64_t>(allowance, 1, std::int64_t{v.blocks}));
    return v;
  }
  return {};
}

// The victim by recency. The log is in order of recency, children before their parents.
run_id reuse_index_policy::least_recent() {
  settle_release();
  for (oldest_ = std::max(oldest_, log_.begin()); oldest_ != log_.end(); ++oldest_) {
    count_entries();
    const log_entry& e = log_[oldest_];
    if (e.run != no_run && e.candidate && tree_->evictable(runs_[e.run].node)) return e.run;
  }
  return no_run;
}

// A run that was let go of lies where it did, unless its request has followed.
void reuse_index_policy::settle_release() {
  if (released_ == no_run) return;
  const std::uint32_t noted = runs_[released_].log;
  if (log_.find(released_, noted) != nullptr) oldest_ = std::min(oldest_, log_.position(noted));
  released_ = no_run;
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

std::size_t reuse_index_policy::history_bytes() const {
  constexpr std::size_t small_reserves = 1024;  // what make_room keeps ready
  return runs_.used_bytes() + runs_.runs() * (key_queue::bytes_per_run * 5 / 4) +
         log_.used_bytes() + shadow_.bytes() + small_reserves;
}

std::size_t reuse_index_policy::bytes() const noexcept {
  return remembered_bytes() + ends_.capacity() * sizeof(run_id) +
         orphans_.capacity() * sizeof(node_id);
}

std::size_t reuse_index_policy::remembered_bytes() const {
  return runs_.bytes() + queue_.bytes() + shadow_.bytes() + log_.bytes();
}

// Bytes that may still be taken.
std::size_t reuse_index_policy::allowance() const {
  const std::size_t taken = remembered_bytes();
  return taken < byte_limit_ ? byte_limit_ - taken : 0;
}

std::string reuse_index_policy::check() const {
  if (std::string wrong = runs_.check(); !wrong.empty()) return "reuse_index: " + wrong;
  std::int64_t missing = 0;
  for (run_id r = 1; r < runs_.limit(); ++r)
    if (runs_[r].blocks > 0 && runs_[r].uses > 0 && shadow_.holds(runs_[r].turn))
      missing += runs_[r].blocks - runs_[r].cached;
  if (missing > shadow_.missing())
    return "reuse_index: " + std::to_string(missing) + " blocks of LRU's are missing, but " +
           std::to_string(shadow_.missing()) + " counted";
  if (!queue_.sound()) return "reuse_index: the queue is broken";
  std::int64_t cached = 0;
  if (orphans_.size() > unplaced_) return "reuse_index: more orphans than nodes without a place";
  for (node_id n = 0; n < ends_.size(); ++n) {
    const run_id r = ends_[n];
    if (r == no_run) continue;
    const std::string name = "reuse_index: node " + std::to_string(n);
    if (r >= runs_.limit() || runs_[r].cached == 0)
      return name + " ends in a run that is not cached";
    if (runs_[r].first + runs_[r].cached != tree_->first_block(n) + tree_->blocks(n))
      return name + " does not end where its run does";
    cached += tree_->blocks(n);
    if (tree_->evictable(n) && !queue_.contains(r)) return name + " can never be evicted";
  }
  if (cached != runs_.cached_blocks())
    return "reuse_index: nodes have " + std::to_string(cached) + " blocks, runs " +
           std::to_string(runs_.cached_blocks());
  return {};
}

}  // namespace radixkv::detail
