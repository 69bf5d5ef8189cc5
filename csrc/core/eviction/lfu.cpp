#include "csrc/core/eviction/lfu.h"

#include <algorithm>
#include <new>

namespace radixkv::detail {

void lfu_policy::on_request(const request_info& request) {
  const node_id n = request.node;
  if (n == no_node || tree_->is_root(n)) return;
  touch(n);
  add_uses(n, 1);
  enqueue(n);
}

victim lfu_policy::next_victim() {
  for (;;) {
    if (heap_.empty()) {
      if (const node_id n = find_lost(0); n != no_node) return whole(n);
      if (heap_.empty()) return {};
    }
    const entry e = heap_.front();
    if (current(e)) {
      if (tree_->evictable(e.node)) return whole(e.node);
      unqueue(e.node);
    }
    std::pop_heap(heap_.begin(), heap_.end(), later);
    heap_.pop_back();
  }
}

bool lfu_policy::put(node_id n) noexcept try {
  heap_.push_back({state(n).uses, state(n).tick, n});
  std::push_heap(heap_.begin(), heap_.end(), later);
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

void lfu_policy::compact_queues() {
  if (heap_.size() <= 2 * live_ + node_queue::slack) return;
  std::erase_if(heap_, [this](const entry& e) { return !current(e); });
  try {
    heap_.shrink_to_fit();
  } catch (const std::bad_alloc&) {  // then it stays as large as it is
  }
  std::make_heap(heap_.begin(), heap_.end(), later);
}

}  // namespace radixkv::detail
