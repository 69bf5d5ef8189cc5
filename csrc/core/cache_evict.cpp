// Giving up cached blocks: leaf tails, in the policy's order, never what an open sequence uses.
#include <algorithm>
#include <new>
#include <unordered_map>
#include <unordered_set>

#include "csrc/core/cache_core.h"
#include "csrc/core/stage_timer.h"
#include "csrc/core/step_count.h"

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
  count_entries(count);
  pool_.release_tree(gone);
  tree_.trim(n, count, evicted);
  if (all && tree_.is_root(up)) forget_root_locked(up);
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

// Whether so many blocks can be evicted, of one namespace if `root` says which.
bool cache_core::can_evict_locked(std::int64_t missing, block_id spared, node_id root) const {
  const bool all = root == no_node;
  const std::int64_t cached = all ? pool_.tree_held() : policy_->quotas().cached(root);
  if (cached < missing) return false;
  // Two bounds that need no walk. The blocks outside of pinned paths are no fewer than if no two
  // paths had any in common; and those of leaves can go in any case.
  const std::int64_t kept = pinned_depths_ + pool_.tree_shared();
  if (cached - kept - tree_.pinned_depths() >= missing) return true;
  if (all && tree_.evictable_in_leaves() - kept >= missing) return true;
  return evictable_locked(spared, root) >= missing;
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
  const stage_timer timing(stage_times_of_thread().evict);
  if (excess > 0) evict_of_locked(root, excess);
  missing = wanted - pool_.free() - pool_.retiring();
  if (missing > 0) (void)evict_locked(missing);
  if (pool_.retiring() > 0) pool_.retire(options_.listener->retired());
  return wanted <= pool_.free();
}

std::string cache_core::room_locked(std::int64_t wanted, node_id root, block_id spared) const {
  if (const std::int64_t excess = policy_->excess(root, wanted);
      excess > 0 && !can_evict_locked(excess, spared, root)) {
    const namespace_quotas& quotas = policy_->quotas();
    return "its namespace has a quota of " + std::to_string(quotas.limit(root)) +
           " blocks, of which it takes " + std::to_string(quotas.taken(root)) + " and " +
           std::to_string(evictable_locked(spared, root)) + " can be evicted";
  }
  std::string text =
      std::to_string(pool_.free() + evictable_locked(spared)) + " are free or can be evicted";
  if (pool_.retiring() > 0) {
    text += ", " + std::to_string(pool_.retiring()) +
            " more were given up and are free once the listener has retired them";
  }
  return text;
}

// Exactly what evict could free: the blocks that the index holds alone, outside of pinned paths.
std::int64_t cache_core::evictable_locked(block_id spared, node_id root) const {
  const bool all = root == no_node;
  std::unordered_set<node_id> whole;  // inner nodes of pinned paths: all of their blocks stay
  std::unordered_map<node_id, std::uint32_t> ends;  // how much of the last nodes stays
  std::unordered_set<block_id> held;     // by the index outside of pinned paths and by a sequence
  std::unordered_set<block_id> covered;  // by the pin of a sequence that holds them
  std::int64_t kept = 0;
  const auto keep_path = [&](node_id n, std::uint32_t blocks) {
    std::uint32_t& most = ends[n];
    most = std::max(most, blocks);
    while (!tree_.is_root(n)) {
      count_nodes();
      n = tree_.parent(n);
      if (tree_.is_root(n) || !whole.insert(n).second) break;
      kept += tree_.blocks(n);
    }
  };
  for (const sequence_state* s = open_; s; s = s->next) {
    count_marks();
    if (all || s->root == root) keep_path(s->pinned, tree_.pinned_blocks(s->pinned));
  }
  for (const auto& [mark, pin] : pins_) {
    const auto [n, blocks] = policy_->place_of(mark);
    if (n == no_node || !(all || policy_->quotas().root_of(n) == root)) continue;
    keep_path(n, blocks);
    covered.insert(tree_.block(n, blocks - 1));
  }
  for (const auto& [n, blocks] : ends) {
    if (!tree_.is_root(n) && !whole.contains(n)) kept += blocks;
  }
  for (const sequence_state* s = open_; s; s = s->next) {
    count_marks();
    if (!all && s->root != root) continue;
    // A committed partial tail at the end of the pinned node was counted with it.
    const std::int64_t at = s->path_blocks - tree_.first_block(s->pinned);
    if (!tree_.is_root(s->pinned) && at >= 0 && at < tree_.pinned_blocks(s->pinned)) {
      covered.insert(tree_.block(s->pinned, static_cast<std::uint32_t>(at)));
    }
    for (auto i = static_cast<std::size_t>(s->path_blocks); i < s->table.size(); ++i) {
      if (pool_.tree_shares(s->table[i])) held.insert(s->table[i]);
    }
  }
  if (spared != no_block && pool_.tree_shares(spared)) held.insert(spared);
  for (const block_id b : covered) held.erase(b);
  const std::int64_t cached = all ? pool_.tree_held() : policy_->quotas().cached(root);
  return std::max<std::int64_t>(0, cached - kept - static_cast<std::int64_t>(held.size()));
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
  for (auto& [m, pin] : pins_) hold_pin_locked(m, pin);
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
