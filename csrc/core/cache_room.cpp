// How many blocks can be evicted. Counts that every change keeps answer nearly always; what they
// leave open is counted block by block.
#include <algorithm>
#include <new>
#include <unordered_map>
#include <unordered_set>

#include "csrc/core/cache_core.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

std::int64_t cache_core::cached_locked(node_id root) const {
  return root == no_node ? pool_.tree_held() : policy_->quotas().cached(root);
}

room_counts cache_core::counts_locked() const noexcept {
  room_counts counts{tree_.pinned_depths(), pool_.tree_shared(), tree_.evictable_in_leaves(),
                     pool_.used() - pool_.tree_held()};
  counts.beside += pinned_depths_;
  counts.beside += borrowed_;
  return counts;
}

room_counts cache_core::counts_of_locked(node_id root) const {
  if (root == no_node) return counts_locked();
  room_counts counts = policy_->quotas().counts(root);
  if (counted_for_ == root) counts += counts_locked() - counts_before_;
  return counts;
}

// What has changed so far was somebody else's.
void cache_core::count_for_locked(node_id root) noexcept {
  const room_counts now = counts_locked();
  if (counted_for_ != no_node) policy_->quotas().count(counted_for_, now - counts_before_);
  counted_for_ = root;
  counts_before_ = now;
}

// The counts of a namespace from all of its nodes and sequences. May throw std::bad_alloc.
room_counts cache_core::recount_locked(node_id root, std::span<const node_id> nodes) const {
  room_counts counts;
  for (const node_id n : nodes) {
    counts.pinned.change(0, tree_.pinned_depth(n));
    counts.in_leaves += tree_.evictable_blocks(n);
    for (const block_id b : tree_.tail(n, tree_.blocks(n))) {
      counts.beside.change(0, pool_.tree_shares(b) ? 1 : 0);
    }
  }
  const std::string_view space = spaces_.name_of(root);
  pins_.for_each([&](const auto& pinned) {
    if (pinned.second.space == space) counts.beside.change(0, pinned.second.depth);
  });
  std::unordered_set<block_id> outside;
  const auto add = [&](std::span<const block_id> held) {
    for (const block_id b : held) {
      if (!pool_.tree_shares(b)) outside.insert(b);
    }
  };
  for (const sequence_state* s = open_; s; s = s->next) {
    if (s->root != root) continue;
    add(std::span(s->table).subspan(static_cast<std::size_t>(s->path_blocks)));
    add(s->duplicates);
  }
  counts.outside = static_cast<std::int64_t>(outside.size());
  return counts;
}

// What there is below each root, parents before their children. May throw std::bad_alloc.
std::unordered_map<node_id, std::vector<node_id>> cache_core::nodes_by_root_locked() const {
  std::vector<node_id> all = tree_.all_nodes();
  std::sort(all.begin(), all.end(),
            [this](node_id a, node_id b) { return tree_.first_block(a) < tree_.first_block(b); });
  std::vector<node_id> roots(tree_.node_limit(), no_node);
  std::unordered_map<node_id, std::vector<node_id>> below;
  for (const node_id n : all) {
    if (tree_.is_root(n)) continue;
    const node_id up = tree_.parent(n);
    roots[n] = tree_.is_root(up) ? up : roots[up];
    below[roots[n]].push_back(n);
  }
  return below;
}

// What there is below one root: a look at each node of the index, in the order of their ids. May
// throw std::bad_alloc.
std::vector<node_id> cache_core::nodes_of_locked(node_id root) const {
  std::vector<node_id> roots(tree_.node_limit(), no_node);  // of nodes that were climbed through
  std::vector<node_id> below;
  for (node_id n = 0; n < tree_.node_limit(); ++n) {
    count_nodes();
    if (!tree_.in_use(n) || tree_.is_root(n)) continue;
    node_id at = n;
    while (roots[at] == no_node && !tree_.is_root(at)) at = tree_.parent(at);
    const node_id found = tree_.is_root(at) ? at : roots[at];
    for (at = n; roots[at] == no_node && !tree_.is_root(at); at = tree_.parent(at)) {
      roots[at] = found;
    }
    if (found == root) below.push_back(n);
  }
  return below;
}

bool cache_core::can_evict_locked(std::int64_t missing, block_id spared, node_id root) const {
  const std::int64_t cached = cached_locked(root);
  if (cached < missing) return false;
  const room_counts counts = counts_of_locked(root);
  const room_walked& walked = root == no_node ? walked_ : policy_->quotas().walked(root);
  if (walked.least(cached, counts) >= missing) return true;
  return walked.most(cached, counts) >= missing && evictable_locked(spared, root) >= missing;
}

std::int64_t cache_core::evictable_locked(block_id spared, node_id root) const {
  const std::int64_t cached = cached_locked(root);
  const room_counts counts = counts_of_locked(root);
  room_walked& walked = root == no_node ? walked_ : policy_->quotas().walked(root);
  const std::int64_t least = walked.least(cached, counts);
  if (walked.most(cached, counts) == least) return least;
  std::int64_t beside = 0;
  const std::int64_t kept = walk_locked(spared, root, beside);
  walked.found(kept, beside, counts);
  return cached - kept;
}

bool cache_core::is_hopeless_locked(std::int64_t wanted, node_id root) const {
  if (const std::int64_t excess = policy_->excess(root, wanted);
      excess > 0 &&
      policy_->quotas().walked(root).most(cached_locked(root), counts_of_locked(root)) < excess) {
    return true;
  }
  const std::int64_t missing = wanted - pool_.free() - pool_.retiring();
  return missing > 0 && walked_.most(cached_locked(), counts_locked()) < missing;
}

void cache_core::know_room_locked(node_id root) const noexcept try {
  if (policy_->quotas().has(root)) (void)evictable_locked(no_block, root);
  (void)evictable_locked();
} catch (const std::bad_alloc&) {
  // Then the next one walks.
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

// Blocks of the index that cannot be evicted: of pinned paths, or held by a sequence as well.
// `beside`: those that stay even if no sequence pins more than its own tail, at most.
std::int64_t cache_core::walk_locked(block_id spared, node_id root, std::int64_t& beside) const {
  const bool all = root == no_node;
  std::unordered_set<node_id> whole;  // inner nodes of pinned paths: all of their blocks stay
  std::unordered_map<node_id, std::uint32_t> ends;  // how much of the last nodes stays
  std::unordered_set<block_id> held;   // by the index and by a sequence beside its path
  std::unordered_set<block_id> loose;  // of them, by one whose own pin does not keep it
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
    if (!all && s->root != root) continue;
    const node_id n = s->pin.end_if_last();
    if (n != no_node) keep_path(n, tree_.pinned_blocks(n));
  }
  pins_.for_each([&](const auto& pinned) {
    const auto [n, blocks] = policy_->place_of(pinned.first);
    if (n != no_node && (all || policy_->quotas().root_of(n) == root)) keep_path(n, blocks);
  });
  for (const auto& [n, blocks] : ends) {
    if (!tree_.is_root(n) && !whole.contains(n)) kept += blocks;
  }
  for (const sequence_state* s = open_; s; s = s->next) {
    count_marks();
    if (!all && s->root != root) continue;
    // A committed partial tail is mostly the end of what its sequence pins.
    bool pins_tail = false;
    if (s->pin.depth > s->path_blocks) {
      const tree_place end = tree_.place_of(s->pin);
      pins_tail = tree_.block(end.node, end.blocks - 1) ==
                  s->table[static_cast<std::size_t>(s->path_blocks)];
    }
    for (auto i = static_cast<std::size_t>(s->path_blocks); i < s->table.size(); ++i) {
      if (!pool_.tree_shares(s->table[i])) continue;
      held.insert(s->table[i]);
      if (!pins_tail || i > static_cast<std::size_t>(s->path_blocks)) loose.insert(s->table[i]);
    }
  }
  if (spared != no_block && pool_.tree_shares(spared)) {
    held.insert(spared);
    loose.insert(spared);
  }
  // What is pinned, by whomever, was counted: committed partial tails, and what a fork has
  // published.
  const auto pinned = [&](node_id n, std::uint32_t blocks) {
    count_entries(blocks);
    for (std::uint32_t i = 0; i < blocks && !held.empty(); ++i) held.erase(tree_.block(n, i));
  };
  for (const auto& [n, blocks] : ends) {
    if (!tree_.is_root(n) && !whole.contains(n)) pinned(n, blocks);
  }
  for (const node_id n : whole) pinned(n, tree_.blocks(n));
  beside = static_cast<std::int64_t>(loose.size()) + pinned_depths_.now();
  return kept + static_cast<std::int64_t>(held.size());
}

// The counts agree with what they were made of, and the bounds with what is there. Part of check().
std::string cache_core::check_room(
    const std::unordered_map<node_id, std::vector<node_id>>& below) const {
  const auto wrong = [this](node_id root, const room_walked& walked) {
    std::int64_t beside = 0;
    const std::int64_t cached = cached_locked(root);
    const std::int64_t evictable = cached - walk_locked(no_block, root, beside);
    const room_counts counts = counts_of_locked(root);
    return evictable < walked.least(cached, counts) || evictable > walked.most(cached, counts);
  };
  if (wrong(no_node, walked_)) return "more or less can be evicted than the bounds say";
  const namespace_quotas& quotas = policy_->quotas();
  for (const node_id root : tree_.all_nodes()) {
    if (!tree_.is_root(root) || !quotas.has(root)) continue;
    const auto at = below.find(root);
    const std::span<const node_id> nodes =
        at == below.end() ? std::span<const node_id>() : std::span(at->second);
    const std::string name = "the room of root " + std::to_string(root);
    const room_counts is = quotas.counts(root);
    const room_counts should = recount_locked(root, nodes);
    if (is.pinned.now() != should.pinned.now() || is.beside.now() != should.beside.now() ||
        is.in_leaves != should.in_leaves || is.outside != should.outside) {
      return name + " is miscounted";
    }
    if (wrong(root, quotas.walked(root))) return name + " is not within its bounds";
  }
  return {};
}

}  // namespace radixkv::detail
