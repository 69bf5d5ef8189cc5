// Opening sequences: match without the lock, pin and allocate under it, write the new tokens after
// it.
#include <algorithm>
#include <new>

#include "csrc/core/block_runs.h"
#include "csrc/core/cache_core.h"
#include "csrc/core/no_memory.h"
#include "csrc/core/plan_room.h"
#include "csrc/core/row_lines.h"
#include "csrc/core/stage_timer.h"
#include "csrc/core/step_count.h"
#include "csrc/core/token_ops.h"

namespace radixkv::detail {

status cache_core::check_prompt(std::span<const token_id> tokens) const {
  const std::int64_t most = longest_sequence();
  const auto n = static_cast<std::int64_t>(tokens.size());
  if (n == 0) return {errc::invalid_argument, "a prompt of 0 tokens; the least is 1"};
  if (n > most) {
    return {errc::invalid_argument, "a prompt of " + std::to_string(n) + " tokens is longer than " +
                                        std::to_string(most) + ", all that the pool can hold"};
  }
  return {};
}

status cache_core::check_admission_locked() const {
  if (open_count_ < options_.max_sequences) return {};
  return {errc::out_of_blocks, "as many sequences are open as max_sequences allows, " +
                                   std::to_string(options_.max_sequences)};
}

// The root of a namespace, made if there is none.
result<node_id> cache_core::root_locked(std::string_view space) {
  if (const std::optional<tree_root> known = spaces_.find(space, tree_)) return known->node;
  const node_id root = tree_.add_root();
  if (root == no_node) return {errc::out_of_memory, "no room for another namespace"};
  try {
    spaces_.add(space, root);
  } catch (...) {
    tree_.remove_root(root);
    throw;
  }
  if (quota_limits_.empty()) return root;
  try {
    if (const auto* const limit = quota_limits_.find(space)) {
      policy_->set_quota(root, limit->second);
    }
  } catch (...) {
    forget_root_locked(root);
    throw;
  }
  return root;
}

void cache_core::forget_root_locked(node_id root) {
  if (tree_.children(root) != 0 || !tree_.pins(root).empty()) return;
  if (slots_) slots_->drop_anchor(-1 - std::int64_t{root});
  policy_->set_quota(root, 0);
  spaces_.remove(root);
  tree_.remove_root(root);
}

// Pins what serves the prompt and allocates the rest. On failure nothing is left behind.
status cache_core::admit_locked(candidate& c, sequence_state& s, step_plan& plan) {
  if (status full = check_admission_locked(); !full) return full;
  if (!c.valid || !is_current_locked(c.found, c.leaves_added, c.tokens, c.space)) {
    (void)match_locked(c.tokens, c.space, c.table, c.found);
  }
  const std::int64_t b = block_tokens();
  const auto n = static_cast<std::int64_t>(c.tokens.size());
  tree_match& m = c.found;
  const bool too_short = m.tokens > 0 && m.tokens < options_.min_prefix_tokens;
  s.siblings = m.siblings;
  if (too_short || m.deepest == no_node) m = {};
  const auto matched = static_cast<std::int64_t>(m.tokens);

  result<node_id> root = root_locked(c.space);
  if (!root) return root.error();
  s.root = *root;
  logits_slot slot = no_slot;
  if (slots_ && matched == n) {
    slot = slots_->find(anchor_at(m.place.node, m.blocks),
                        c.tokens.subspan(m.blocks * options_.block_tokens));
  }
  std::int64_t served = slot != no_slot ? n : std::min(matched, n - 1);
  const std::int64_t whole = served / b;
  const auto rest = static_cast<std::uint32_t>(served % b);
  // The block with the served part of a block: borrowed if nothing is to be written, else copied.
  block_id source = no_block;
  if (rest > 0) {
    source = whole < static_cast<std::int64_t>(m.blocks) ? c.table[static_cast<std::size_t>(whole)]
                                                         : m.partial_block;
  }
  const bool borrow = source != no_block && served == n;
  const std::int64_t total = (n + b - 1) / b;
  const std::int64_t wanted = total - whole - (borrow ? 1 : 0);

  if (const auto& quotas = policy_->quotas(); !quotas.empty() && quotas.has(*root)) {
    if (const std::int64_t limit = quotas.limit(*root); total > limit) {
      forget_root_locked(*root);
      return {errc::invalid_argument, "a prompt of " + std::to_string(n) + " tokens takes " +
                                          std::to_string(total) + " blocks, more than the " +
                                          std::to_string(limit) + " of its namespace's quota"};
    }
  }

  const auto no_room = [&](block_id spared) {
    return status(errc::out_of_blocks, "a prompt of " + std::to_string(n) + " tokens needs " +
                                           std::to_string(wanted) + " blocks; " +
                                           room_locked(wanted, *root, spared));
  };
  // Where requests are refused again and again none is to cost what the first did.
  if (is_hopeless_locked(wanted, *root)) {
    status refused = no_room(no_block);
    forget_root_locked(*root);
    return refused;
  }

  const room_scope of(*this, *root);
  const double opened_at = now();
  policy_->advance(opened_at);
  tree_place place{*root, 0};
  if (whole > 0) place = tree_.locate(m.place.node, static_cast<std::uint64_t>(whole));
  tree_.pin(s.pin, place);
  if (whole > 0) policy_->on_pin(place.node);
  s.path_blocks = whole;
  link_locked(s);
  if (source != no_block) {
    // Held beyond the pin of the sequence whose tail it may be.
    if (pool_.tree_shares(source)) {
      borrowed_.change(0, 1);
      borrowed_.change(1, 0);
    }
    pool_.hold_cached(source);  // not to be evicted to make room for this one
  }
  const auto undo = [&] {
    if (source != no_block) pool_.release(std::span(&source, 1));
    unlink_locked(s);
    unpin_locked(s.pin);
    if (whole > 0) policy_->on_unused(place.node);
  };
  try {
    bool obtained = obtain_locked(wanted, *root, source);
    if (!obtained && source != no_block && !borrow) {
      // No room for a block to copy from beside the prompt: then its whole blocks must do.
      // Otherwise a prompt as large as the pool could wait for ever.
      pool_.release(std::span(&source, 1));
      source = no_block;
      served = whole * b;
      obtained = obtain_locked(wanted, *root);
    }
    if (!obtained) {
      status refused = no_room(source);
      undo();
      know_room_locked(*root);
      forget_root_locked(*root);
      return refused;
    }
  } catch (const std::bad_alloc&) {
    undo();
    forget_root_locked(*root);
    throw;
  }
  if (whole > 0) policy_->on_used(place.node, place.blocks);
  s.table.swap(c.table);
  s.table.resize(static_cast<std::size_t>(total));
  const std::span<block_id> own =
      std::span(s.table).subspan(static_cast<std::size_t>(total - wanted));
  (void)pool_.allocate(own);
  if (borrow) {
    s.table[static_cast<std::size_t>(whole)] = source;
  } else if (source != no_block) {
    plan.copies.push_back({source, own[0], rest});
    ++counted_.copied_blocks;
    pool_.release(std::span(&source, 1));
  }
  s.borrowed_tail = borrow;
  s.tokens = n;
  s.filled = served;
  s.writable = n;
  s.committed = whole * b;
  s.cached = served;
  s.matched = matched;
  s.prompt_tokens = n;
  s.reports_known = failed_.reports();
  s.slot = slot;
  if (slot != no_slot) {
    slots_->pin(slot);
    ++counted_.logits_hits;
  }
  s.id = next_id_++;
  s.request = ++requests_;
  s.opened_at = opened_at;
  hits_.count(static_cast<std::int64_t>(m.blocks), opened_at);
  if (c.announced != no_mark && policy_->release(c.announced)) --announcements_;

  ++counted_.requests;
  counted_.requests_hit += served > 0;
  counted_.short_matches += too_short;
  counted_.tokens_looked_up += n;
  counted_.tokens_hit += served;
  return {};
}

void cache_core::write_rows(const sequence_state& s, std::int64_t first,
                            std::span<const token_id> tokens) noexcept {
  const std::int64_t b = block_tokens();
  count_tokens(tokens.size());
  auto block = static_cast<std::size_t>(first / b);
  auto offset = static_cast<std::size_t>(first % b);
  if (b == line_tokens && offset == 0) {
    const std::size_t whole = tokens.size() / line_tokens;
    const std::size_t written = write_lines(tree_.row(0), std::span(s.table).subspan(block, whole),
                                            tokens.data(), streams_rows_);
    tokens = tokens.subspan(written * line_tokens);
    block += written;
  }
  while (!tokens.empty()) {
    // Blocks with consecutive ids have consecutive rows: one copy.
    const std::size_t left =
        (offset + tokens.size() + static_cast<std::size_t>(b) - 1) / static_cast<std::size_t>(b);
    const std::size_t blocks = ascending(std::span(s.table).subspan(block, left));
    const std::size_t room = blocks * static_cast<std::size_t>(b) - offset;
    const std::size_t n = std::min(room, tokens.size());
    std::uint32_t* const to = tree_.row(s.table[block]) + offset;
    if (streams_rows_) {
      stream_words(to, tokens.data(), n);
    } else {
      copy_words(to, tokens.data(), n);
    }
    tokens = tokens.subspan(n);
    block += blocks;
    offset = 0;
  }
}

result<state_ptr> cache_core::open_candidate(candidate& c, step_plan& plan) {
  auto s = std::make_unique<sequence_state>();
  s->core = shared_from_this();
  reserve_one(plan.copies);
  s->path_seed = path_digest_.seed(c.space);
  if (always_hashes_) path_digest_.make_room(c.tokens, s->path_hashes);
  stage_timer timing(&stage_times::allocate);
  {
    guard lock(*this);
    if (status admitted = admit_locked(c, *s, plan); !admitted) {
      counted_.failed_opens += admitted.error().code == errc::out_of_blocks;
      return admitted.error();
    }
  }
  // The rest of the prompt; where a block is copied or borrowed, its row too.
  const std::int64_t first = s->path_blocks * block_tokens();
  if (!s->borrowed_tail) {
    write_rows(*s, first, c.tokens.subspan(static_cast<std::size_t>(first)));
  }
  // The tokens are at hand now.
  if (always_hashes_) path_digest_.fill(c.tokens, s->path_seed, s->path_hashes);
  return s;
}

result<state_ptr> cache_core::open(std::span<const token_id> tokens, std::string_view space,
                                   step_plan& plan, mark_id announced) try {
  if (status ok = check_prompt(tokens); !ok) return ok.error();
  candidate c{tokens, space, {}, {}, false, tree_.leaves_added(), announced};
  c.table.resize((tokens.size() + options_.block_tokens - 1) / options_.block_tokens);
  {
    const stage_timer timing(&stage_times::match);
    c.valid = try_match(tokens, space, c.table, c.found);
  }
  return open_candidate(c, plan);
} catch (const std::bad_alloc&) {
  return no_memory("to open a sequence of", static_cast<std::int64_t>(tokens.size()), "tokens");
}

void cache_core::open_batch(std::span<const open_request> requests,
                            std::span<const mark_id> announced, step_plan& plan,
                            std::vector<state_ptr>& opened, error& stopped) try {
  constexpr std::size_t group = 64;
  for (std::size_t first = 0; first < requests.size(); first += group) {
    const std::size_t n = std::min(group, requests.size() - first);
    std::array<candidate, group> candidates;
    std::array<tree_root, group> roots;
    std::array<std::span<const token_id>, group> tokens;
    std::array<std::span<block_id>, group> tables;
    std::array<tree_match, group> found;
    std::array<bool, group> ok{};
    std::array<std::size_t, group> which{};
    std::size_t matching = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const open_request& r = requests[first + i];
      candidate& c = candidates[i];
      c.tokens = r.tokens;
      c.space = r.name_space;
      c.announced = announced[first + i];
      c.leaves_added = tree_.leaves_added();
      if (!check_prompt(r.tokens)) continue;
      c.table.resize((r.tokens.size() + options_.block_tokens - 1) / options_.block_tokens);
      const std::optional<tree_root> root = spaces_.find(c.space, tree_);
      c.valid = !root;
      if (!root) continue;
      roots[matching] = *root;
      tokens[matching] = c.tokens;
      tables[matching] = c.table;
      which[matching++] = i;
    }
    {
      const stage_timer timing(&stage_times::match);
      tree_.match_batch(std::span(roots).first(matching), std::span(tokens).first(matching),
                        std::span(tables).first(matching), std::span(found).first(matching),
                        std::span(ok).first(matching));
    }
    for (std::size_t i = 0; i < matching; ++i) {
      candidates[which[i]].found = found[i];
      candidates[which[i]].valid = ok[i];
    }
    for (std::size_t i = 0; i < n; ++i) {
      if (status ready = check_prompt(candidates[i].tokens); !ready) {
        stopped = ready.error();
        return;
      }
      result<state_ptr> s = open_candidate(candidates[i], plan);
      if (!s) {
        stopped = s.error();
        return;
      }
      opened.push_back(std::move(*s));
    }
  }
} catch (const std::bad_alloc&) {
  stopped = no_memory("to open a batch of", static_cast<std::int64_t>(requests.size()), "requests");
}

}  // namespace radixkv::detail
