#include "bench/eviction_study/sim_tree.h"

#include <algorithm>

namespace radixkv::study {

sim_tree::sim_tree(eviction_policy& policy, std::int64_t capacity_blocks,
                   std::uint32_t block_tokens)
    : policy_(policy), capacity_(capacity_blocks), block_tokens_(block_tokens) {
  nodes_.emplace_back();
  nodes_[0].alive = true;
  policy_.attach(*this, capacity_blocks);
}

std::uint32_t sim_tree::pinned_blocks(node_id n) const noexcept {
  std::uint32_t most = 0;
  for (const handle h : nodes_[n].pins) most = std::max(most, handles_[h].in_node);
  return most;
}

sim_tree::place sim_tree::find(const path& p) const {
  place at{0, 0, 0};
  while (at.depth < p.blocks) {
    const auto child = by_first_.find(p.at(at.depth));
    if (child == by_first_.end()) break;
    const node& c = nodes_[child->second];
    const std::uint32_t end = std::min(c.first + c.blocks, p.blocks);
    std::uint32_t d = at.depth + 1;
    while (d < end && p.ids[d / p.per_id] == c.source.ids[d / p.per_id])
      d = (d / p.per_id + 1) * p.per_id;
    d = std::min(d, end);
    at = {child->second, d - c.first, d};
    if (at.in_node < c.blocks) break;
  }
  return at;
}

sim_tree::handle sim_tree::open(const path& p) {
  handle h;
  if (free_handles_.empty()) {
    h = static_cast<handle>(handles_.size());
    handles_.emplace_back();
  } else {
    h = free_handles_.back();
    free_handles_.pop_back();
  }
  const place at = find(p);
  handles_[h] = {p, at.node, at.in_node, at.depth, 0, true};
  if (at.node != 0) {
    nodes_[at.node].pins.push_back(h);
    policy_.on_pin(at.node);
  }
  const std::int64_t need = p.blocks - at.depth;
  const std::int64_t lacking = cached_ + taken_ + need - capacity_;
  if (lacking > 0) evict(lacking);
  const auto got = static_cast<std::uint32_t>(std::min(need, capacity_ - cached_ - taken_));
  handles_[h].taken = got;
  taken_ += got;
  return h;
}

void sim_tree::close(handle h, request_info info) {
  ++request_;
  state& s = handles_[h];
  path p = s.p;
  // Another request may have published some of it meanwhile: those blocks are given back.
  place at = find(p);
  const std::uint32_t fresh = std::min(s.taken, p.blocks - at.depth);
  taken_ -= s.taken;
  s.taken = 0;
  if (!policy_.make_room(static_cast<node_id>(nodes_.size() + 2))) {
    unpin(h);  // nothing is published, as in the cache
    return;
  }
  node_id deepest = at.node;
  if (at.node != 0 && at.in_node < nodes_[at.node].blocks) deepest = split(at.node, at.in_node);
  if (fresh > 0) {
    const node_id leaf = new_node();
    node& n = nodes_[leaf];
    n.source = p;
    n.parent = deepest;
    n.first = at.depth;
    n.blocks = fresh;
    ++nodes_[deepest].children;
    by_first_[p.at(at.depth)] = leaf;
    cached_ += fresh;
    policy_.on_insert(leaf);
    deepest = leaf;
  }
  // Unpinning only after the request is known, as the cache does.
  info.node = deepest;
  info.request = request_;
  info.matched_blocks = s.matched;
  if (deepest != 0) policy_.on_request(info);
  unpin(h);
}

void sim_tree::abandon(handle h) {
  taken_ -= handles_[h].taken;
  handles_[h].taken = 0;
  unpin(h);
}

void sim_tree::unpin(handle h) {
  state& s = handles_[h];
  if (s.node != 0) {
    auto& pins = nodes_[s.node].pins;
    pins.erase(std::find(pins.begin(), pins.end(), h));
    policy_.on_unpin(s.node);
  }
  s.used = false;
  free_handles_.push_back(h);
}

node_id sim_tree::new_node() {
  node_id n;
  if (free_.empty()) {
    n = static_cast<node_id>(nodes_.size());
    nodes_.emplace_back();
  } else {
    n = free_.back();
    free_.pop_back();
  }
  nodes_[n] = {};
  nodes_[n].alive = true;
  return n;
}

node_id sim_tree::split(node_id lower, std::uint32_t at) {
  const node_id upper = new_node();
  node& u = nodes_[upper];
  node& l = nodes_[lower];
  u.source = l.source;
  u.parent = l.parent;
  u.first = l.first;
  u.blocks = at;
  u.children = 1;
  l.parent = upper;
  l.first += at;
  l.blocks -= at;
  by_first_[u.source.at(u.first)] = upper;
  by_first_[l.source.at(l.first)] = lower;
  std::vector<handle> keep;
  for (const handle h : l.pins) {
    state& s = handles_[h];
    if (s.in_node <= at) {
      s.node = upper;
      u.pins.push_back(h);
    } else {
      s.in_node -= at;
      keep.push_back(h);
    }
  }
  l.pins = std::move(keep);
  policy_.on_split(upper, lower);
  return upper;
}

std::int64_t sim_tree::evict(std::int64_t n) {
  std::int64_t done = 0;
  while (done < n) {
    const victim v = policy_.next_victim();
    if (v.node == no_node) break;
    if (!alive(v.node) || !evictable(v.node) || v.blocks == 0 ||
        v.blocks > nodes_[v.node].blocks - pinned_blocks(v.node)) {
      failure_ = "victim " + std::to_string(v.node) + " × " + std::to_string(v.blocks);
      break;
    }
    const auto take = static_cast<std::uint32_t>(std::min<std::int64_t>(v.blocks, n - done));
    if (take == nodes_[v.node].blocks) {
      remove(v.node, true);
    } else {
      nodes_[v.node].blocks -= take;
      cached_ -= take;
      policy_.on_trim(v.node, take);
    }
    done += take;
  }
  evictions_ += done;
  return done;
}

void sim_tree::remove(node_id n, bool evicted) {
  policy_.on_remove(n, evicted);
  node& gone = nodes_[n];
  cached_ -= gone.blocks;
  by_first_.erase(gone.source.at(gone.first));
  --nodes_[gone.parent].children;
  gone = {};
  free_.push_back(n);
}

void sim_tree::clear() {
  for (bool more = true; more;) {
    more = false;
    for (node_id n = 1; n < nodes_.size(); ++n)
      if (nodes_[n].alive && nodes_[n].children == 0 && nodes_[n].pins.empty()) {
        remove(n, false);
        more = true;
      }
  }
}

}  // namespace radixkv::study
