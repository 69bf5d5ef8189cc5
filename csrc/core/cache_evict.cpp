// Giving up cached blocks: leaf tails, in the policy's order, never what an open sequence uses.
#include <algorithm>
#include <new>
#include <unordered_set>

#include "csrc/core/cache_core.h"
#include "csrc/core/stage_timer.h"

namespace radixkv::detail {

void cache_core::trim_locked(node_id n, std::uint32_t count, bool evicted) {
  const std::span<const block_id> gone = tree_.tail(n, count);
  if (slots_) {
    for (const block_id b : gone) {
      if (pool_.marked(b)) slots_->drop_anchor(b);
    }
  }
  if (options_.listener) {
    for (std::size_t i = gone.size(); i-- > 0;) {
      if (!pool_.listed(gone[i])) continue;
      pool_.unlist(gone[i]);
      pool_.set_ticket(options_.listener->on_drop(gone[i]));
    }
  }
  const node_id up = tree_.parent(n);
  const bool all = count == tree_.blocks(n);
  pool_.release_tree(gone);
  tree_.trim(n, count, evicted);
  if (all && tree_.is_root(up)) forget_root_locked(up);
}

std::int64_t cache_core::evict_locked(std::int64_t n) {
  const std::int64_t target = pool_.free() + pool_.retiring() + n;
  for (;;) {
    const std::int64_t missing = target - pool_.free() - pool_.retiring();
    if (missing <= 0) return n - missing;
    const victim v = policy_->next_victim();
    if (v.node == no_node) return n - missing;
    const auto count = static_cast<std::uint32_t>(std::min<std::int64_t>(v.blocks, missing));
    trim_locked(v.node, count, true);
    counted_.evicted_blocks += count;
  }
}

bool cache_core::obtain_locked(std::int64_t wanted, block_id spared) {
  if (wanted <= pool_.free()) return true;
  if (pool_.retiring() > 0) pool_.retire(options_.listener->retired());
  const std::int64_t missing = wanted - pool_.free() - pool_.retiring();
  if (missing <= 0) return wanted <= pool_.free();
  if (pool_.tree_held() < missing) return false;
  // The blocks of pinned paths, each counted as often as it is pinned: a bound that needs no walk.
  std::int64_t pinned = 0;
  for (const sequence_state* s = open_; s && pinned <= pool_.tree_held(); s = s->next) {
    pinned += s->path_blocks + 1;
  }
  if (pool_.tree_held() - pinned - pool_.shared() < missing && evictable_locked(spared) < missing) {
    return false;
  }
  const stage_timer timing(stage_times_of_thread().evict);
  (void)evict_locked(missing);
  if (pool_.retiring() > 0) pool_.retire(options_.listener->retired());
  return wanted <= pool_.free();
}

std::string cache_core::room_locked(block_id spared) const {
  std::string text =
      std::to_string(pool_.free() + evictable_locked(spared)) + " are free or can be evicted";
  if (pool_.retiring() > 0) {
    text += ", " + std::to_string(pool_.retiring()) +
            " more were given up and are free once the listener has retired them";
  }
  return text;
}

// Exactly what evict could free: the blocks that the index holds alone, outside of pinned paths.
std::int64_t cache_core::evictable_locked(block_id spared) const {
  std::unordered_set<node_id> whole;  // inner nodes of pinned paths: all of their blocks stay
  std::unordered_set<node_id> ends;
  std::unordered_set<block_id> held;     // by the index outside of pinned paths and by a sequence
  std::unordered_set<block_id> covered;  // by the pin of a sequence that holds them
  std::int64_t kept = 0;
  for (const sequence_state* s = open_; s; s = s->next) {
    ends.insert(s->pinned);
    for (node_id n = s->pinned; !tree_.is_root(n);) {
      n = tree_.parent(n);
      if (tree_.is_root(n) || !whole.insert(n).second) break;
      kept += tree_.blocks(n);
    }
  }
  for (const node_id n : ends) {
    if (!tree_.is_root(n) && !whole.contains(n)) kept += tree_.pinned_blocks(n);
  }
  for (const sequence_state* s = open_; s; s = s->next) {
    // A committed partial tail at the end of the pinned node was counted with it.
    const std::int64_t at = s->path_blocks - tree_.first_block(s->pinned);
    if (!tree_.is_root(s->pinned) && at >= 0 && at < tree_.pinned_blocks(s->pinned)) {
      covered.insert(tree_.block(s->pinned, static_cast<std::uint32_t>(at)));
    }
    for (auto i = static_cast<std::size_t>(s->path_blocks); i < s->table.size(); ++i) {
      if (pool_.tree_holds(s->table[i])) held.insert(s->table[i]);
    }
  }
  if (spared != no_block && pool_.tree_holds(spared)) held.insert(spared);
  for (const block_id b : covered) held.erase(b);
  return std::max<std::int64_t>(0,
                                pool_.tree_held() - kept - static_cast<std::int64_t>(held.size()));
}

std::int64_t cache_core::evict(std::int64_t n) {
  if (n <= 0) return 0;
  guard lock(*this);
  const stage_timer timing(stage_times_of_thread().evict);
  return evict_locked(n);
}

std::int64_t cache_core::clear() {
  guard lock(*this);
  const std::int64_t before = pool_.free() + pool_.retiring();
  for (node_id leaf = 0; leaf < tree_.node_limit(); ++leaf) {
    // Up the path until something is pinned or has another child. No node is made meanwhile.
    node_id n = leaf;
    while (tree_.in_use(n) && tree_.evictable(n)) {
      const node_id up = tree_.parent(n);
      const std::uint32_t count = tree_.blocks(n) - tree_.pinned_blocks(n);
      const bool all = count == tree_.blocks(n);
      const bool last = all && tree_.is_root(up);
      trim_locked(n, count, false);
      if (!all || last) break;
      n = up;
    }
  }
  return pool_.free() + pool_.retiring() - before;
}

bool cache_core::can_allocate(std::int64_t n) const try {
  std::lock_guard lock(mutex_);
  const std::int64_t ready = pool_.free() + pool_.retiring();
  if (n <= ready) return true;
  if (n > ready + pool_.tree_held()) return false;
  return n <= ready + evictable_locked();
} catch (const std::bad_alloc&) {
  return false;
}

void cache_core::keep_prefix_limit_locked() {
  if (options_.max_prefixes == 0) return;
  while (tree_.leaves() > options_.max_prefixes) {
    const victim v = policy_->next_victim();
    if (v.node == no_node) return;
    trim_locked(v.node, v.blocks, true);
    counted_.evicted_blocks += v.blocks;
  }
}

}  // namespace radixkv::detail
