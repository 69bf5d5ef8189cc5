// Retention while the tree changes, and what it gives up.
#include <algorithm>

#include "csrc/core/eviction/retention.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

void retention::let_go(node_id n) noexcept {
  if (tree_->blocks(n) <= tree_->pinned_blocks(n)) return;  // comes when sequences let go of it
  policy_->on_unpin(n);
  if (!quotas_.empty()) quotas_.on_unpin(n);
  tell_if_held(n);
  stir(n);
}

void retention::tell_if_held(node_id n) noexcept {
  if (holds_ == 0 || tree_->children(n) != 0 || tree_->evictable_blocks(n) == 0 ||
      held(n) < tree_->blocks(n)) {
    return;
  }
  policy_->on_hold(n);
  if (!quotas_.empty()) quotas_.on_hold(n);
}

void retention::stir(node_id n, bool is_leaf) {
  marks_.for_each_of_few_on(n, [&](std::uint32_t i) {
    const mark& m = marks_[i];
    if (m.holds()) {
      if (m.rank != stays && is_leaf) await_giving_way(i);
    } else if (!expiring_.contains(i)) {
      discarding_.put(i, m.rank, m.order);
    }
  });
  // However many announcements lie on n, the foremost one stands for them all, until its turn comes
  // to give way. What a pinned prefix covers does not.
  if (withheld_ == 0 || !is_leaf) return;
  if (const std::uint32_t i = foremost_on(n); i != no_index && marks_[i].withheld) {
    await_giving_way(i);
  }
}

// What holds a node that gets its first child waits no longer to give way: whoever looks for a
// victim need not look through the holds of others that have something behind them. Announcements
// stay until they are met: there may be many on the node, and there are not many in all.
void retention::on_insert(node_id n) noexcept {
  if (const node_id above = tree_->parent(n); holds_ != 0 && tree_->children(above) == 1) {
    marks_.for_each_of_few_on(above, [this](std::uint32_t i) { leave_giving_way(i, true); });
  }
  policy_->on_insert(n);
  quotas_.on_insert(n);
}

void retention::on_extend(node_id n, std::uint32_t blocks) noexcept {
  policy_->on_extend(n, blocks);
  if (!quotas_.empty()) quotas_.on_extend(n, blocks);
}

void retention::on_split(node_id upper, node_id lower) noexcept {
  bool freed = false;
  if (marks_.live() != 0) {
    const std::uint32_t at = tree_->blocks(upper);
    marks_.for_each_on(lower, [&](std::uint32_t i) {
      const std::uint32_t blocks = marks_[i].blocks;
      if (blocks > at) {
        marks_[i].blocks = blocks - at;
      } else {
        marks_.take_off(i);
        marks_.lay(i, upper, blocks);
        if (!marks_[i].is_of_many()) leave_giving_way(i, true);
        freed = true;
      }
    });
  }
  policy_->on_split(upper, lower);
  quotas_.on_split(upper, lower);
  if (freed) let_go(lower);
}

void retention::on_trim(node_id n, std::uint32_t blocks) noexcept {
  if (marks_.live() != 0) {
    const std::uint32_t left = tree_->blocks(n);
    marks_.for_each_on(n, [&](std::uint32_t i) {
      mark& m = marks_[i];
      if (m.blocks < left) return;
      m.blocks = left;
      if (m.kind == mark_kind::announced) count_held(i);
      // What was behind a priority below 0 has gone.
      if (m.kind == mark_kind::priority && !m.holds()) discarding_.put(i, m.rank, m.order);
    });
  }
  policy_->on_trim(n, blocks);
  if (!quotas_.empty()) quotas_.on_trim(n, blocks);
}

// Whether a mark that nobody owns need not be laid on n, because one of its kind lies there that
// covers as much and now stands for both. So a node never has many.
bool retention::absorbed(std::uint32_t i, node_id n, std::uint32_t blocks) {
  const mark& m = marks_[i];
  if (m.owned || blocks == 0) return false;
  bool done = false;
  marks_.for_each_of_few_on(n, [&](std::uint32_t j) {
    mark& o = marks_[j];
    if (done || o.owned || o.kind != m.kind || o.holds() != m.holds() || o.blocks < blocks) return;
    done = true;
    o.from = std::min(o.from, m.from);
    if (!m.holds() || o.rank >= m.rank) return;
    o.rank = m.rank;
    o.order = m.order;
    o.expires = m.expires;
    if (giving_way_.contains(j) || tree_->children(n) == 0) await_giving_way(j);
    expiring_.remove(j);
    if (o.expires != never) expiring_.put(j, o.expires, j);
  });
  return done;
}

// Before n goes: the policy then finds the parent held as soon as it looks.
void retention::move_marks_up(node_id n) noexcept {
  const node_id above = tree_->parent(n);
  const bool shared = tree_->children(above) > 1;
  const std::uint32_t blocks = tree_->is_root(above) ? 0 : tree_->blocks(above);
  marks_.for_each_on(n, [&](std::uint32_t i) {
    marks_.take_off(i);
    // What others have gone on from is not discarded; what lies there already stands for more.
    if ((marks_[i].kind == mark_kind::discarded && shared) || absorbed(i, above, blocks)) {
      end(i);
    } else {
      put(i, above, blocks);
    }
  });
  if (!shared) stir(above, true);
}

void retention::on_remove(node_id n, bool evicted) noexcept {
  if (marks_.live() != 0) move_marks_up(n);
  quotas_.on_remove(n, tree_->parent(n), evicted);
  policy_->on_remove(n, evicted);
}

void retention::on_pin(node_id n) noexcept {
  if (marks_.live() != 0) {
    marks_.for_each_of_few_on(n, [this](std::uint32_t i) {
      if (marks_[i].kind == mark_kind::discarded) discarding_.remove(i);
    });
  }
  policy_->on_pin(n);
  if (!quotas_.empty()) quotas_.on_pin(n);
}

void retention::on_used(node_id n, std::uint32_t blocks) {
  if (marks_.live() == 0) return;
  marks_.for_each_of_few_on(n, [&](std::uint32_t i) {
    mark& m = marks_[i];
    if (m.kind != mark_kind::discarded) return;
    if (m.blocks <= blocks) {
      end(i);
    } else {
      m.from = std::max(m.from, tree_->first_block(n) + blocks);
      if (!expiring_.contains(i)) discarding_.put(i, m.rank, m.order);
    }
  });
}

void retention::on_unused(node_id n) noexcept {
  if (marks_.live() != 0) stir(n);
}

void retention::on_unpin(node_id n) noexcept {
  policy_->on_unpin(n);
  if (!quotas_.empty()) quotas_.on_unpin(n);
  tell_if_held(n);
  if (marks_.live() != 0) stir(n);
}

void retention::on_request(const request_info& request) noexcept {
  policy_->on_request(request);
  quotas_.on_request(request);
  if (request.node != no_node && !tree_->is_root(request.node)) tell_if_held(request.node);
  if (marks_.live() == 0 || request.node == no_node) return;
  // Used again: the last of its rank to give way.
  marks_.for_each_of_few_on(request.node, [this](std::uint32_t i) {
    leave_space(i);
    marks_[i].order = ++order_;
  });
  stir(request.node);
  if (!announced_.empty() && !request.path_hashes.empty()) lay_announced(request);
}

victim retention::next_victim() noexcept {
  if (marks_.live() == 0) return policy_->next_victim();
  if (!expiring_.empty()) expire();
  if (!discarding_.empty()) {
    if (const victim v = discarded(); v.node != no_node) return v;
  }
  if (const victim v = policy_->next_victim(); v.node != no_node) return v;
  return giving_way_.empty() ? victim{} : given_way();
}

victim retention::discarded() {
  while (!discarding_.empty()) {
    const std::uint32_t i = discarding_.top();
    const mark& m = marks_[i];
    const node_id n = m.node;
    // Others have gone on from there. A priority waits until what they added has gone.
    if (tree_->children(n) > 0 || tree_->blocks(n) > m.blocks) {
      if (m.kind == mark_kind::priority) {
        discarding_.remove(i);
      } else {
        end(i);
      }
      continue;
    }
    const std::uint32_t first = tree_->first_block(n);
    const std::uint32_t own = m.from > first ? m.from - first : 0;
    const std::uint32_t keep = std::max(pinned_blocks(n), own);
    if (tree_->blocks(n) > keep) return {n, tree_->blocks(n) - keep};
    if (own >= tree_->blocks(n)) {
      end(i);  // it has gone as far as it reached
    } else {
      discarding_.remove(i);  // comes back when it is let go
    }
  }
  return {};
}

// Blocks of a hold's node that stay when it gives way.
std::uint32_t retention::kept_against(std::uint32_t i) const {
  const mark& m = marks_[i];
  std::uint32_t keep = tree_->pinned_blocks(m.node);
  marks_.for_each_on(m.node, [&](std::uint32_t j) {
    const mark& o = marks_[j];
    if (m.is_before(o)) keep = std::max(keep, o.blocks);
  });
  return keep;
}

// Of the holds that keep all of n the last to give way stands for those that would do so before it,
// and could not: one look at all of them, instead of one for each.
void retention::withhold_weaker(node_id n) {
  std::uint32_t strongest = no_index;
  marks_.for_each_on(n, [&](std::uint32_t i) {
    const mark& m = marks_[i];
    if (!m.holds() || m.blocks < tree_->blocks(n)) return;
    if (strongest == no_index || marks_[strongest].is_before(m)) strongest = i;
  });
  if (strongest == no_index) return;
  marks_.for_each_on(n, [&](std::uint32_t i) {
    if (giving_way_.contains(i) && marks_[i].is_before(marks_[strongest])) {
      leave_giving_way(i, true);
    }
  });
  if (marks_[strongest].rank != stays) await_giving_way(strongest);
}

victim retention::given_way() {
  while (!giving_way_.empty()) {
    if (const victim v = give_way(giving_way_.top()); v.node != no_node) return v;
  }
  return {};
}

// What a hold gives up whose turn has come; if that is nothing, it leaves the queue.
victim retention::give_way(std::uint32_t i) {
  count_marks();
  const node_id n = marks_[i].node;
  if (tree_->evictable(n)) {
    const std::uint32_t keep = kept_against(i);
    if (tree_->blocks(n) > keep) return {n, tree_->blocks(n) - keep};
    withhold_weaker(n);
  }
  if (giving_way_.contains(i)) leave_giving_way(i, true);  // comes back when it is let go
  return {};
}

victim retention::next_victim_of(node_id root) {
  if (!expiring_.empty()) expire();
  if (const victim v = quotas_.next_victim(root); v.node != no_node) return v;
  while (quotas_.first_hold(root) != no_index) {
    if (const victim v = give_way(quotas_.first_hold(root)); v.node != no_node) return v;
  }
  return {};
}

}  // namespace radixkv::detail
