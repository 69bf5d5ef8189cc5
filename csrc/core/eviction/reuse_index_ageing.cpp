// The policy's clock: how runs rank as they age, what they teach when they outlive a bin, and how
// the oldest are forgotten.
#include <algorithm>
#include <bit>

#include "csrc/core/eviction/reuse_index.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

// Leaf n's last run may be a victim.
void reuse_index_policy::lead(node_id n) {
  const run_id r = end_of(n);
  if (r == no_run || r == root_run) return;
  run& at = runs_[r];
  at.node = n;
  const std::uint32_t bin = std::min(bin_of(at.turn), bins - 1);
  rank(r, at.aged_out ? 0 : at.last_is_tail() ? tail_keys_[bin] : model_.key(at.features, bin));
}

// Lessons wait for some others: they all find the weights in the processor's first cache.
void reuse_index_policy::teach(const lesson& l) {
  waiting_lessons_[lessons_waiting_++] = l;
  if (lessons_waiting_ < waiting_lessons_.size()) return;
  for (const lesson& w : waiting_lessons_)
    model_.learn(w.features, w.bin, w.used, w.tokens, w.times);
  lessons_waiting_ = 0;
}

// What a run outlives teaches little each time, and the less the more was learnt before and the
// smaller the run. Of such lessons one for each `quantum_` tokens that outlive the bin is learnt,
// and counts for them all (systematic sampling with probability proportional to size; Madow 1949).
void reuse_index_policy::outlived(const log_entry& e, std::uint32_t bin) {
  ++lessons_;
  const auto learn = [&](run_features f, std::uint32_t tokens, std::uint32_t& credit) {
    credit += tokens;
    if (credit < quantum_) return;
    credit = quantum_ == 0 ? 0 : credit - std::max(quantum_, tokens);
    teach({f, bin, false, tokens,
           static_cast<float>(std::max(quantum_, tokens)) / static_cast<float>(tokens)});
  };
  if (e.body > 0) learn(e.features, e.body, credits_[bin][0]);
  if (e.tail > 0) learn(run_features::of_tail(), e.tail, credits_[bin][1]);
}

// Of a run that was last used at `turn`; bins if it is older than the last one.
std::uint32_t reuse_index_policy::bin_of(std::uint32_t turn) const {
  const std::uint32_t age = now_ - turn;
  // edge(b) = 8 (2^(b/2) − 1): twice the logarithm, to one less or more.
  std::uint32_t b = 2 * (static_cast<std::uint32_t>(std::bit_width(age / 8 + 1)) - 1);
  while (b < bins && age >= edges_[b + 1]) ++b;
  return std::min(b, bins);
}

void reuse_index_policy::rank(run_id r, float key) {
  queue_.put(r, key);
  if (log_entry* const e = log_.find(r, runs_[r].log)) e->candidate = 1;
}

void reuse_index_policy::unrank(run_id r) {
  if (!queue_.contains(r)) return;
  queue_.remove(r);
  if (log_entry* const e = log_.find(r, runs_[r].log)) e->candidate = 0;
}

// Writes the run's entry. Without memory for it the run does not age, and is forgotten when
// evicted.
void reuse_index_policy::note(run_id r, std::uint32_t bin) {
  run& at = runs_[r];
  at.aged_out = false;
  if (!log_.has_room(1)) {
    at.aged_out = !log_.reserve(1, allowance());
    if (at.aged_out) return;
    runs_.allow(allowance());
  }
  log_entry e;
  e.run = r;
  e.turn = at.turn;
  e.features = at.features;
  e.bin = bin & 31;
  e.candidate = queue_.contains(r);
  measure(e, at);
  at.log = static_cast<std::uint32_t>(log_.push(e));
}

void reuse_index_policy::measure(log_entry& e, const run& r) const {
  if (r.uses == 0) return;
  const auto tokens = [this](std::uint64_t blocks) {
    return static_cast<std::uint32_t>(
               std::min<std::uint64_t>(blocks * block_tokens_, log_entry::most_tokens)) &
           0x1fff;
  };
  e.body = tokens(r.body());
  e.tail = tokens(r.tail);
}

void reuse_index_policy::refresh_keys() {
  model_.prepare_keys();
  for (std::uint32_t b = 0; b < bins; ++b) tail_keys_[b] = model_.key(run_features::of_tail(), b);
}

status reuse_index_policy::load(std::span<const std::byte> bytes) {
  status done = model_.load(bytes);
  if (done) refresh_keys();
  return done;
}

void reuse_index_policy::unnote(run_id r) {
  if (log_entry* const e = log_.find(r, runs_[r].log)) e->run = no_run;
}

// Moves every run whose age has reached the bin there.
void reuse_index_policy::age(std::uint32_t bin) {
  std::uint64_t& at = cursors_[bin];
  for (; at != log_.end(); ++at) {
    count_entries();
    log_entry& e = log_[at];
    if (now_ - e.turn < edges_[bin]) break;
    if (e.run == no_run || e.bin != bin - 1) continue;
    outlived(e, bin - 1);
    e.bin = bin & 31;
    if (bin == bins || !e.candidate) continue;
    if (runs_[e.run].last_is_tail()) {
      queue_.put(e.run, tail_keys_[bin]);
    } else {
      waiting_.features[waiting_.size] = e.features;
      waiting_.bins[waiting_.size] = bin;
      waiting_.runs[waiting_.size++] = e.run;
      if (waiting_.size == 4) rank_waiting();
    }
  }
}

void reuse_index_policy::rank_waiting() {
  const std::array<float, 4> keys = model_.keys(waiting_.features, waiting_.bins);
  for (std::uint32_t i = 0; i < waiting_.size; ++i) queue_.put(waiting_.runs[i], keys[i]);
  waiting_.size = 0;
}

// Forgets the oldest ghosts beyond the limits, and the log where nothing needs it any more.
void reuse_index_policy::drop_old() {
  for (;;) {
    const bool log_full = log_.used_bytes() > byte_limit_ / 4;
    if (runs_.ghost_blocks() <= ghost_limit_ && history_bytes() <= byte_limit_ && !log_full) break;
    if (!drop_oldest(log_full)) break;
  }
  log_.drop_before(std::max(log_.begin(), std::min(dropped_, cursors_[bins])));
}

// Forgets the run used longest ago, if it is a ghost without descendants, else when it becomes one.
// False if none is older than the newest turn. from_log: its runs stay in the bins where they are.
bool reuse_index_policy::drop_oldest(bool from_log) {
  if (dropped_ == log_.end()) return false;
  const log_entry e = log_[dropped_];
  if (e.turn == now_) return false;
  if (e.run != no_run) {
    run& at = runs_[e.run];
    at.aged_out = true;
    if (queue_.contains(e.run)) rank(e.run, 0);
    if (at.cached == 0 && at.children == 0) drop(e.run);
  }
  ++dropped_;
  if (from_log) {
    for (std::uint64_t& c : cursors_) c = std::max(c, dropped_);
    log_.drop_before(dropped_);
  }
  return true;
}

void reuse_index_policy::drop(run_id r) {
  for (;;) {
    unnote(r);
    r = runs_.remove(r);
    const run& above = runs_[r];
    if (r == root_run || above.cached > 0 || above.children > 0 || !above.aged_out) return;
  }
}

}  // namespace radixkv::detail
