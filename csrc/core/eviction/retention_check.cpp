// The invariants of retention, recomputed.
#include "csrc/core/eviction/retention.h"

namespace radixkv::detail {

std::string retention::check_spaces() const {
  for (std::uint32_t i = 0; i < marks_.slots(); ++i) {
    const mark& m = marks_[i];
    const std::string name = "mark " + std::to_string(i);
    const node_id root =
        m.used && giving_way_.contains(i) ? quotas_.root_of(m.node) : node_id{no_node};
    if (m.space != root) return name + " could give way for another quota";
    if (root != no_node && !space_heap::sound(marks_, quotas_.first_hold(root), i)) {
      return name + " is out of order among what could give way for its quota";
    }
  }
  return {};
}

std::string retention::check() const {
  std::size_t holds = 0;
  std::size_t hash_bytes = 0;
  for (std::uint32_t i = 0; i < marks_.slots(); ++i) {
    const mark& m = marks_[i];
    if (!m.used) continue;
    hash_bytes += m.hashes.capacity() * sizeof(mark::path_hash);
    holds += m.holds();
    const std::string name = "mark " + std::to_string(i);
    if (m.node == no_node) {
      if (giving_way_.contains(i) || discarding_.contains(i)) return name + " waits nowhere";
      if (!m.owned) return name + " lies nowhere and is nobody's";
      continue;
    }
    if (m.blocks == 0 || m.blocks > tree_->blocks(m.node)) {
      return name + " covers " + std::to_string(m.blocks) + " of " +
             std::to_string(tree_->blocks(m.node)) + " blocks";
    }
    bool found = false;
    marks_.for_each_on(m.node, [&](std::uint32_t j) { found = found || j == i; });
    if (!found) return name + " is not on its node";
    if (!m.is_of_many() && giving_way_.contains(i) && tree_->children(m.node) != 0) {
      return name + " could give way before the children of its node";
    }
    const bool covers_all = m.blocks == tree_->blocks(m.node);
    const bool is_first = marks_.one_of_many_on(m.node) == i;
    bool stood_for = false;
    bool foremost = true;
    marks_.for_each_on(m.node, [&](std::uint32_t j) {
      stood_for =
          stood_for || (giving_way_.contains(j) && (!covers_all || !m.is_before(marks_[j])));
      foremost = foremost && (!marks_[j].is_of_many() || marks_[j].blocks <= m.blocks);
    });
    if (m.holds() && m.rank != stays && tree_->evictable(m.node) && m.blocks > kept_against(i) &&
        !stood_for) {
      return name + " can never give way";
    }
    if (is_first && m.foremost && !foremost) return name + " is not the foremost one";
  }
  if (hash_bytes != hash_bytes_) return "hashes of announcements are miscounted";
  if (holds != holds_) {
    return std::to_string(holds_) + " holds counted, " + std::to_string(holds) + " found";
  }
  if (!giving_way_.sound() || !discarding_.sound() || !expiring_.sound()) {
    return "marks are out of order";
  }
  if (std::string wrong = check_announced(); !wrong.empty()) return wrong;
  if (std::string wrong = check_spaces(); !wrong.empty()) return wrong;
  if (std::string wrong = quotas_.check(); !wrong.empty()) return wrong;
  return policy_->check();
}

}  // namespace radixkv::detail
