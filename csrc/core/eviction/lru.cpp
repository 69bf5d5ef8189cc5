#include "csrc/core/eviction/lru.h"

#include <algorithm>

#include "csrc/core/eviction/node_states.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

void lru_policy::attach(const tree_view& tree, std::int64_t) {
  tree_ = &tree;
  states_ = {};
  queue_.clear();
  live_ = 0;
  lost_ = false;
  tick_ = 0;
}

bool lru_policy::make_room(node_id limit) noexcept { return grow_to(states_, limit); }

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
  if (above != no_node && !tree_->is_root(above)) {
    node_state& s = state(above);
    if (s.tick < tick) {
      unqueue(s);
      s.tick = tick;
    }
    if (tree_->children(above) == 1) enqueue(above);  // n was its last child
  }
  compact();
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
  constexpr std::size_t ahead = tree_view::prefetch_distance;
  for (;;) {
    if (queue_.empty()) {
      if (!lost_) return {};
      if (const node_id n = find_lost(); n != no_node) return {n, tree_->evictable_blocks(n)};
      if (queue_.empty()) return {};
    }
    count_nodes();
    const node_queue::entry e = queue_.front();
    if (const auto later = queue_.peek(ahead); later.node != no_node && valid(later))
      tree_->prefetch(later.node);
    if (const auto later = queue_.peek(2 * ahead); later.node != no_node)
      __builtin_prefetch(&states_[later.node]);
    if (valid(e)) {
      if (const std::uint32_t n = tree_->evictable_blocks(e.node); n > 0) return {e.node, n};
      // A pinned leaf comes back when it is let go; an inner node when its last child goes.
      unqueue(states_[e.node]);
    }
    queue_.pop_front();
    compact();
  }
}

// Queues what there was no memory to queue. Returns the oldest leaf for which there still is none.
node_id lru_policy::find_lost() {
  node_id oldest = no_node;
  lost_ = false;
  for (node_id n = 0; n < states_.size(); ++n) {
    if (!states_[n].alive || states_[n].queued || !tree_->evictable(n)) continue;
    enqueue(n);
    if (!states_[n].queued && (oldest == no_node || states_[n].tick < states_[oldest].tick))
      oldest = n;
  }
  return oldest;
}

std::size_t lru_policy::bytes() const noexcept {
  return states_.capacity() * sizeof(node_state) + queue_.bytes();
}

std::string lru_policy::check() const {
  if (!queue_.sorted()) return "lru: the queue is out of order";
  std::size_t queued = 0;
  for (const node_state& s : states_) queued += s.queued;
  if (queued != live_)
    return "lru: " + std::to_string(live_) + " live entries counted, " + std::to_string(queued) +
           " found";
  std::vector<bool> found(states_.size());
  queue_.for_each([&](node_queue::entry e) {
    if (valid(e)) found[e.node] = true;
  });
  for (node_id n = 0; n < states_.size(); ++n) {
    const node_state& s = states_[n];
    if (s.queued && !found[n]) return "lru: node " + std::to_string(n) + " has lost its entry";
    if (!s.alive) {
      if (s.queued) return "lru: node " + std::to_string(n) + " is queued but gone";
      continue;
    }
    if (tree_->evictable(n) && !s.queued && !lost_)
      return "lru: leaf " + std::to_string(n) + " can never be evicted";
  }
  if (queue_.size() > 2 * live_ + node_queue::slack + 1)
    return "lru: " + std::to_string(queue_.size()) + " entries for " + std::to_string(live_) +
           " live ones";
  return {};
}

// Adds n at its recency unless it is queued already.
void lru_policy::enqueue(node_id n) {
  node_state& s = state(n);
  if (s.queued) return;
  if (!queue_.insert({n, s.tick})) {
    lost_ = true;
    return;
  }
  s.queued = 1;
  ++live_;
  compact();
}

// Drops stale entries once they are the most of the queue.
void lru_policy::compact() {
  queue_.maybe_compact(live_, [this](node_queue::entry e) { return valid(e); });
}

void lru_policy::unqueue(node_state& s) {
  live_ -= s.queued;
  s.queued = 0;
}

std::uint32_t lru_policy::next_tick() {
  if (tick_ + 1 >= tick_limit_) renumber();
  return ++tick_;
}

// Ticks 1, 2, … in the same order; equal ones stay equal. Without memory all become equal.
void lru_policy::renumber() {
  std::vector<node_id> order;
  if (!list_alive(states_, order)) {
    for (node_state& s : states_) {
      s.tick = std::min<std::uint32_t>(s.tick, 1);
      s.queued = 0;
    }
    queue_.clear();
    live_ = 0;
    lost_ = true;
    tick_ = 1;
    return;
  }
  std::sort(order.begin(), order.end(),
            [this](node_id a, node_id b) { return states_[a].tick < states_[b].tick; });
  queue_.clear();
  tick_ = 0;
  std::uint32_t last = 0;
  for (const node_id n : order) {
    node_state& s = states_[n];
    if (s.tick != last) ++tick_;
    last = s.tick;
    s.tick = s.tick ? tick_ : 0;
    if (s.queued && !queue_.insert({n, s.tick})) {
      unqueue(s);
      lost_ = true;
    }
  }
}

}  // namespace radixkv::detail
