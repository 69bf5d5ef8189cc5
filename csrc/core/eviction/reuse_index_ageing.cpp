// The policy's clock: how runs rank as they age, and what they teach when they outlive a bin.
#include <algorithm>
#include <bit>

#include "csrc/core/eviction/reuse_index.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

// Leaf n's last run may be a victim. soon: it is ranked with others.
void reuse_index_policy::lead(node_id n, bool soon) {
  const run_id r = end_of(n);
  if (r == no_run || r == root_run) return;
  run& at = runs_[r];
  at.node = n;
  const std::uint32_t bin = std::min(bin_of(at.turn), bins - 1);
  if (at.aged_out) {
    rank(r, 0);
  } else if (soon) {
    queue_.set_beyond(r, false);
    if (log_entry* const e = log_.find(r, at.log)) e->candidate = 1;
    rank_soon(r, at.last_is_tail() ? run_features::of_tail() : at.features, bin);
  } else {
    rank(r, at.last_is_tail() ? tail_keys_[bin] : model_.key(at.features, bin));
  }
}

// Lessons wait for some others: they all find the weights in the processor's first cache.
void reuse_index_policy::teach(const lesson& l) {
  waiting_lessons_[lessons_waiting_++] = l;
  if (lessons_waiting_ < waiting_lessons_.size()) return;
  model_.learn(waiting_lessons_);
  lessons_waiting_ = 0;
}

// What a run outlives teaches little each time, and the less the more was learnt before and the
// smaller the run. Of such lessons one for each `quantum_` tokens that outlive the bin is learnt,
// and counts for them all (systematic sampling with probability proportional to size; Madow 1949).
void reuse_index_policy::outlived(const log_entry& e, std::uint32_t bin) {
  ++lessons_;
  const auto learn = [&](run_features f, std::uint32_t tokens, std::uint32_t& credit) {
    credit += tokens;
    if ((credit < quantum_) | (tokens == 0)) return;
    credit = quantum_ == 0 ? 0 : credit - std::max(quantum_, tokens);
    teach({f, bin, false, tokens,
           static_cast<float>(std::max(quantum_, tokens)) / static_cast<float>(tokens)});
  };
  learn(e.features, e.body, credits_[bin][0]);
  learn(run_features::of_tail(), e.tail, credits_[bin][1]);
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
  bool beyond = !kept_by_lru(runs_[r]);
  if (log_entry* const e = log_.find(r, runs_[r].log)) {
    beyond |= log_.position(runs_[r].log) < beyond_;
    e->candidate = 1;
    e->last_is_tail = runs_[r].last_is_tail();
  }
  queue_.set_beyond(r, beyond);
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
    at.aged_out = !room_in_log(1);
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
  e.last_is_tail = r.last_is_tail();
  if (r.uses == 0) return;
  const auto tokens = [this](std::uint64_t blocks, std::uint32_t most) {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(blocks * block_tokens_, most));
  };
  e.body = tokens(r.body(), log_entry::most_body) & 0x1fff;
  e.tail = tokens(r.tail, log_entry::most_tail) & 0xfff;
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
  const std::uint32_t noted = runs_[r].log;
  if (log_.find(r, noted) != nullptr) log_.clear(log_.position(noted));
}

// After a request.
void reuse_index_policy::tick() {
  if (lessons_ > thin_out_) {
    thin_out_ *= 2;
    quantum_ = std::clamp(2 * quantum_, options_.least_quantum, options_.largest_quantum);
  }
  if (now_ % options_.longest_period == 0) refresh_keys();
  for (std::uint32_t b = 1; b <= bins; ++b)
    if (is_due(b, now_)) age(b);
  rank_waiting();
  if (guard_.is_limited()) let_go_of_lru();
  // Recency may not have been asked in long: what it would pass is passed by and by.
  constexpr std::uint32_t requests_apart = 16;
  constexpr std::uint64_t entries_passed = 1024;
  if (now_ % requests_apart == 0) pass_by_recency(entries_passed);
  drop_old();
}

// Marks what LRU would not keep any more. Nobody asks while the guard sets no limit; what has
// gathered since is marked by and by.
void reuse_index_policy::let_go_of_lru() {
  constexpr std::uint32_t most = 1024;  // entries, 16 kB; far more than a request's
  beyond_ = std::max(beyond_, log_.begin());
  for (std::uint32_t i = 0; i < most && beyond_ != log_.end(); ++i) {
    count_entries();
    const log_entry& e = log_[beyond_];
    if (e.run != no_run) {
      if (shadow_.keeps(e.turn)) break;
      if (e.candidate) queue_.set_beyond(e.run, true);
    }
    beyond_ = std::max(beyond_ + 1, log_.cleared_until(beyond_));
  }
}

// Moves every run whose age has reached the bin there.
void reuse_index_policy::age(std::uint32_t bin) {
  std::array<log_entry*, 64> grown;
  // Between two looks for a cleared stretch: shorter ones are as quickly walked through.
  constexpr std::size_t two_lines = 2 * 64 / sizeof(log_entry);
  std::uint64_t& at = cursors_[bin];
  at = std::max(at, log_.begin());  // an older bin may have passed by cleared ones, now dropped
  for (bool more = true; more;) {
    // Which are to move is as good as random, so first they are gathered without a branch.
    std::size_t moved = 0;
    while (more && moved + two_lines <= grown.size()) {
      if (const std::uint64_t past = log_.cleared_until(at); past != at) {
        // Not beyond what is too young: something older may have come behind it (cut).
        if (now_ - log_[past - 1].turn >= edges_[bin]) at = past;
      }
      const std::span<log_entry> entries = log_.stretch(at);
      const std::size_t most = std::min(entries.size(), two_lines);
      std::size_t seen = 0;
      for (; seen < most && now_ - entries[seen].turn >= edges_[bin]; ++seen) {
        grown[moved] = &entries[seen];
        const std::size_t lives = entries[seen].run != no_run;
        moved += lives & static_cast<std::size_t>(entries[seen].bin == bin - 1);
      }
      count_entries(seen);
      at += seen;
      more = seen != 0 && seen == most;
    }
    for (log_entry* const e : std::span(grown).first(moved)) {
      outlived(*e, bin - 1);
      e->bin = bin & 31;
      if (bin != bins && e->candidate)
        rank_soon(e->run, e->last_is_tail ? run_features::of_tail() : e->features, bin);
    }
  }
}

// Ranks a run of the queue, or one that comes there, by and by: keys are computed four at a time,
// and what the queue keeps of the run is fetched meanwhile.
void reuse_index_policy::rank_soon(run_id r, run_features features, std::uint32_t bin) {
  queue_.prefetch(r);
  waiting_runs_[runs_waiting_++] = {r, features, bin};
  if (runs_waiting_ == waiting_runs_.size()) rank_waiting();
}

void reuse_index_policy::rank_waiting() {
  std::array<run_features, 4> features;
  std::array<std::uint32_t, 4> at{};
  std::array<run_id, 4> runs;
  std::uint32_t n = 0;
  const auto put = [&] {
    const std::array<float, 4> keys = model_.keys(features, at);
    for (std::uint32_t i = 0; i < n; ++i) queue_.put(runs[i], keys[i]);
    n = 0;
  };
  for (const ranking& r : std::span(waiting_runs_).first(runs_waiting_)) {
    if (r.features.tail()) {
      queue_.put(r.run, tail_keys_[r.bin]);
      continue;
    }
    features[n] = r.features;
    at[n] = r.bin;
    runs[n] = r.run;
    if (++n == 4) put();
  }
  if (n > 0) put();
  runs_waiting_ = 0;
}

}  // namespace radixkv::detail
