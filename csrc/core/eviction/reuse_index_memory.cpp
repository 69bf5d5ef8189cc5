// What the policy remembers within its bytes: room is made by forgetting the oldest ghosts.
#include <algorithm>
#include <new>

#include "csrc/core/eviction/reuse_index.h"

namespace radixkv::detail {

namespace {
// Small caches get this much for histories, whatever their share.
constexpr std::size_t history_bytes_least = 64 * 1024;
}  // namespace

void reuse_index_policy::set_limits(std::int64_t capacity_blocks) {
  const double tokens = static_cast<double>(capacity_blocks) * block_tokens_;
  byte_limit_ = std::max(history_bytes_least,
                         static_cast<std::size_t>(options_.history_bytes_per_token * tokens));
  ghost_limit_ = std::max(options_.ghost_capacities * capacity_blocks,
                          options_.ghost_tokens_least / block_tokens_);
}

// Makes room for so many runs more. Ghosts make way rather than that memory is taken beyond the
// limit.
bool reuse_index_policy::room_for_runs(std::size_t runs) noexcept {
  if (runs_.has_room(runs) && queue_.has_room(runs_.capacity())) return true;
  constexpr std::size_t run_bytes = sizeof(run) + key_queue::bytes_per_run;
  while (!runs_.has_room(runs) && allowance() < runs * run_bytes && drop_oldest(false)) {
  }
  const std::size_t spare = allowance() / run_bytes;
  // Where what is cached needs more than the limit, growth is by a share again: else it would cost
  // more each time.
  return runs_.reserve(runs, spare < runs ? runs_.capacity() : spare - runs) &&
         queue_.reserve(runs_.capacity());
}

// Makes room for so many entries more. What cleared ones take is given back first, where they are a
// third or more: so often that the log takes little more than its runs need, so seldom that each
// entry is moved less than twice for each that comes. (Runs that have aged out or found no memory
// count as if they had an entry; then it is more seldom.)
bool reuse_index_policy::room_in_log(std::size_t entries) noexcept {
  if (log_.has_room(entries)) return true;
  if (2 * log_.size() >= 3 * runs_.runs()) close_gaps_in_log();
  return log_.reserve(entries, allowance());
}

void reuse_index_policy::close_gaps_in_log() noexcept {
  std::array<std::uint64_t*, bins + 5> places;
  for (std::uint32_t b = 0; b <= bins; ++b) places[b] = &cursors_[b];
  places[bins + 1] = &oldest_;
  places[bins + 2] = &dropped_;
  places[bins + 3] = &beyond_;
  places[bins + 4] = &surveyed_;
  std::sort(places.begin(), places.end(), [](auto* a, auto* b) { return *a < *b; });
  log_.close_gaps(places, [this](run_id r, std::uint64_t position) {
    runs_[r].log = static_cast<std::uint32_t>(position);
  });
}

// Before a change of the tree: a split cuts a run, more blocks of a leaf cut one and make one. What
// a request does is seen to when it comes: many may end between two changes.
bool reuse_index_policy::make_room(node_id limit) noexcept {
  if (!room_for_runs(runs_of_adoption())) return false;
  if (!ends_.grow_to(limit, no_run)) return false;
  runs_.allow(allowance());
  try {
    if (orphans_.capacity() < unplaced_ + 1) orphans_.reserve(2 * unplaced_ + 16);
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

std::size_t reuse_index_policy::history_bytes() const {
  constexpr std::size_t small_reserves = 1024;  // what make_room keeps ready
  return runs_.used_bytes() + runs_.runs() * (key_queue::bytes_per_run * 5 / 4) +
         log_.used_bytes() + shadow_.bytes() + small_reserves;
}

std::size_t reuse_index_policy::bytes() const noexcept {
  return remembered_bytes() + ends_.bytes() + orphans_.capacity() * sizeof(node_id);
}

std::size_t reuse_index_policy::remembered_bytes() const {
  return runs_.bytes() + queue_.bytes() + shadow_.bytes() + log_.bytes();
}

// Bytes that may still be taken.
std::size_t reuse_index_policy::allowance() const {
  const std::size_t taken = remembered_bytes();
  return taken < byte_limit_ ? byte_limit_ - taken : 0;
}

// Forgets the oldest ghosts beyond the limits, and the log where nothing needs it any more. Cleared
// entries of the log count, but cannot be many: room_in_log closes gaps rather than that it grows.
void reuse_index_policy::drop_old() {
  while ((runs_.ghost_blocks() > ghost_limit_ || history_bytes() > byte_limit_) &&
         drop_oldest(false)) {
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
