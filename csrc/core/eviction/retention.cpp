#include "csrc/core/eviction/retention.h"

#include <algorithm>

namespace radixkv::detail {

void retention::attach(const tree_view& tree, std::int64_t capacity_blocks) {
  tree_ = &tree;
  marks_ = {};
  free_ = {};
  by_node_ = {};
  holds_ = {};
  discards_ = {};
  expiries_ = {};
  announced_ = {};
  quotas_ = {};
  policy_->attach(*this, capacity_blocks);
}

std::uint32_t retention::path_hash_tokens(std::uint32_t block_tokens) const noexcept {
  const std::uint32_t wanted = policy_->path_hash_tokens(block_tokens);
  return wanted != 0 ? wanted : std::max(128u, block_tokens);
}

std::uint32_t retention::pinned_blocks(node_id n) const noexcept {
  const std::uint32_t pinned = tree_->pinned_blocks(n);
  return holds_.empty() ? pinned : std::max(pinned, held(n, 0));
}

// Blocks of n that holds with a rank above the given one cover.
std::uint32_t retention::held(node_id n, double above) const {
  const auto found = by_node_.find(n);
  if (found == by_node_.end()) return 0;
  std::uint32_t most = 0;
  for (const mark_id m : found->second)
    if (marks_[m].rank > above) most = std::max(most, marks_[m].blocks);
  return most;
}

mark_id retention::new_mark(mark m) {
  mark_id id;
  if (free_.empty()) {
    id = static_cast<mark_id>(marks_.size());
    marks_.emplace_back();
  } else {
    id = free_.back();
    free_.pop_back();
  }
  marks_[id] = std::move(m);
  marks_[id].used = true;
  (marks_[id].rank > 0 ? holds_ : discards_).insert({marks_[id].rank, id});
  if (marks_[id].expires != never) expiries_.insert({marks_[id].expires, id});
  return id;
}

// Lays mark m on n.
void retention::put(mark_id m, node_id n, std::uint32_t blocks) {
  if (n == no_node || tree_->is_root(n) || blocks == 0) {
    marks_[m].node = no_node;
    marks_[m].blocks = 0;
    return;
  }
  marks_[m].node = n;
  marks_[m].blocks = blocks;
  by_node_[n].push_back(m);
}

// Takes mark m off its node. The policy must hear of it once the mark lies elsewhere.
void retention::take(mark_id m) {
  const node_id n = marks_[m].node;
  if (n == no_node) return;
  const auto found = by_node_.find(n);
  std::erase(found->second, m);
  if (found->second.empty()) by_node_.erase(found);
  marks_[m].node = no_node;
}

void retention::end(mark_id m) {
  mark& at = marks_[m];
  const node_id n = at.node;
  take(m);
  (at.rank > 0 ? holds_ : discards_).erase({at.rank, m});
  if (at.expires != never) expiries_.erase({at.expires, m});
  forget_hashes(m);
  const bool was_hold = at.rank > 0;
  at = {};
  free_.push_back(m);
  if (was_hold && n != no_node) on_unpin(n);
}

void retention::release(mark_id m) {
  if (m < marks_.size() && marks_[m].used) end(m);
}

mark_id retention::hold(node_id n, std::uint32_t blocks, double rank, double expires) {
  mark m;
  m.rank = rank;
  m.expires = expires;
  const mark_id id = new_mark(std::move(m));
  put(id, n, blocks);
  return id;
}

mark_id retention::discard(node_id n, std::uint32_t blocks, std::uint32_t from, double when) {
  mark m;
  m.rank = -1;
  m.from = from;
  m.active = when <= 0;
  m.expires = when <= 0 ? never : when;
  const mark_id id = new_mark(std::move(m));
  put(id, n, blocks);
  return id;
}

void retention::advance(double now) {
  while (!expiries_.empty() && expiries_.begin()->first <= now) {
    const mark_id m = expiries_.begin()->second;
    if (marks_[m].rank > 0) {
      end(m);
    } else {
      expiries_.erase(expiries_.begin());
      marks_[m].expires = never;
      marks_[m].active = true;
    }
  }
}

mark_id retention::announce(std::span<const std::uint64_t> hashes, node_id n,
                            std::uint32_t blocks) {
  mark m;
  m.rank = announced_rank - static_cast<double>(announcements_++);
  m.hashes.assign(hashes.begin(), hashes.end());
  const mark_id id = new_mark(std::move(m));
  for (const std::uint64_t h : hashes) announced_[h].push_back(id);
  put(id, n, blocks);
  return id;
}

void retention::forget_hashes(mark_id m) {
  for (const std::uint64_t h : marks_[m].hashes) {
    const auto found = announced_.find(h);
    if (found == announced_.end()) continue;
    std::erase(found->second, m);
    if (found->second.empty()) announced_.erase(found);
  }
}

// Announcements that share more of the request's path than was cached of theirs are laid on it.
void retention::on_request(const request_info& request) {
  policy_->on_request(request);
  if (quota* const q = quota_of(request.node)) q->order.on_request(request);
  if (announced_.empty() || request.node == no_node || request.path_hashes.empty()) return;
  const auto first = announced_.find(request.path_hashes[0]);
  if (first == announced_.end()) return;
  std::size_t unseen = first->second.size();
  ++requests_;
  const std::uint32_t chunk = path_hash_tokens(tree_->block_tokens()) / tree_->block_tokens();
  node_id n = request.node;
  for (std::size_t i = request.path_hashes.size(); i-- > 0 && unseen > 0;) {
    const auto found = announced_.find(request.path_hashes[i]);
    if (found == announced_.end()) continue;
    const auto depth = static_cast<std::uint32_t>(i + 1) * chunk;
    if (depth > tree_->first_block(n) + tree_->blocks(n)) continue;
    while (tree_->first_block(n) >= depth) n = tree_->parent(n);
    for (const mark_id m : found->second) {
      mark& at = marks_[m];
      if (at.seen == requests_) continue;
      at.seen = requests_;
      --unseen;
      if (at.node != no_node && tree_->first_block(at.node) + at.blocks >= depth) continue;
      const node_id before = at.node;
      take(m);
      put(m, n, depth - tree_->first_block(n));
      if (before != no_node) on_unpin(before);
    }
  }
}

victim retention::next_victim() {
  if (const victim v = discarded(); v.node != no_node) return v;
  if (const victim v = policy_->next_victim(); v.node != no_node) return v;
  return given_way();
}

victim retention::discarded() {
  for (auto at = discards_.begin(); at != discards_.end();) {
    const mark& m = marks_[at->second];
    const mark_id id = at->second;
    ++at;
    if (!m.active) continue;
    const node_id n = m.node;
    // Nothing left of it, or others have gone on from there.
    if (n == no_node || tree_->children(n) > 0 || tree_->blocks(n) > m.blocks) {
      end(id);
      continue;
    }
    const std::uint32_t first = tree_->first_block(n);
    const std::uint32_t keep = std::max(pinned_blocks(n), m.from > first ? m.from - first : 0);
    if (tree_->blocks(n) > keep) return {n, tree_->blocks(n) - keep};
    if (tree_->pinned_blocks(n) == 0) end(id);
  }
  return {};
}

victim retention::given_way() {
  for (const auto& [rank, id] : holds_) {
    if (rank == stays) break;
    const node_id n = marks_[id].node;
    if (n == no_node || !tree_->evictable(n)) continue;
    const std::uint32_t keep = std::max(tree_->pinned_blocks(n), held(n, rank));
    if (tree_->blocks(n) > keep) return {n, tree_->blocks(n) - keep};
  }
  return {};
}

void retention::on_insert(node_id n) {
  policy_->on_insert(n);
  if (quota* const q = quota_of(n)) {
    q->blocks += tree_->blocks(n);
    q->order.on_insert(n);
  }
}

void retention::on_extend(node_id n, std::uint32_t blocks) {
  policy_->on_extend(n, blocks);
  if (quota* const q = quota_of(n)) {
    q->blocks += blocks;
    q->order.on_extend(n, blocks);
  }
}

void retention::on_split(node_id upper, node_id lower) {
  bool freed = false;
  if (const auto found = by_node_.find(lower); found != by_node_.end()) {
    const std::uint32_t at = tree_->blocks(upper);
    for (const mark_id m : std::vector<mark_id>(found->second)) {
      if (marks_[m].blocks > at) {
        marks_[m].blocks -= at;
      } else {
        const std::uint32_t blocks = marks_[m].blocks;
        take(m);
        put(m, upper, blocks);
        freed = true;
      }
    }
  }
  policy_->on_split(upper, lower);
  if (quota* const q = quota_of(lower)) q->order.on_split(upper, lower);
  if (freed) on_unpin(lower);
}

void retention::on_trim(node_id n, std::uint32_t blocks) {
  if (const auto found = by_node_.find(n); found != by_node_.end())
    for (const mark_id m : found->second)
      marks_[m].blocks = std::min(marks_[m].blocks, tree_->blocks(n));
  policy_->on_trim(n, blocks);
  if (quota* const q = quota_of(n)) {
    q->blocks -= blocks;
    q->order.on_trim(n, blocks);
  }
}

void retention::on_remove(node_id n, bool evicted) {
  // Before its marks move up: the policy then finds the parent held as soon as it looks.
  if (const auto found = by_node_.find(n); found != by_node_.end()) {
    const node_id above = tree_->parent(n);
    const bool shared = tree_->children(above) > 1;
    for (const mark_id m : std::vector<mark_id>(found->second)) {
      take(m);
      if (marks_[m].rank < 0 && shared) continue;  // ends when it is next looked at
      put(m, above, tree_->is_root(above) ? 0 : tree_->blocks(above));
    }
  }
  policy_->on_remove(n, evicted);
  if (quota* const q = quota_of(n)) {
    q->blocks -= tree_->blocks(n);
    q->order.on_remove(n, evicted);
  }
}

void retention::on_pin(node_id n) {
  // Someone uses it again: no reason to discard it any more.
  if (const auto found = by_node_.find(n); found != by_node_.end() && !discards_.empty())
    for (const mark_id m : std::vector<mark_id>(found->second))
      if (marks_[m].rank < 0) end(m);
  policy_->on_pin(n);
  if (quota* const q = quota_of(n)) q->order.on_pin(n);
}

void retention::on_unpin(node_id n) {
  policy_->on_unpin(n);
  if (quota* const q = quota_of(n)) q->order.on_unpin(n);
}

retention::quota* retention::quota_of(node_id n) {
  if (quotas_.empty() || n == no_node) return nullptr;
  while (!tree_->is_root(n)) n = tree_->parent(n);
  const auto found = quotas_.find(n);
  return found == quotas_.end() ? nullptr : &found->second;
}

std::int64_t retention::excess(node_id root, std::int64_t incoming) const {
  const auto found = quotas_.find(root);
  if (found == quotas_.end()) return 0;
  return std::max<std::int64_t>(0, found->second.blocks + incoming - found->second.limit);
}

void retention::set_quota(node_id root, std::int64_t blocks) {
  if (blocks == 0) {
    quotas_.erase(root);
    return;
  }
  const auto [at, added] = quotas_.try_emplace(root);
  at->second.limit = blocks;
  if (added) at->second.order.attach(*this, blocks);
}

victim retention::next_victim_of(node_id root) { return quotas_.at(root).order.next_victim(); }

std::size_t retention::bytes() const noexcept {
  std::size_t n = policy_->bytes() + marks_.capacity() * sizeof(mark);
  for (const mark& m : marks_) n += m.hashes.capacity() * 8;
  for (const auto& [root, q] : quotas_) n += q.order.bytes();
  // A node of a hash map or set: contents, links.
  return n + by_node_.size() * 64 + announced_.size() * 64 +
         (holds_.size() + discards_.size() + expiries_.size()) * 48;
}

std::string retention::check() const {
  for (mark_id m = 0; m < marks_.size(); ++m) {
    const mark& at = marks_[m];
    if (!at.used || at.node == no_node) continue;
    if (at.blocks == 0 || at.blocks > tree_->blocks(at.node))
      return "mark " + std::to_string(m) + " covers " + std::to_string(at.blocks) + " of " +
             std::to_string(tree_->blocks(at.node)) + " blocks";
    const auto found = by_node_.find(at.node);
    if (found == by_node_.end() ||
        std::find(found->second.begin(), found->second.end(), m) == found->second.end())
      return "mark " + std::to_string(m) + " is not on its node";
  }
  return policy_->check();
}

}  // namespace radixkv::detail
