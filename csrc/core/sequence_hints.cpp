// Hints on a sequence: marks are made when the caller speaks, so that what is refused is refused
// then, and laid on the path when the sequence is released, without an allocation.
#include <algorithm>
#include <limits>
#include <new>

#include "csrc/core/cache_core.h"
#include "csrc/core/no_memory.h"
#include "csrc/core/range_check.h"

namespace radixkv::detail {

namespace {

constexpr std::size_t most_ranges = 64;
constexpr int most_priority = 100;
constexpr double most_seconds = 1e9;
// Of discards: before every priority.
constexpr double ended_rank = -1e6;

status check_seconds(const char* what, double seconds) {
  // Written so that a NaN is refused as well.
  if (seconds > 0 && seconds <= most_seconds) return {};
  return {errc::invalid_argument,
          std::string(what) + " of " + std::to_string(seconds) + " seconds is not in (0, 1e9]"};
}

}  // namespace

// A mark for a sequence, which has hints afterwards.
result<mark_id> cache_core::make_hint_locked(sequence_state& s, mark_kind kind, double rank,
                                             double expires) {
  const auto marks = static_cast<std::int64_t>(policy_->marks() - pins_.size()) - announcements_;
  if (status room = check_hints_locked(marks, options_.max_sequence_hints, "max_sequence_hints",
                                       "hints of sequences are in use");
      !room) {
    return room.error();
  }
  if (!s.hints) s.hints = std::make_unique<sequence_hints>();
  return policy_->make(kind, rank, expires);
}

status cache_core::set_priority(sequence_state& s, std::int64_t first, std::int64_t n,
                                int priority) try {
  if (status ok = check_range("the first token of a priority", first, 0, longest_sequence() - 1);
      !ok) {
    return ok;
  }
  if (status ok = check_range("the tokens of a priority", n, 1, longest_sequence()); !ok) return ok;
  if (status ok = check_range("priority", priority, -most_priority, most_priority); !ok) return ok;
  guard lock(*this);
  std::vector<sequence_hints::range> none;
  std::vector<sequence_hints::range>& ranges = s.hints ? s.hints->ranges : none;
  const auto same = std::find_if(ranges.begin(), ranges.end(),
                                 [&](const auto& r) { return r.first == first && r.n == n; });
  const bool known = same != ranges.end();
  if (priority == 0) {
    if (!known) return {};
    policy_->release(same->mark);
    ranges.erase(same);
    return {};
  }
  if (!known && ranges.size() == most_ranges) {
    return {errc::invalid_argument, "sequence " + std::to_string(s.id) + " has priorities for " +
                                        std::to_string(most_ranges) +
                                        " ranges already, the most there may be"};
  }
  if (!s.hints) s.hints = std::make_unique<sequence_hints>();
  if (!known) s.hints->ranges.reserve(s.hints->ranges.size() + 1);
  result<mark_id> mark = make_hint_locked(s, mark_kind::priority, priority, retention::never);
  if (!mark) return mark.error();
  if (known) {
    policy_->release(same->mark);
    same->mark = *mark;
    same->lets_go = priority < 0;
    std::rotate(same, same + 1, ranges.end());  // said last
  } else {
    s.hints->ranges.push_back({first, n, *mark, priority < 0});
  }
  return {};
} catch (const std::bad_alloc&) {
  return no_memory("for another hint");
}

status cache_core::set_ttl(sequence_state& s, double seconds) try {
  if (status ok = check_seconds("a time to live", seconds); !ok) return ok;
  guard lock(*this);
  if (!s.hints || s.hints->time_to_live == no_mark) {
    result<mark_id> mark = make_hint_locked(s, mark_kind::discarded, ended_rank, retention::never);
    if (!mark) return mark.error();
    s.hints->time_to_live = *mark;
  }
  s.hints->ttl_seconds = seconds;
  return {};
} catch (const std::bad_alloc&) {
  return no_memory("for another hint");
}

// Worth keeping if it promises more hits per block and second than the cache has on average. Hits
// per time held as in the policies' own index: a block that returns at a time spread evenly over
// `within` is held for half of it, one that does not for all of it.
status cache_core::expect_return(sequence_state& s, double probability, double within_seconds) try {
  if (!(probability >= 0 && probability <= 1)) {
    return {errc::invalid_argument,
            "probability " + std::to_string(probability) + " is not in [0, 1]"};
  }
  if (status ok = check_seconds("an expected return", within_seconds); !ok) return ok;
  if (probability == 0) return ended(s);
  guard lock(*this);
  const double promised = probability / (within_seconds * (1 - probability / 2));
  const double usual = hits_.per_second() / static_cast<double>(options_.blocks);
  mark_id fresh = no_mark;
  if (promised >= usual) {
    // Below every priority; among themselves by what they promise, which may be infinite or too
    // little for a double.
    const double rank =
        std::clamp(1 / (1 + (usual > 0 ? usual : 1) / promised), std::numeric_limits<double>::min(),
                   1 - std::numeric_limits<double>::epsilon());
    result<mark_id> mark = make_hint_locked(s, mark_kind::expected, rank, now() + within_seconds);
    if (!mark) return mark.error();
    fresh = *mark;
  }
  if (!s.hints) return {};
  if (s.hints->outlook != no_mark) policy_->release(s.hints->outlook);
  s.hints->outlook = fresh;
  s.hints->ended = false;
  return {};
} catch (const std::bad_alloc&) {
  return no_memory("for another hint");
}

status cache_core::ended(sequence_state& s) try {
  guard lock(*this);
  if (s.hints && s.hints->ended) return {};
  result<mark_id> mark = make_hint_locked(s, mark_kind::discarded, ended_rank, retention::never);
  if (!mark) return mark.error();
  if (s.hints->outlook != no_mark) policy_->release(s.hints->outlook);
  s.hints->outlook = *mark;
  s.hints->ended = true;
  return {};
} catch (const std::bad_alloc&) {
  return no_memory("for another hint");
}

void cache_core::drop_hints_locked(sequence_state& s) noexcept {
  for (const sequence_hints::range& r : s.hints->ranges) policy_->release(r.mark);
  policy_->release(s.hints->time_to_live);
  policy_->release(s.hints->outlook);
  s.hints.reset();
}

// Lays a released sequence's marks on the path that it has used, which ends with node `end`.
void cache_core::leave_hints_locked(sequence_state& s, node_id end) noexcept {
  if (end == no_node) return drop_hints_locked(s);
  sequence_hints& hints = *s.hints;
  const std::int64_t b = block_tokens();
  const auto depth = std::int64_t{tree_.first_block(end)} + tree_.blocks(end);
  double expires = retention::never;
  if (hints.time_to_live != no_mark) expires = now() + hints.ttl_seconds;

  // Those that reach furthest first, of equal ones the one said last comes last: on one node a
  // later one replaces what it covers.
  const auto end_of = [&](const sequence_hints::range& r) {
    return std::min(depth, (r.first + r.n + b - 1) / b);
  };
  std::stable_sort(hints.ranges.begin(), hints.ranges.end(),
                   [&](const auto& x, const auto& y) { return end_of(x) > end_of(y); });
  for (const sequence_hints::range& r : hints.ranges) {
    const std::int64_t blocks = end_of(r);
    if (r.first / b >= depth) {
      policy_->release(r.mark);
      continue;
    }
    const tree_place at = tree_.locate(end, static_cast<std::uint64_t>(blocks));
    if (r.lets_go) {
      policy_->leave_discard(r.mark, at.node, at.blocks, static_cast<std::uint32_t>(r.first / b));
    } else {
      policy_->leave(r.mark, at.node, at.blocks, expires);
    }
  }

  // Down to where another path parts, or to the namespace's root.
  node_id own = end;
  while (!tree_.is_root(tree_.parent(own)) && tree_.children(tree_.parent(own)) == 1) {
    own = tree_.parent(own);
  }
  const std::uint32_t from = tree_.first_block(own);
  if (hints.time_to_live != no_mark) {
    policy_->leave_discard(hints.time_to_live, end, tree_.blocks(end), from, expires);
  }
  if (hints.outlook != no_mark) {
    if (hints.ended) {
      policy_->leave_discard(hints.outlook, end, tree_.blocks(end), from);
    } else {
      policy_->leave(hints.outlook, end, tree_.blocks(end));
    }
  }
  s.hints.reset();
}

}  // namespace radixkv::detail
