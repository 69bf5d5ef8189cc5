#include "csrc/cli/lookahead_queue.h"

#include <algorithm>

namespace radixkv::cli {

result<announcement> lookahead_queue::take(std::size_t index, std::size_t end) {
  const std::lock_guard lock(mutex_);
  const std::size_t until = std::min(end, index + depth_ + 1);
  for (std::size_t next = first_ + waiting_.size(); next < until; ++next) {
    waiting_.emplace_back();
    const trace_request& r = source_.requests[next];
    result<announcement> one =
        cache_.announce(prompts_.prompt(next), source_.name_spaces[r.name_space]);
    if (one) {
      waiting_.back() = std::move(*one);
    } else if (one.error().code != errc::invalid_argument) {
      return one.error();
    }
  }
  announcement taken = std::move(waiting_[index - first_]);
  // Those in front that other threads took are empty by now, or will be asked for.
  if (index == first_) {
    waiting_.pop_front();
    ++first_;
  }
  return taken;
}

}  // namespace radixkv::cli
