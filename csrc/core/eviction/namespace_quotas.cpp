#include "csrc/core/eviction/namespace_quotas.h"

#include <algorithm>
#include <array>
#include <new>
#include <numeric>
#include <unordered_map>

#include "csrc/core/step_count.h"

namespace radixkv::detail {

void namespace_quotas::attach(const tree_view& view, std::int64_t capacity_blocks) {
  view_ = &view;
  uses_ = last_uses(capacity_blocks);
  limit_ = 0;
  quotas_ = {};
  order_bytes_ = 0;
  states_ = node_array<lru_state>(capacity_blocks);  // no growth waits for a copy
  roots_ = node_array<node_id>(capacity_blocks);
}

void namespace_quotas::set(node_id root, std::int64_t blocks, std::span<const node_id> nodes) {
  if (auto* const found = quotas_.find(root)) {
    found->second->limit = blocks;
    return;
  }
  const std::vector<node_id> by_use = in_order_of_use(nodes);
  auto q = std::make_unique<quota>(lru_policy::shared_states{&states_, &roots_, root});
  q->limit = blocks;
  q->order.attach(*view_, blocks);
  node_id last = root;
  for (const node_id n : nodes) last = std::max(last, n);
  const node_id limit = std::max(limit_, last + 1);
  if (!roots_.grow_to(limit, no_node) || !states_.grow_to(limit)) throw std::bad_alloc();
  quota& made = *quotas_.try_emplace(root, std::move(q)).second;
  roots_[root] = root;
  for (const node_id n : nodes) {
    count_nodes();
    roots_[n] = root;
    made.blocks += view_->blocks(n);
  }
  made.order.begin_with(by_use);
  order_bytes_ += made.order.bytes();
}

// The least recently used first, of what was used at the same time the one before that comes first
// in `nodes`. A radix sort: a comparison of a million nodes would take a tenth of a second, under
// the cache's lock. May throw std::bad_alloc.
std::vector<node_id> namespace_quotas::in_order_of_use(std::span<const node_id> nodes) const {
  constexpr int digit = 11, digits = 3;
  constexpr std::size_t values = std::size_t{1} << digit;
  static_assert(digit * digits >= 8 * sizeof(last_uses::tick));
  struct use {
    last_uses::tick at;
    node_id node;
  };
  std::vector<use> from(nodes.size()), to(nodes.size());
  std::ranges::transform(nodes, from.begin(), [this](node_id n) { return use{uses_.of(n), n}; });
  for (int shift = 0; shift < digit * digits; shift += digit) {
    std::array<std::size_t, values> first{};
    const auto value = [&](const use& u) { return u.at >> shift & (values - 1); };
    for (const use& u : from) ++first[value(u)];
    std::exclusive_scan(first.begin(), first.end(), first.begin(), std::size_t{0});
    for (const use& u : from) to[first[value(u)]++] = u;
    from.swap(to);
  }
  std::vector<node_id> sorted(nodes.size());
  std::ranges::transform(from, sorted.begin(), &use::node);
  return sorted;
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
  order_bytes_ -= found->second->order.bytes();
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
    in_order(*q, [&](lru_policy& order) { order.on_insert(n); });
  }
}

void namespace_quotas::on_extend(node_id n, std::uint32_t blocks) {
  if (quota* const q = of(n)) {
    q->blocks += blocks;
    in_order(*q, [&](lru_policy& order) { order.on_extend(n, blocks); });
  }
}

void namespace_quotas::on_split(node_id upper, node_id lower) {
  uses_.on_split(upper);
  if (quotas_.empty()) return;
  roots_[upper] = root_of(lower);
  tell(lower, [&](lru_policy& order) { order.on_split(upper, lower); });
}

void namespace_quotas::on_trim(node_id n, std::uint32_t blocks) {
  if (quota* const q = of(n)) {
    q->blocks -= blocks;
    in_order(*q, [&](lru_policy& order) { order.on_trim(n, blocks); });
  }
}

void namespace_quotas::remove_from_quota(node_id n, bool evicted) {
  if (quota* const q = of(n)) {
    q->blocks -= view_->blocks(n);
    in_order(*q, [&](lru_policy& order) { order.on_remove(n, evicted); });
    roots_[n] = no_node;
  }
}

void namespace_quotas::on_pin(node_id n) {
  tell(n, [&](lru_policy& order) { order.on_pin(n); });
}

void namespace_quotas::on_hold(node_id n) {
  tell(n, [&](lru_policy& order) { order.on_hold(n); });
}

void namespace_quotas::on_unpin(node_id n) {
  tell(n, [&](lru_policy& order) { order.on_unpin(n); });
}

void namespace_quotas::on_request(const request_info& request) {
  if (request.node == no_node || view_->is_root(request.node)) return;
  uses_.on_request(request.node);
  tell(request.node, [&](lru_policy& order) { order.on_request(request); });
}

std::size_t namespace_quotas::bytes() const noexcept {
  // A node of the hash map: contents, links.
  return uses_.bytes() + roots_.bytes() + states_.bytes() + quotas_.size() * (sizeof(quota) + 48) +
         order_bytes_;
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
  std::size_t bytes = 0;
  quotas_.for_each([&](const auto& known) {
    const auto& [root, q] = known;
    bytes += q->order.bytes();
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
  if (wrong.empty() && bytes != order_bytes_) wrong = "quotas: their memory is miscounted";
  return wrong;
}

}  // namespace radixkv::detail
