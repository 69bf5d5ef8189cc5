// The policy's invariants, recomputed.
#include <string>

#include "csrc/core/eviction/reuse_index.h"

namespace radixkv::detail {

std::string reuse_index_policy::check() const {
  for (const std::string& wrong : {runs_.check(), log_.check()})
    if (!wrong.empty()) return "reuse_index: " + wrong;
  std::int64_t missing = 0;
  for (run_id r = 1; r < runs_.limit(); ++r)
    if (runs_[r].blocks > 0 && kept_by_lru(runs_[r])) missing += runs_[r].blocks - runs_[r].cached;
  if (missing > shadow_.missing())
    return "reuse_index: " + std::to_string(missing) + " blocks of LRU's are missing, but " +
           std::to_string(shadow_.missing()) + " counted";
  if (!queue_.sound()) return "reuse_index: the queue is broken";
  for (std::uint64_t p = log_.begin(); p != log_.end(); ++p) {
    const run_id r = log_[p].run;
    if (r != no_run && (r >= runs_.limit() || runs_[r].log != static_cast<std::uint32_t>(p)))
      return "reuse_index: entry " + std::to_string(p) + " is not its run's";
  }
  for (std::uint64_t p = log_.begin(); p < oldest_; ++p) {
    const log_entry& e = log_[p];
    if (e.run != no_run && e.run != released_ && e.candidate && tree_->evictable(runs_[e.run].node))
      return "reuse_index: eviction by recency has passed run " + std::to_string(e.run);
  }
  for (std::uint64_t p = log_.begin(); p < beyond_; ++p) {
    const log_entry& e = log_[p];
    if (e.run != no_run && e.candidate && !queue_.is_beyond(e.run))
      return "reuse_index: run " + std::to_string(e.run) + " is not beyond what LRU would keep";
  }
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
