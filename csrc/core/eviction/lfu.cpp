#include "csrc/core/eviction/lfu.h"

namespace radixkv::detail {

void lfu_policy::on_request(const request_info& request) {
  const node_id n = request.node;
  if (n == no_node || tree_->is_root(n)) return;
  node_state& s = state(n);
  s.tick = fresh_tick();
  add_uses(n, 1);
  if (s.at == nowhere) {
    enqueue(n);
  } else {
    heap_.change(s.at, {s.uses, s.tick, n}, moves());
  }
}

victim lfu_policy::next_victim() {
  for (;;) {
    if (heap_.empty()) {
      if (const node_id n = find_lost(0); n != no_node) return whole(n);
      if (heap_.empty()) return {};
    }
    const node_id n = heap_.front().node;
    if (tree_->evictable(n)) return whole(n);
    unqueue(n);  // comes back when it is let go, or its last child goes
  }
}

counted_policy::place lfu_policy::put(node_id n) noexcept {
  const node_state& s = state(n);
  return heap_.insert({s.uses, s.tick, n}, moves()) ? s.at : nowhere;
}

std::string lfu_policy::check_queues() const {
  const bool sound = heap_.sound([this](const entry& e, std::size_t i) {
    const node_state& s = state(e.node);
    return s.at == i && s.uses == e.uses && s.tick == e.tick;
  });
  return sound ? "" : "the heap is out of order";
}

}  // namespace radixkv::detail
