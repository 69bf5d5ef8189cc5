#include "csrc/core/eviction/retention.h"

#include <algorithm>

#include "csrc/core/step_count.h"

namespace radixkv::detail {

void retention::attach(const tree_view& tree, std::int64_t capacity_blocks) {
  tree_ = &tree;
  marks_.clear();
  giving_way_ = {};
  discarding_ = {};
  expiring_ = {};
  withheld_ = 0;
  holds_ = 0;
  hash_bytes_ = 0;
  announced_ = {};
  quotas_.attach(*this, capacity_blocks);
  policy_->attach(*this, capacity_blocks);
}

std::uint32_t retention::path_hash_tokens(std::uint32_t block_tokens) const noexcept {
  const std::uint32_t wanted = policy_->path_hash_tokens(block_tokens);
  return wanted != 0 ? wanted : std::max(128u, block_tokens);
}

std::uint32_t retention::pinned_blocks(node_id n) const noexcept {
  const std::uint32_t pinned = tree_->pinned_blocks(n);
  return holds_ == 0 ? pinned : std::max(pinned, held(n));
}

// Blocks of n that holds cover.
std::uint32_t retention::held(node_id n) const {
  const std::uint32_t i = foremost_on(n);
  std::uint32_t most = i == no_index ? 0 : marks_[i].blocks;
  marks_.for_each_of_few_on(n, [&](std::uint32_t other) {
    if (marks_[other].holds()) most = std::max(most, marks_[other].blocks);
  });
  return most;
}

// Of the announcements and pinned prefixes on n one that covers as much as any: looked for once,
// however many there are. no_index if there is none.
std::uint32_t retention::foremost_on(node_id n) const {
  std::uint32_t i = marks_.one_of_many_on(n);
  if (i == no_index || marks_[i].foremost) return i;
  if (marks_[i].blocks < tree_->blocks(n)) {
    marks_.for_each_of_many_on(n, [&](std::uint32_t j) {
      if (marks_[j].blocks > marks_[i].blocks) i = j;
    });
  }
  marks_.make_foremost(i);
  return i;
}

mark_id retention::make(mark_kind kind, double rank, double expires) {
  marks_.reserve_one();
  const std::size_t slots = marks_.slots() + 1;
  giving_way_.reserve(slots);
  discarding_.reserve(slots);
  expiring_.reserve(slots);
  const std::uint32_t i = marks_.take_slot();
  marks_[i].kind = kind;
  marks_[i].rank = rank;
  marks_[i].expires = expires;
  marks_[i].order = ++order_;
  ++fresh_;
  holds_ += rank > 0;
  if (rank > 0 && expires != never) expiring_.put(i, expires, i);
  return marks_.id(i);
}

// Lays a mark that lies nowhere.
void retention::put(std::uint32_t i, node_id n, std::uint32_t blocks) {
  if (n == no_node || tree_->is_root(n) || blocks == 0) {
    leave_giving_way(i, false);
    discarding_.remove(i);
    if (marks_[i].kind == mark_kind::announced) count_held(i);
    if (!marks_[i].owned) end(i);
    return;
  }
  marks_.lay(i, n, blocks);
  if (marks_[i].kind == mark_kind::announced) count_held(i);
  if (!marks_[i].holds()) {
    if (!expiring_.contains(i)) discarding_.put(i, marks_[i].rank, marks_[i].order);
    return;
  }
  tell_if_held(n);
  if (marks_[i].rank == stays) return;
  if (tree_->children(n) == 0) {
    await_giving_way(i);
  } else {
    leave_giving_way(i, true);  // until its children have gone
  }
}

void retention::await_giving_way(std::uint32_t i) {
  mark& m = marks_[i];
  giving_way_.put(i, m.rank, m.order);
  if (!quotas_.empty()) join_space(i);
  withheld_ -= m.withheld;
  m.withheld = false;
}

// Until it is let go, if it lies somewhere.
void retention::leave_giving_way(std::uint32_t i, bool lies) {
  mark& m = marks_[i];
  giving_way_.remove(i);
  leave_space(i);
  withheld_ -= m.withheld;
  m.withheld = lies && m.kind == mark_kind::announced;
  withheld_ += m.withheld;
}

void retention::end(std::uint32_t i) {
  const node_id n = marks_[i].node;
  const bool held_it = marks_[i].holds();
  marks_.take_off(i);
  leave_giving_way(i, false);
  discarding_.remove(i);
  expiring_.remove(i);
  forget_hashes(i);
  hash_bytes_ -= marks_[i].hashes.capacity() * sizeof(mark::path_hash);
  holds_ -= held_it;
  marks_.give_slot(i);
  if (held_it && n != no_node) let_go(n);
}

bool retention::release(mark_id m) {
  const std::uint32_t i = marks_.find(m);
  if (i != no_index) end(i);
  return i != no_index;
}

void retention::lay(mark_id m, node_id n, std::uint32_t blocks) {
  const std::uint32_t i = marks_.find(m);
  if (i == no_index) return;
  const node_id before = marks_[i].node;
  if (before == n && marks_[i].blocks == blocks) return;
  marks_.take_off(i);
  put(i, n, blocks);
  if (before != no_node) let_go(before);
}

// The latest of a kind decides about what it says something of: a hold about the node's first
// blocks, a discard about those behind depth `from`. Returns how many of the kind are left there
// that nobody owns.
std::uint32_t retention::replace_covered(std::uint32_t i, node_id n, std::uint32_t blocks,
                                         std::uint32_t from) {
  if (n == no_node) return 0;
  std::uint32_t others = 0;
  const std::uint32_t first = tree_->first_block(n);
  const std::uint32_t left = from > first ? from - first : 0;
  marks_.for_each_of_few_on(n, [&](std::uint32_t other) {
    mark& o = marks_[other];
    if (other == i || o.owned || o.kind != marks_[i].kind) return;
    ++others;
    if (o.blocks > blocks) return;
    if (o.holds() && left > 0) {
      if (o.blocks <= left) return;
      o.blocks = left;
      let_go(n);
    } else if (o.holds() || o.from >= from) {
      --others;
      end(other);
    }
  });
  return others;
}

// Where as many of the kind lie on n as there may be, one of them stands for mark i as well, or i
// for all that it covers: more stays then, or is let go, than was said. Whether i has ended.
bool retention::crowded_out(std::uint32_t i, node_id n, std::uint32_t blocks) {
  if (absorbed(i, n, blocks)) {
    end(i);
    return true;
  }
  marks_.for_each_of_few_on(n, [&](std::uint32_t other) {
    const mark& o = marks_[other];
    if (other == i || o.owned || o.kind != marks_[i].kind || o.holds() != marks_[i].holds()) return;
    marks_[i].from = std::min(marks_[i].from, o.from);
    end(other);
  });
  return false;
}

void retention::leave(mark_id m, node_id n, std::uint32_t blocks, double expires) {
  const std::uint32_t i = marks_.find(m);
  if (i == no_index) return;
  const std::uint32_t others = replace_covered(i, n, blocks, 0);
  marks_[i].owned = false;
  marks_[i].order = ++order_;
  if (expires < marks_[i].expires) {
    marks_[i].expires = expires;
    expiring_.put(i, expires, i);
  }
  if (others >= most_of_a_kind && crowded_out(i, n, blocks)) return;
  put(i, n, blocks);
}

void retention::leave_discard(mark_id m, node_id n, std::uint32_t blocks, std::uint32_t from,
                              double when) {
  const std::uint32_t i = marks_.find(m);
  if (i == no_index) return;
  const std::uint32_t others = replace_covered(i, n, blocks, from);
  marks_[i].owned = false;
  marks_[i].from = from;
  marks_[i].expires = when;
  marks_[i].order = ++order_;
  if (when != at_once) expiring_.put(i, when, i);
  if (others >= most_of_a_kind && crowded_out(i, n, blocks)) return;
  put(i, n, blocks);
}

void retention::advance(double now) {
  now_ = std::max(now_, now);
  expire();
}

// However many expire at the same moment, nobody's call ends them all: what is left comes with the
// calls that follow, and with each victim. So many a call cost less than a request, and who makes
// more marks pays for more.
void retention::expire() {
  constexpr std::uint32_t least = 8, longest = 64;
  const std::uint32_t most = least + std::min(fresh_, longest);
  fresh_ = 0;
  for (std::uint32_t k = 0; k < most && !expiring_.empty() && expiring_.top_key() <= now_; ++k) {
    count_marks();
    const std::uint32_t i = expiring_.top();
    if (marks_[i].holds()) {
      end(i);
    } else {
      expiring_.remove(i);
      if (marks_[i].node != no_node) discarding_.put(i, marks_[i].rank, marks_[i].order);
    }
  }
}

std::pair<node_id, std::uint32_t> retention::place_of(mark_id m) const {
  const std::uint32_t i = marks_.find(m);
  if (i == no_index) return {no_node, 0};
  return {marks_[i].node, marks_[i].blocks};
}

void retention::set_quota(node_id root, std::int64_t blocks, std::span<const node_id> nodes) {
  if (blocks != 0) {
    const bool made = !quotas_.has(root);
    quotas_.set(root, blocks, nodes);
    if (!made || tree_->children(root) == 0) return;  // nothing can be held below a new root
    giving_way_.for_each([this](std::uint32_t i) {
      count_marks();
      join_space(i);
    });
  } else if (quotas_.has(root)) {
    for (std::uint32_t i; (i = quotas_.first_hold(root)) != no_index;) leave_space(i);
    quotas_.drop(root);
  }
}

// A mark that could give way is found by its namespace, if that has a quota.
void retention::join_space(std::uint32_t i) {
  leave_space(i);
  const node_id root = quotas_.root_of(marks_[i].node);
  if (root == no_node) return;
  marks_[i].space = root;
  space_heap(marks_, quotas_.first_hold(root)).insert(i);
}

void retention::leave_space(std::uint32_t i) {
  mark& m = marks_[i];
  if (m.space == no_node) return;
  space_heap(marks_, quotas_.first_hold(m.space)).erase(i);
  m.space = no_node;
}

std::int64_t retention::excess(node_id root, std::int64_t incoming) const {
  if (quotas_.empty() || !quotas_.has(root)) return 0;
  return std::max<std::int64_t>(0, quotas_.taken(root) + incoming - quotas_.limit(root));
}

std::size_t retention::bytes() const noexcept {
  // Of announced_: a node's contents and links, and a small vector's memory, each.
  return policy_->bytes() + marks_.bytes() + hash_bytes_ + giving_way_.bytes() +
         discarding_.bytes() + expiring_.bytes() + announced_.size() * 112 + quotas_.bytes();
}

}  // namespace radixkv::detail
