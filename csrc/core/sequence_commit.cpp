// Publishing what a sequence has filled, and letting go of it.
#include <algorithm>
#include <new>

#include "csrc/core/cache_core.h"
#include "csrc/core/no_memory.h"
#include "csrc/core/plan_room.h"
#include "csrc/core/stage_timer.h"

namespace radixkv::detail {

namespace {

status check_commit(const sequence_state& s, bool failed, std::int64_t n) {
  if (failed) {
    return {errc::released, "sequence " + std::to_string(s.id) +
                                " cannot be committed: a plan that fills its blocks failed"};
  }
  if (n < 0 || n > s.filled) {
    return {errc::invalid_argument, "committing " + std::to_string(n) +
                                        " tokens is not within 0 and the " +
                                        std::to_string(s.filled) + " that are filled"};
  }
  return {};
}

}  // namespace

void cache_core::unpin_locked(tree_pin& pin) noexcept {
  if (const node_id n = tree_.unpin(pin); n != no_node) policy_->on_unpin(n);
}

void cache_core::repin_locked(sequence_state& s, tree_place place) noexcept {
  const radix_tree::moved_pin pin = tree_.repin(s.pin, place);
  if (place.node != pin.from) {
    policy_->on_pin(place.node);
    policy_->on_used(place.node, place.blocks);
  }
  if (pin.less) policy_->on_unpin(pin.from);
}

// Of `mine`, published from depth `first` on, those are not the index's that are in `duplicates`,
// in their order.
void cache_core::offer_locked(node_id end, std::int64_t first, std::span<const block_id> mine,
                              std::span<const block_id> duplicates) noexcept {
  const std::string_view space = spaces_.name_of(tree_.root_of(end));
  for (std::size_t i = 0; i < mine.size(); ++i) {
    const block_id b = mine[i];
    if (!duplicates.empty() && duplicates.front() == b) {
      duplicates = duplicates.subspan(1);
      continue;
    }
    if (pool_.listed(b)) continue;
    const auto depth = static_cast<std::uint64_t>(first) + i;
    block_id parent = no_block;
    if (depth > 0) {
      const tree_place above = tree_.locate(end, depth);
      parent = tree_.block(above.node, above.blocks - 1);
      if (!pool_.listed(parent)) continue;
    }
    if (options_.listener->on_publish(b, parent, space,
                                      std::span(tree_.row(b), tree_.block_tokens()))) {
      pool_.list(b);
    }
  }
}

void cache_core::commit_locked(sequence_state& s, std::int64_t n, commit_result& out,
                               bool& out_of_memory) {
  const room_scope of(*this, s.root);
  const std::int64_t b = block_tokens();
  const auto path = static_cast<std::size_t>(s.path_blocks);
  const auto blocks = static_cast<std::size_t>((n + b - 1) / b);
  const std::span<const block_id> mine = std::span(s.table).subspan(path, blocks - path);
  const tree_place at = tree_.locate(s.pin.end(), static_cast<std::uint64_t>(s.path_blocks));
  const tree_publication done = tree_.publish(
      at, mine, static_cast<std::uint64_t>(n - s.path_blocks * b), s.grows_leaf, s.siblings);
  if (!done.ok) {
    out_of_memory = true;
    return;
  }
  // Whole blocks go over to the index, kept for this sequence by its pin. A partial tail is held by
  // both: this sequence alone may go on writing behind what is published.
  const auto whole = std::min<std::size_t>(done.processed, static_cast<std::size_t>(n / b) - path);
  for (std::size_t i = 0; i < done.processed; ++i) {
    const std::span<const block_id> one = mine.subspan(i, 1);
    if (pool_.tree_shares(one[0])) {
      if (i < whole) pool_.release(one);
    } else if (i < done.first_taken) {
      if (i >= whole) continue;
      s.duplicates.push_back(one[0]);
      ++out.duplicate_blocks;
    } else {
      // All that follow are new as well.
      const std::size_t moved = whole > i ? whole - i : 0;
      pool_.move_to_tree(mine.subspan(i, moved));
      if (i + moved < done.processed) pool_.share_with_tree(mine[i + moved]);
      out.new_blocks = static_cast<std::int64_t>(done.processed - i);
      break;
    }
  }
  if (done.replaced != no_block) pool_.release_tree(std::span(&done.replaced, 1));
  if (options_.listener) {
    offer_locked(done.end, s.path_blocks, mine.first(whole),
                 std::span(s.duplicates).last(static_cast<std::size_t>(out.duplicate_blocks)));
  }
  counted_.duplicate_blocks += out.duplicate_blocks;
  s.path_blocks += static_cast<std::int64_t>(whole);
  s.committed = done.processed == mine.size() ? n : s.path_blocks * b;
  s.grows_leaf = done.first_taken < done.processed && done.replaced == no_block &&
                 tree_.children(done.end) == 0;
  // The partial tail is pinned too, whosever block it lies in: what an open sequence has committed
  // can be matched.
  repin_locked(s, {done.end, done.end_blocks});
  keep_prefix_limit_locked();
}

result<commit_result> cache_core::commit(sequence_state& s, std::int64_t n) try {
  const stage_timer timing(&stage_times::commit);
  guard lock(*this);  // another thread may report the failure of a shared plan
  if (status ok = check_commit(s, settle_failures_locked(s), n); !ok) return ok.error();
  commit_result out;
  out.published_tokens = s.committed;
  if (n <= s.committed) return out;
  reserve_more(s.duplicates,
               static_cast<std::size_t>((n + block_tokens() - 1) / block_tokens() - s.path_blocks));
  bool out_of_memory = false;
  commit_locked(s, n, out, out_of_memory);
  if (out_of_memory) {
    return no_memory("to publish", n, "tokens");
  }
  out.published_tokens = s.committed;
  return out;
} catch (const std::bad_alloc&) {
  return no_memory("to publish", n, "tokens");
}

result<commit_result> cache_core::commit_logits(sequence_state& s, std::int64_t n, std::int32_t row,
                                                step_plan& after) try {
  if (row < 0) {
    return {errc::invalid_argument, "row " + std::to_string(row) + " of the logits is below 0"};
  }
  if (n < s.committed || n == 0) {
    return {errc::invalid_argument, "logits of a prompt of " + std::to_string(n) + " tokens, but " +
                                        std::to_string(s.committed) +
                                        " are committed and a prompt has at least 1"};
  }
  reserve_one(after.logits);
  result<commit_result> done = commit(s, n);
  if (!done || !slots_ || done->published_tokens != n) return done;
  guard lock(*this);
  const std::int64_t b = block_tokens();
  const auto whole = static_cast<std::size_t>(n / b);
  const auto rest = static_cast<std::size_t>(n % b);
  const std::int64_t anchor = anchor_at(s.pin.end(), whole);
  const std::span<const token_id> key(rest > 0 ? tree_.row(s.table[whole]) : nullptr, rest);
  const bool known = slots_->find(anchor, key) != no_slot;
  done->slot = slots_->assign(anchor, key);
  if (done->slot == no_slot) return done;
  if (known) {
    slots_->touch(done->slot);
    return done;
  }
  if (anchor >= 0) pool_.set_mark(static_cast<block_id>(anchor));
  after.logits.push_back({logits_direction::store, done->slot, row});
  return done;
} catch (const std::bad_alloc&) {
  return no_memory("to keep the logits of", n, "tokens");
}

// The path that a sequence has used, its end made the end of a node where memory allows.
request_info cache_core::use_of_locked(const sequence_state& s) noexcept {
  tree_place at = published_tail_locked(s);
  const bool inside_block = at.node != no_node;
  if (!inside_block) at = tree_.locate(s.pin.end(), static_cast<std::uint64_t>(s.path_blocks));
  request_info use;
  use.ends_inside_block = inside_block;
  node_id end = at.node;
  if (tree_.is_root(end)) return use;
  // Where the use ends inside a node, its head becomes a node of its own.
  if (at.blocks < tree_.blocks(end) && tree_.split_after(end, at.blocks)) end = tree_.parent(end);
  use.node = end;
  use.request = s.request;
  use.seconds = s.opened_at;
  use.prompt_tokens = static_cast<std::uint32_t>(s.prompt_tokens);
  use.output_tokens = static_cast<std::uint32_t>(s.output_tokens);
  use.path_hashes = s.path_hashes;
  use.matched_blocks = static_cast<std::uint32_t>(s.matched / block_tokens());
  return use;
}

void cache_core::release_locked(sequence_state& s) noexcept {
  const room_scope of(*this, s.root);
  const request_info use = use_of_locked(s);
  const bool nothing_pinned = s.pin.depth == 0;
  unpin_locked(s.pin);
  if (use.node != no_node) policy_->on_request(use);
  if (s.hints) leave_hints_locked(s, use.node);
  if (by_lack_.any() && s.committed > 0) settle_pins_locked(s, use.node);
  pool_.release(std::span(s.table).subspan(static_cast<std::size_t>(s.path_blocks)));
  pool_.release(s.duplicates);
  if (s.slot != no_slot) slots_->unpin(s.slot);
  unlink_locked(s);
  if (nothing_pinned) forget_root_locked(s.root);
}

void cache_core::release(sequence_state& s) noexcept {
  complete_path_hashes(s);
  guard lock(*this);
  release_locked(s);
  keep_prefix_limit_locked();  // what was open when the limit was passed
}

void cache_core::link_locked(sequence_state& s) noexcept {
  s.next = open_;
  if (open_) open_->previous = &s;
  open_ = &s;
  ++open_count_;
}

void cache_core::unlink_locked(sequence_state& s) noexcept {
  (s.previous ? s.previous->next : open_) = s.next;
  if (s.next) s.next->previous = s.previous;
  --open_count_;
}

}  // namespace radixkv::detail
