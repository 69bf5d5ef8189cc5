#include "csrc/core/eviction/lru.h"

#include <algorithm>
#include <utility>

#include "csrc/core/step_count.h"

namespace radixkv::detail {

void lru_policy::attach(const tree_view& tree, std::int64_t capacity_blocks) {
  tree_ = &tree;
  if (shared_.states == nullptr) own_ = node_array<node_state>(capacity_blocks);
  queue_.clear();
  lost_ = false;
  tick_ = 0;
}

void lru_policy::begin_with(std::span<const node_id> by_use) noexcept {
  for (const node_id n : by_use) {
    state(n) = {.tick = ++tick_, .alive = 1};
    enqueue(n);  // inner nodes, too: they leave the queue when their turn comes
  }
}

bool lru_policy::make_room(node_id limit) noexcept {
  return shared_.states != nullptr || own_.grow_to(limit);
}

void lru_policy::on_insert(node_id n) {
  node_state& s = state(n);
  unqueue(s);
  s = {};
  s.alive = 1;
  s.tick = std::max(tick_, 1u);
  // Not queued yet: its request follows, or, if that is given up, on_unpin.
}

void lru_policy::on_extend(node_id n, std::uint32_t) { enqueue(n); }

void lru_policy::on_split(node_id upper, node_id) {
  node_state& s = state(upper);
  unqueue(s);
  s = {};
  s.alive = 1;  // recency comes from its child when it becomes a leaf
}

void lru_policy::on_trim(node_id, std::uint32_t) {}

void lru_policy::on_remove(node_id n, bool) {
  node_state& gone = state(n);
  const std::uint32_t tick = gone.tick;
  unqueue(gone);
  gone = {};
  const node_id above = tree_->parent(n);
  if (above != no_node && state(above).alive) {  // roots have no state
    node_state& s = state(above);
    if (s.tick < tick) {
      unqueue(s);
      s.tick = tick;
    }
    if (tree_->children(above) == 1) enqueue(above);  // n was its last child
  }
}

void lru_policy::on_pin(node_id) {}

void lru_policy::on_unpin(node_id n) {
  if (!tree_->is_root(n) && tree_->children(n) == 0) enqueue(n);
}

void lru_policy::on_request(const request_info& request) {
  const node_id n = request.node;
  if (n == no_node || tree_->is_root(n)) return;
  const std::uint32_t now = next_tick();
  node_state& s = state(n);
  unqueue(s);
  s.tick = now;
  enqueue(n);
}

victim lru_policy::next_victim() {
  for (;;) {
    if (queue_.empty()) {
      if (!lost_) return {};
      if (const node_id m = find_lost(); m != no_node) return {m, tree_->evictable_blocks(m)};
      if (queue_.empty()) return {};
    }
    const node_id n = queue_.front(tick_of());
    count_nodes();
    if (const std::uint32_t count = tree_->evictable_blocks(n); count > 0) return {n, count};
    // A pinned leaf comes back when it is let go; an inner node when its last child goes.
    unqueue(states_[n]);
  }
}

std::size_t lru_policy::upcoming(std::size_t skip, std::span<node_id> out) const noexcept {
  return queue_.copy(skip, out);
}

// Queues what there was no memory to queue. Returns the oldest leaf for which there still is none.
node_id lru_policy::find_lost() {
  node_id oldest = no_node;
  lost_ = false;
  for (node_id n = 0; n < states_.size(); ++n) {
    if (!states_[n].alive || states_[n].at != nowhere || !is_mine(n) || !tree_->evictable(n)) {
      continue;
    }
    enqueue(n);
    if (states_[n].at == nowhere && (oldest == no_node || states_[n].tick < states_[oldest].tick))
      oldest = n;
  }
  return oldest;
}

std::size_t lru_policy::bytes() const noexcept { return own_.bytes() + queue_.bytes(); }

std::string lru_policy::check() const {
  const std::string wrong =
      queue_.check(tick_of(), [this](node_id n, place p) { return states_[n].at == p; });
  if (!wrong.empty()) return "lru: " + wrong;
  std::size_t queued = 0;
  for (node_id n = 0; n < states_.size(); ++n) {
    if (!is_mine(n)) continue;
    const node_state& s = states_[n];
    queued += s.at != nowhere;
    if (!s.alive) {
      if (s.at != nowhere) return "lru: node " + std::to_string(n) + " is queued but gone";
      continue;
    }
    if (tree_->evictable(n) && s.at == nowhere && !lost_)
      return "lru: leaf " + std::to_string(n) + " can never be evicted";
  }
  if (queued != queue_.size()) {
    return "lru: " + std::to_string(queued) + " nodes are queued, " +
           std::to_string(queue_.size()) + " are in the queue";
  }
  return {};
}

// Adds n at its recency unless it is there already.
void lru_policy::enqueue(node_id n) {
  node_state& s = state(n);
  if (s.at != nowhere) return;
  s.at = queue_.insert(n, s.tick, tick_of(), moves());
  if (s.at == nowhere) lost_ = true;
}

void lru_policy::unqueue(node_state& s) {
  if (s.at == nowhere) return;
  queue_.erase(std::exchange(s.at, nowhere), moves());
}

std::uint32_t lru_policy::next_tick() {
  if (tick_ + 1 >= tick_limit_) renumber();
  return ++tick_;
}

// Ticks 1, 2, … in the same order; equal ones stay equal. Without memory all become equal.
void lru_policy::renumber() {
  std::vector<node_id> order;
  queue_.clear();
  if (!list_alive(states_, order)) {
    for (node_id n = 0; n < states_.size(); ++n) {
      if (!is_mine(n)) continue;
      states_[n].tick = std::min<std::uint32_t>(states_[n].tick, 1);
      states_[n].at = nowhere;
    }
    lost_ = true;
    tick_ = 1;
    return;
  }
  std::erase_if(order, [this](node_id n) { return !is_mine(n); });
  std::sort(order.begin(), order.end(),
            [this](node_id a, node_id b) { return states_[a].tick < states_[b].tick; });
  tick_ = 0;
  std::uint32_t last = 0;
  for (const node_id n : order) {
    node_state& s = states_[n];
    if (s.tick != last) ++tick_;
    last = s.tick;
    s.tick = s.tick ? tick_ : 0;
    if (s.at == nowhere) continue;
    s.at = nowhere;
    enqueue(n);
  }
}

}  // namespace radixkv::detail
