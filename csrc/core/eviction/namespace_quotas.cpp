#include "csrc/core/eviction/namespace_quotas.h"

#include <algorithm>
#include <new>
#include <unordered_map>
#include <vector>

namespace radixkv::detail {

void namespace_quotas::attach(const tree_view& view, std::int64_t capacity_blocks) {
  view_ = &view;
  uses_ = last_uses(capacity_blocks);
  limit_ = 0;
  quotas_ = {};
  states_ = node_array<lru_state>(capacity_blocks);  // no growth waits for a copy
  roots_ = node_array<node_id>(capacity_blocks);
}

void namespace_quotas::set(node_id root, std::int64_t blocks, std::span<const node_id> nodes) {
  if (auto* const found = quotas_.find(root)) {
    found->second->limit = blocks;
    return;
  }
  std::vector<node_id> by_use(nodes.begin(), nodes.end());
  std::stable_sort(by_use.begin(), by_use.end(),
                   [this](node_id a, node_id b) { return uses_.of(a) < uses_.of(b); });
  auto q = std::make_unique<quota>(lru_policy::shared_states{&states_, &roots_, root});
  q->limit = blocks;
  q->order.attach(*view_, blocks);
  node_id last = root;
  for (const node_id n : nodes) last = std::max(last, n);
  const node_id limit = std::max(limit_, last + 1);
  if (!roots_.grow_to(limit, no_node) || !states_.grow_to(limit)) throw std::bad_alloc();
  quota& made = *quotas_.try_emplace(root, std::move(q)).second;
  roots_[root] = root;
  request_info use;
  for (const node_id n : by_use) {
    roots_[n] = root;
    made.blocks += view_->blocks(n);
    made.order.on_insert(n);
    use.node = n;
    made.order.on_request(use);
  }
}

void namespace_quotas::drop(node_id root) noexcept {
  const auto* const found = quotas_.find(root);
  if (found == nullptr) return;
  // A namespace that goes has no nodes any more.
  roots_[root] = no_node;
  for (node_id n = 0; n < roots_.size() && found->second->blocks > 0; ++n) {
    if (roots_[n] != root) continue;
    roots_[n] = no_node;
    states_[n] = {};
  }
  quotas_.erase(*found);  // the room for nodes stays: the next one needs it again
}

bool namespace_quotas::make_room(node_id limit) noexcept {
  limit_ = std::max(limit_, limit);
  if (!uses_.make_room(limit_)) return false;
  return quotas_.empty() || (roots_.grow_to(limit_, no_node) && states_.grow_to(limit_));
}

void namespace_quotas::on_insert(node_id n) {
  uses_.on_insert(n);
  if (quotas_.empty()) return;
  roots_[n] = root_of(view_->parent(n));
  if (quota* const q = of(n)) {
    q->blocks += view_->blocks(n);
    q->order.on_insert(n);
  }
}

void namespace_quotas::on_extend(node_id n, std::uint32_t blocks) {
  if (quota* const q = of(n)) {
    q->blocks += blocks;
    q->order.on_extend(n, blocks);
  }
}

void namespace_quotas::on_split(node_id upper, node_id lower) {
  uses_.on_split(upper);
  if (quotas_.empty()) return;
  roots_[upper] = root_of(lower);
  if (quota* const q = of(lower)) q->order.on_split(upper, lower);
}

void namespace_quotas::on_trim(node_id n, std::uint32_t blocks) {
  if (quota* const q = of(n)) {
    q->blocks -= blocks;
    q->order.on_trim(n, blocks);
  }
}

void namespace_quotas::remove_from_quota(node_id n, bool evicted) {
  if (quota* const q = of(n)) {
    q->blocks -= view_->blocks(n);
    q->order.on_remove(n, evicted);
    roots_[n] = no_node;
  }
}

void namespace_quotas::on_pin(node_id n) {
  if (quota* const q = of(n)) q->order.on_pin(n);
}

void namespace_quotas::on_hold(node_id n) {
  if (quota* const q = of(n)) q->order.on_hold(n);
}

void namespace_quotas::on_unpin(node_id n) {
  if (quota* const q = of(n)) q->order.on_unpin(n);
}

void namespace_quotas::on_request(const request_info& request) {
  if (request.node == no_node || view_->is_root(request.node)) return;
  uses_.on_request(request.node);
  if (quota* const q = of(request.node)) q->order.on_request(request);
}

std::size_t namespace_quotas::bytes() const noexcept {
  // A node of the hash map: contents, links.
  std::size_t n =
      uses_.bytes() + roots_.bytes() + states_.bytes() + quotas_.size() * (sizeof(quota) + 48);
  quotas_.for_each([&](const auto& q) { n += q.second->order.bytes(); });
  return n;
}

std::string namespace_quotas::check() const {
  std::unordered_map<node_id, std::int64_t> blocks;
  for (node_id n = 0; n < roots_.size() && !quotas_.empty(); ++n) {
    if (roots_[n] == no_node || roots_[n] == n) continue;
    node_id root = n;
    while (!view_->is_root(root)) root = view_->parent(root);
    if (root != roots_[n]) return "quota: node " + std::to_string(n) + " counts for another root";
    blocks[root] += view_->blocks(n);
  }
  std::string wrong;
  quotas_.for_each([&](const auto& known) {
    const auto& [root, q] = known;
    if (!wrong.empty()) return;
    const std::string name = "quota of root " + std::to_string(root) + ": ";
    if (q->blocks != blocks[root]) {
      wrong = name + std::to_string(q->blocks) + " blocks counted, " +
              std::to_string(blocks[root]) + " found";
    } else if (q->counts.outside < 0) {
      wrong = name + std::to_string(q->counts.outside) + " blocks beside the index";
    } else if (std::string order = q->order.check(); !order.empty()) {
      wrong = name + order;
    }
  });
  return wrong;
}

}  // namespace radixkv::detail
