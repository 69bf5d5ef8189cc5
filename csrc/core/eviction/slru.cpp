#include "csrc/core/eviction/slru.h"

namespace radixkv::detail {

void slru_policy::attach(const tree_view& tree, std::int64_t capacity_blocks) {
  protected_blocks_ = 0;
  counted_policy::attach(tree, capacity_blocks);
}

void slru_policy::on_extend(node_id n, std::uint32_t blocks) {
  if (state(n).segment == protection) protected_blocks_ += blocks;
  counted_policy::on_extend(n, blocks);
}

void slru_policy::on_trim(node_id n, std::uint32_t blocks) {
  if (state(n).segment == protection) protected_blocks_ -= blocks;
}

void slru_policy::on_request(const request_info& request) {
  const node_id n = request.node;
  if (n == no_node || tree_->is_root(n)) return;
  touch(n);
  // What was found cached is hit. Nodes above a protected one are protected already.
  for (node_id at = n; at != no_node && !tree_->is_root(at) && state(at).segment == probation;
       at = tree_->parent(at)) {
    if (tree_->first_block(at) >= request.matched_blocks) continue;
    unqueue(at);
    state(at).segment = protection;
    protected_blocks_ += tree_->blocks(at);
    if (at != n && tree_->children(at) == 0) enqueue(at);
  }
  enqueue(n);
  demote();
}

void slru_policy::demote() {
  const auto limit =
      static_cast<std::int64_t>(protected_share * static_cast<double>(capacity_blocks_));
  while (protected_blocks_ > limit) {
    const node_id n = first_evictable(queues_[protection], protection);
    if (n == no_node) return;
    touch(n);
    state(n).segment = probation;
    protected_blocks_ -= tree_->blocks(n);
    enqueue(n);
  }
}

victim slru_policy::next_victim() {
  node_id n = first_evictable(queues_[probation], probation);
  if (n == no_node) n = first_evictable(queues_[protection], protection);
  return n == no_node ? victim{} : whole(n);
}

void slru_policy::clear_queues() {
  queues_[0].clear();
  queues_[1].clear();
}

void slru_policy::gone(node_id n, bool) {
  if (state(n).segment == protection) protected_blocks_ -= tree_->blocks(n);
}

std::string slru_policy::check_queues() const {
  std::string wrong = counted_policy::check(queues_[0]);
  return wrong.empty() ? counted_policy::check(queues_[1]) : wrong;
}

std::string slru_policy::check() const {
  if (protected_blocks_ < 0) return "slru: protected blocks below 0";
  return counted_policy::check();
}

}  // namespace radixkv::detail
