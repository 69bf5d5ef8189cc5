// Giving up cached blocks: leaf tails, in the policy's order, never what an open sequence uses.
#include <algorithm>
#include <new>

#include "csrc/core/cache_core.h"
#include "csrc/core/stage_timer.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

// What others know of blocks that the index is about to give up.
void cache_core::forget_outside_locked(std::span<const block_id> gone) {
  if (slots_) {
    for (const block_id b : gone) {
      if (pool_.marked(b)) slots_->drop_anchor(b);
    }
  }
  if (!options_.listener) return;
  for (std::size_t i = gone.size(); i-- > 0;) {
    if (!pool_.listed(gone[i])) continue;
    pool_.unlist(gone[i]);
    pool_.set_ticket(options_.listener->on_drop(gone[i]));
  }
}

void cache_core::trim_locked(node_id n, std::uint32_t count, bool evicted) {
  const std::span<const block_id> gone = tree_.tail(n, count);
  if (slots_ || options_.listener) forget_outside_locked(gone);
  count_entries(count);
  node_id bare;
  {
    const room_scope of(*this, policy_->quotas().root_of(n));
    pool_.release_tree(gone);
    bare = tree_.trim(n, count, evicted);
  }
  if (bare != no_node) forget_root_locked(bare);
}

// Fetches ahead what evicting the leaves that come up will touch. To be called with every victim.
void cache_core::look_ahead_locked(node_id next) {
  if (next == named_) return;  // a long leaf is named again and again
  named_ = next;
  const std::size_t turn = turn_++ % upcoming_.size();
  if (turn == 0) {
    upcoming_.fill(no_node);
    (void)policy_->upcoming(radix_tree::leaving_distance, upcoming_);
  }
  if (upcoming_[turn] != no_node) policy_->prefetch(upcoming_[turn]);
  if (const block_id b = tree_.look_ahead(upcoming_[turn]); b != no_block) pool_.prefetch(b);
}

// Evicts a victim's blocks, at most `most` of them; gives their number.
std::int64_t cache_core::give_up_locked(const victim& v, std::int64_t most) {
  count_nodes();
  const std::int64_t count = std::min<std::int64_t>(v.blocks, most);
  trim_locked(v.node, static_cast<std::uint32_t>(count), true);
  counted_.evicted_blocks += count;
  return count;
}

std::int64_t cache_core::evict_locked(std::int64_t n) {
  if (policy_->awaits_time()) policy_->advance(now());
  const std::int64_t target = pool_.free() + pool_.retiring() + n;
  for (;;) {
    const std::int64_t missing = target - pool_.free() - pool_.retiring();
    if (missing <= 0) return n - missing;
    const victim v = policy_->next_victim();
    if (v.node == no_node) return n - missing;
    look_ahead_locked(v.node);
    (void)give_up_locked(v, missing);
  }
}

// Evicts up to n blocks of one namespace, which has a quota.
void cache_core::evict_of_locked(node_id root, std::int64_t n) {
  if (policy_->awaits_time()) policy_->advance(now());
  while (n > 0) {
    const victim v = policy_->next_victim_of(root);
    if (v.node == no_node) break;
    const bool last =
        n >= v.blocks && v.blocks == tree_.blocks(v.node) && tree_.is_root(tree_.parent(v.node));
    n -= give_up_locked(v, n);
    if (last && !policy_->quotas().has(root)) break;  // the namespace has gone
  }
}

bool cache_core::obtain_locked(std::int64_t wanted, node_id root, block_id spared) {
  const std::int64_t excess = policy_->excess(root, wanted);
  if (excess == 0 && wanted <= pool_.free()) return true;
  if (pool_.retiring() > 0) pool_.retire(options_.listener->retired());
  // Both before anything goes: what is refused has evicted nothing.
  if (excess > 0 && !can_evict_locked(excess, spared, root)) return false;
  std::int64_t missing = wanted - pool_.free() - pool_.retiring();
  if (missing > 0 && !can_evict_locked(missing, spared)) return false;
  if (excess == 0 && missing <= 0) return wanted <= pool_.free();
  const stage_timer timing(&stage_times::evict);
  if (excess > 0) evict_of_locked(root, excess);
  missing = wanted - pool_.free() - pool_.retiring();
  if (missing > 0) (void)evict_locked(missing);
  if (pool_.retiring() > 0) pool_.retire(options_.listener->retired());
  return wanted <= pool_.free();
}

std::int64_t cache_core::evict(std::int64_t n) {
  if (n <= 0) return 0;
  guard lock(*this);
  const stage_timer timing(&stage_times::evict);
  return evict_locked(std::min(n, pool_.blocks()));
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
  pins_.for_each([this](auto& pinned) { hold_pin_locked(pinned.first, pinned.second); });
  return pool_.free() + pool_.retiring() - before;
}

bool cache_core::can_allocate(std::int64_t n) const try {
  std::lock_guard lock(mutex_);
  const std::int64_t ready = pool_.free() + pool_.retiring();
  return n <= ready || can_evict_locked(n - ready);
} catch (const std::bad_alloc&) {
  return false;
}

void cache_core::keep_prefix_limit_locked() {
  if (options_.max_prefixes == 0) return;
  while (tree_.leaves() > options_.max_prefixes) {
    const victim v = policy_->next_victim();
    if (v.node == no_node) return;
    look_ahead_locked(v.node);
    (void)give_up_locked(v, v.blocks);
  }
}

}  // namespace radixkv::detail
