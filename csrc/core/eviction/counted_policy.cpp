#include "csrc/core/eviction/counted_policy.h"

#include <algorithm>

#include "csrc/core/step_count.h"

namespace radixkv::detail {

void counted_policy::attach(const tree_view& tree, std::int64_t capacity_blocks) {
  tree_ = &tree;
  capacity_blocks_ = capacity_blocks;
  states_ = node_array<node_state>(capacity_blocks);
  live_ = 0;
  lost_ = false;
  tick_ = 0;
  clear_queues();
}

bool counted_policy::make_room(node_id limit) noexcept { return states_.grow_to(limit); }

void counted_policy::on_insert(node_id n) {
  state(n) = {};
  states_[n].alive = 1;
  touch(n);
}

void counted_policy::on_extend(node_id n, std::uint32_t) { enqueue(n); }

void counted_policy::on_split(node_id upper, node_id lower) {
  state(upper) = {};
  node_state& u = states_[upper];
  u.alive = 1;
  u.tick = inherit_tick_ ? 0 : state(lower).tick;
  u.segment = state(lower).segment;
  split_state(upper, lower);
}

void counted_policy::on_trim(node_id, std::uint32_t) {}

void counted_policy::on_remove(node_id n, bool evicted) {
  unqueue(n);
  gone(n, evicted);
  const node_state s = state(n);
  states_[n] = {};
  const node_id above = tree_->parent(n);
  if (above == no_node || tree_->is_root(above)) return;
  unqueue(above);  // its place may change
  add_uses(above, s.uses);
  if (inherit_tick_) states_[above].tick = std::max(states_[above].tick, s.tick);
  if (tree_->children(above) == 1) enqueue(above);  // n was its last child
}

void counted_policy::on_unpin(node_id n) {
  if (!tree_->is_root(n) && tree_->children(n) == 0) enqueue(n);
}

std::size_t counted_policy::bytes() const noexcept { return states_.bytes() + queue_bytes(); }

std::string counted_policy::check() const {
  std::size_t queued = 0;
  for (node_id n = 0; n < states_.size(); ++n) {
    const node_state& s = states_[n];
    queued += s.at != nowhere;
    if (s.at != nowhere && !s.alive)
      return std::string(name()) + ": node " + std::to_string(n) + " is queued but gone";
    if (s.alive && s.at == nowhere && !lost_ && tree_->evictable(n))
      return std::string(name()) + ": leaf " + std::to_string(n) + " can never be evicted";
  }
  if (queued != live_)
    return std::string(name()) + ": " + std::to_string(live_) + " nodes in queues counted, " +
           std::to_string(queued) + " found";
  const std::string wrong = check_queues();
  return wrong.empty() ? wrong : std::string(name()) + ": " + wrong;
}

void counted_policy::enqueue(node_id n) {
  node_state& s = state(n);
  if (s.at != nowhere) return;
  s.at = put(n);
  if (s.at == nowhere) {
    lost_ = true;
    return;
  }
  ++live_;
}

void counted_policy::unqueue(node_id n) {
  node_state& s = state(n);
  if (s.at == nowhere) return;
  take(n);
  s.at = nowhere;
  --live_;
}

std::uint32_t counted_policy::fresh_tick() {
  if (tick_ + 1 >= tick_limit_) renumber();
  return ++tick_;
}

void counted_policy::touch(node_id n) {
  const std::uint32_t tick = fresh_tick();
  unqueue(n);
  state(n).tick = tick;
}

void counted_policy::add_uses(node_id n, std::uint32_t uses) {
  node_state& s = state(n);
  s.uses = std::min<std::uint32_t>(max_uses, s.uses + uses);
}

node_id counted_policy::find_lost(std::uint32_t segment) {
  node_id found = no_node;
  if (!lost_) return found;
  lost_ = false;
  for (node_id n = 0; n < states_.size(); ++n) {
    const node_state& s = states_[n];
    if (!s.alive || s.at != nowhere || !tree_->evictable(n)) continue;
    enqueue(n);
    if (s.at == nowhere && s.segment == segment &&
        (found == no_node || s.tick < states_[found].tick))
      found = n;
  }
  return found;
}

node_id counted_policy::first_evictable(node_queue& q, std::uint32_t segment) {
  for (;;) {
    if (q.empty()) {
      if (const node_id n = find_lost(segment); n != no_node) return n;
      if (q.empty()) return no_node;
    }
    count_nodes();
    const node_id n = q.front(tick_of());
    if (tree_->evictable(n)) return n;
    unqueue(n);  // comes back when it is let go, or its last child goes
  }
}

// Ticks 1, 2, … in the same order; equal ones stay equal. Without memory all become equal.
void counted_policy::renumber() {
  std::vector<node_id> order;
  const bool known = list_alive(states_, order);
  if (!known) {
    order.clear();
    for (node_state& s : states_) {
      s.tick = std::min(s.tick, 1u);
      s.at = nowhere;
    }
    lost_ = true;
  }
  live_ = 0;
  std::sort(order.begin(), order.end(),
            [this](node_id a, node_id b) { return states_[a].tick < states_[b].tick; });
  clear_queues();
  tick_ = known ? 0 : 1;
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
