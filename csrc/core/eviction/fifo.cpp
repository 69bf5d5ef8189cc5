#include "csrc/core/eviction/fifo.h"

namespace radixkv::detail {

void fifo_policy::on_request(const request_info& request) {
  // The tick stays that of its arrival.
  if (request.node != no_node && !tree_->is_root(request.node)) enqueue(request.node);
}

victim fifo_policy::next_victim() {
  const node_id n = first_evictable(queue_, 0);
  return n == no_node ? victim{} : whole(n);
}

}  // namespace radixkv::detail
