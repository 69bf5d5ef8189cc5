// Room in a sequence's block table: growing it, and copying shared blocks before they are written.
#include <algorithm>
#include <new>

#include "csrc/core/cache_core.h"
#include "csrc/core/no_memory.h"
#include "csrc/core/plan_room.h"
#include "csrc/core/token_ops.h"

namespace radixkv::detail {

tree_place cache_core::published_tail_locked(const sequence_state& s) const noexcept {
  const auto own = static_cast<std::uint32_t>(s.committed % block_tokens());
  if (own == 0) return {};
  const block_id tail = s.table[static_cast<std::size_t>(s.path_blocks)];
  // Mostly it is the pinned node's only block.
  const node_id end = s.pin.end();
  if (!tree_.is_root(end) && tree_.first_block(end) == s.path_blocks &&
      tree_.block(end, 0) == tail) {
    return {end, 1};
  }
  const tree_place at = tree_.locate(end, static_cast<std::uint64_t>(s.path_blocks));
  if (at.blocks < tree_.blocks(at.node) && tree_.block(at.node, at.blocks) == tail) {
    return {at.node, at.blocks + 1};
  }
  return {tree_.child_with(at.node, tail, own), 1};
}

// May the sequence write positions ≥ filled of this block? No mirror of the index may name it (as
// the end of a path that a fork had published, say). It must hold the block alone; of a block that
// the index holds too, nothing behind `filled` may be published (by a fork that went on).
bool cache_core::writable_locked(const sequence_state& s, std::size_t index) const noexcept {
  const block_id b = s.table[index];
  if (s.borrowed_tail && index + 1 == s.table.size()) return false;
  if (pool_.named(b)) return false;
  const std::uint32_t holders = pool_.holders(b);
  if (holders == 1) return true;
  if (holders > 2 || !pool_.tree_shares(b)) return false;
  if (index != static_cast<std::size_t>(s.path_blocks)) return false;
  const tree_place tail = published_tail_locked(s);
  if (tail.node == no_node) return false;
  const std::uint32_t published =
      tree_.tokens(tail.node) - (tail.blocks - 1) * tree_.block_tokens();
  return s.path_blocks * block_tokens() + published <= s.filled;
}

bool cache_core::settle_failures_locked(sequence_state& s) noexcept {
  if (s.reports_known == failed_.reports()) return s.failed;
  const std::span<const block_id> own =
      std::span(s.table).subspan(static_cast<std::size_t>(s.path_blocks));
  s.failed = s.failed || failed_.any_since(s.reports_known, own);
  s.reports_known = failed_.reports();
  return s.failed;
}

// Makes positions [filled, tokens) the sequence's own. What it has to copy goes to the plan.
status cache_core::make_room(sequence_state& s, std::int64_t tokens, step_plan& plan) {
  const std::int64_t b = block_tokens();
  const auto first = static_cast<std::size_t>(s.filled / b);
  const auto total = static_cast<std::size_t>((tokens + b - 1) / b);
  const std::size_t old = s.table.size();
  std::vector<std::size_t> shared;
  unset_vector<block_id> fresh;

  guard lock(*this);  // others look at the table under it
  const room_scope of(*this, s.root);
  s.table.reserve(std::max(total, total > s.table.capacity() ? 2 * s.table.capacity() : 0));
  for (std::size_t i = first; i < std::min(old, total); ++i) {
    if (!writable_locked(s, i)) shared.push_back(i);
  }
  const std::size_t grown = total > old ? total - old : 0;
  const std::size_t wanted = shared.size() + grown;
  if (wanted == 0) {
    s.writable = std::max(s.writable, tokens);
    return {};
  }
  settle_failures_locked(s);
  fresh.resize(wanted);
  reserve_more(plan.copies, shared.size());
  if (!obtain_locked(static_cast<std::int64_t>(wanted), s.root)) {
    return {errc::out_of_blocks, "room for " + std::to_string(tokens) + " tokens needs " +
                                     std::to_string(wanted) + " more blocks; " +
                                     room_locked(static_cast<std::int64_t>(wanted), s.root)};
  }
  (void)pool_.allocate(fresh);
  for (std::size_t j = 0; j < shared.size(); ++j) {
    const std::size_t i = shared[j];
    const block_id from = s.table[i];
    const std::int64_t start = static_cast<std::int64_t>(i) * b;
    const std::int64_t known = std::min(b, s.tokens - start);
    if (known > 0) {
      copy_words(tree_.row(fresh[j]), tree_.row(from), static_cast<std::size_t>(known));
    }
    if (const std::int64_t filled = std::min(b, s.filled - start); filled > 0) {
      plan.copies.push_back({from, fresh[j], static_cast<std::uint32_t>(filled)});
      ++counted_.copied_blocks;
    }
    pool_.release(std::span(&from, 1));
    s.table[i] = fresh[j];
  }
  s.table.insert(s.table.end(), fresh.begin() + static_cast<std::ptrdiff_t>(shared.size()),
                 fresh.end());
  s.borrowed_tail = false;
  s.writable = std::max(s.writable, tokens);
  return {};
}

// Errors that every operation on a sequence's length shares.
status cache_core::check_length(const sequence_state& s, std::int64_t more,
                                const char* what) const {
  const std::int64_t most = longest_sequence();
  if (more < 0 || more > most - s.tokens) {
    return {errc::invalid_argument, std::string(what) + " " + std::to_string(more) +
                                        " tokens to a sequence of " + std::to_string(s.tokens) +
                                        " is not within 0 and " + std::to_string(most) +
                                        " tokens in all, what the pool can hold"};
  }
  return {};
}

namespace {

void forget_logits(slot_map* slots, sequence_state& s) noexcept {
  if (s.slot != no_slot) slots->unpin(s.slot);
  s.slot = no_slot;
}

}  // namespace

status cache_core::append(sequence_state& s, std::span<const token_id> tokens,
                          step_plan& plan) try {
  const auto n = static_cast<std::int64_t>(tokens.size());
  if (status ok = check_length(s, n, "appending"); !ok) return ok;
  if (n == 0) return {};
  if (status ok = make_room(s, s.tokens + n, plan); !ok) return ok;
  write_rows(s, s.tokens, tokens);
  std::lock_guard lock(mutex_);
  s.tokens += n;
  forget_logits(slots_ ? &*slots_ : nullptr, s);
  return {};
} catch (const std::bad_alloc&) {
  return no_memory("to append", static_cast<std::int64_t>(tokens.size()), "tokens");
}

status cache_core::reserve(sequence_state& s, std::int64_t n, step_plan& plan) try {
  if (status ok = check_length(s, n, "reserving"); !ok) return ok;
  return make_room(s, s.tokens + n, plan);
} catch (const std::bad_alloc&) {
  return no_memory("to reserve", n, "tokens");
}

status cache_core::accept(sequence_state& s, std::span<const token_id> tokens) try {
  const auto n = static_cast<std::int64_t>(tokens.size());
  if (n > s.writable - s.tokens) {
    return {errc::invalid_argument, "accepting " + std::to_string(n) +
                                        " tokens, but reserve made room for " +
                                        std::to_string(s.writable - s.tokens)};
  }
  if (n == 0) return {};
  write_rows(s, s.tokens, tokens);
  std::lock_guard lock(mutex_);
  s.tokens += n;
  s.filled = s.tokens - 1;
  s.output_tokens = std::min<std::int64_t>(s.output_tokens + n, max_sequence_tokens);
  forget_logits(slots_ ? &*slots_ : nullptr, s);
  return {};
} catch (const std::bad_alloc&) {  // only a message allocates, before anything changes
  return no_memory("to say what is wrong");
}

status cache_core::mark_filled(sequence_state& s, std::int64_t tokens) try {
  if (tokens > s.tokens || tokens < s.filled) {
    return {errc::invalid_argument, "marking " + std::to_string(tokens) +
                                        " tokens as filled is not within the " +
                                        std::to_string(s.filled) + " that are and the " +
                                        std::to_string(s.tokens) + " that are known"};
  }
  std::lock_guard lock(mutex_);
  s.filled = tokens;
  return {};
} catch (const std::bad_alloc&) {
  return no_memory("to say what is wrong");
}

status cache_core::truncate(sequence_state& s, std::int64_t n) try {
  if (n > s.tokens || n < 0) {
    return {errc::invalid_argument, "truncating to " + std::to_string(n) +
                                        " tokens is not within 0 and the sequence's " +
                                        std::to_string(s.tokens)};
  }
  if (n < s.committed) {
    return {errc::invalid_argument, "truncating to " + std::to_string(n) + " tokens, but " +
                                        std::to_string(s.committed) + " are committed"};
  }
  guard lock(*this);
  const room_scope of(*this, s.root);
  const std::int64_t b = block_tokens();
  const auto keep = static_cast<std::size_t>((n + b - 1) / b);
  settle_failures_locked(s);
  if (keep < s.table.size()) {
    pool_.release(std::span(s.table).subspan(keep));
    s.table.resize(keep);
    s.borrowed_tail = false;
  }
  if (n < s.tokens) {
    forget_logits(slots_ ? &*slots_ : nullptr, s);
    s.siblings = {};
  }
  s.tokens = n;
  s.filled = std::min(s.filled, n);
  s.writable = n;
  return {};
} catch (const std::bad_alloc&) {
  return no_memory("to say what is wrong");
}

// The child shares everything; neither may write to the shared room before it reserves anew.
result<state_ptr> cache_core::fork(sequence_state& s) try {
  auto child = std::make_unique<sequence_state>();
  child->core = s.core;
  const auto shown = static_cast<std::size_t>((s.tokens + block_tokens() - 1) / block_tokens());
  child->table.assign(s.table.begin(), s.table.begin() + static_cast<std::ptrdiff_t>(shown));
  child->duplicates = s.duplicates;
  child->path_hashes = s.path_hashes;
  child->path_seed = s.path_seed;
  guard lock(*this);
  if (status full = check_admission_locked(); !full) return full.error();
  const room_scope of(*this, s.root);
  for (auto i = static_cast<std::size_t>(s.path_blocks); i < shown; ++i) pool_.hold(s.table[i]);
  for (const block_id d : s.duplicates) pool_.hold(d);
  child->tokens = s.tokens;
  child->filled = s.filled;
  child->writable = s.tokens;
  s.writable = s.tokens;
  child->committed = s.committed;
  child->cached = s.cached;
  child->matched = s.matched;
  child->path_blocks = s.path_blocks;
  child->borrowed_tail = s.borrowed_tail;
  child->failed = s.failed;
  child->reports_known = s.reports_known;
  // The same pin, a committed partial tail included.
  child->root = s.root;
  const tree_place end = tree_.place_of(s.pin);
  tree_.pin(child->pin, end);
  if (!tree_.is_root(end.node)) policy_->on_pin(end.node);
  child->slot = s.slot;
  if (s.slot != no_slot) slots_->pin(s.slot);
  child->id = next_id_++;
  child->request = ++requests_;
  child->opened_at = now();
  child->prompt_tokens = s.tokens;
  link_locked(*child);
  return child;
} catch (const std::bad_alloc&) {
  return no_memory("to fork a sequence of", s.tokens, "tokens");
}

}  // namespace radixkv::detail
