// What callers know beforehand: announced requests, prefixes that stay, quotas, learnt weights.
//
// Announcements know the rest of their path by hashes (a wrong one would hold the wrong blocks for
// a while, no more); a prefix that stays keeps its tokens, and is looked up by them when a sequence
// that may have published more of it is released.
#include <algorithm>
#include <new>

#include "csrc/core/cache_core.h"
#include "csrc/core/no_memory.h"
#include "csrc/core/range_check.h"
#include "csrc/core/step_count.h"
#include "csrc/core/token_ops.h"

namespace radixkv::detail {

status cache_core::check_hints_locked(std::int64_t used, std::int64_t most, const char* option,
                                      const char* what) const {
  if (used < most) return {};
  return {errc::busy,
          "as many " + std::string(what) + " as " + option + " allows, " + std::to_string(most)};
}

// Where the cached part of a prefix ends: its whole blocks, or all of it if all is cached.
tree_place cache_core::cached_place_locked(std::span<const token_id> tokens, std::string_view space,
                                           std::uint64_t& matched) const {
  tree_match m;
  matched = 0;
  if (!match_locked(tokens, space, {}, m) || m.deepest == no_node) return {};
  const std::uint64_t whole = m.blocks * options_.block_tokens;
  if (m.tokens < tokens.size() || m.tokens == whole) {
    matched = whole;
    return m.blocks > 0 ? m.place : tree_place{};
  }
  matched = m.tokens;
  // The block with the rest is the next one of the node where the whole blocks end, or a child's
  // first.
  tree_place at = m.place;
  if (at.node == no_node) at = {spaces_.find(space, tree_)->node, 0};
  if (!tree_.is_root(at.node) && at.blocks < tree_.blocks(at.node)) {
    return {at.node, at.blocks + 1};
  }
  return {tree_.child_with(at.node, m.partial_block, static_cast<std::uint32_t>(m.tokens - whole)),
          1};
}

result<mark_id> cache_core::announce(std::span<const token_id> tokens, std::string_view space) try {
  if (status ok = check_prompt(tokens); !ok) return ok.error();
  std::vector<std::uint64_t> hashes;
  path_digest_.compute(tokens, path_digest_.seed(space), hashes);
  tree_match found;
  const std::uint32_t leaves_added = tree_.leaves_added();
  const bool valid = try_match(tokens, space, {}, found);
  guard lock(*this);
  if (status room = check_hints_locked(announcements_, options_.max_announcements,
                                       "max_announcements", "requests are announced");
      !room) {
    return room.error();
  }
  if (!valid || !is_current_locked(found, leaves_added, tokens, space)) {
    (void)match_locked(tokens, space, {}, found);
  }
  // A split may have moved the place up since the match.
  const tree_place place =
      found.blocks > 0 ? tree_.locate(found.place.node, found.blocks) : tree_place{};
  const mark_id m = policy_->announce(hashes, place.node, place.blocks);
  ++announcements_;
  return m;
} catch (const std::bad_alloc&) {
  return no_memory("to announce a request of", static_cast<std::int64_t>(tokens.size()), "tokens");
}

void cache_core::withdraw(mark_id announced) noexcept {
  guard lock(*this);
  if (policy_->release(announced)) --announcements_;
}

// Holds what there is of a prefix that stays.
bool cache_core::hold_pin_locked(mark_id m, prefix_pin& pin) {
  const std::optional<tree_root> root = spaces_.find(pin.space, tree_);
  const room_scope of(*this, root ? root->node : no_node);
  const std::int64_t depth = pin.depth;
  std::uint64_t matched = 0;
  const tree_place place = cached_place_locked(pin.tokens, pin.space, matched);
  policy_->lay(m, place.node, place.blocks);
  const auto [n, blocks] = policy_->place_of(m);
  pin.depth = n == no_node ? 0 : std::int64_t{tree_.first_block(n)} + blocks;
  pin.whole = matched == pin.tokens.size();
  pinned_depths_.change(depth, pin.depth);
  by_lack_.move(pin.lacking, wanted_locked(pin, {n, blocks}));
  return pin.whole || pin.depth > depth;
}

// What a prefix that stays lacks next. `held`: where what is held of it ends.
lacking_pins::wanted cache_core::wanted_locked(const prefix_pin& pin, tree_place held) const {
  if (pin.whole) return {};
  const auto at = static_cast<std::size_t>(pin.depth * block_tokens());
  const std::size_t n = std::min<std::size_t>(options_.block_tokens, pin.tokens.size() - at);
  const std::uint64_t place =
      pin.depth == 0 ? wanted_place(pin.space)
                     : static_cast<std::uint64_t>(tree_.block(held.node, held.blocks - 1));
  return {place, {pin.tokens.data() + at, n}};
}

result<mark_id> cache_core::pin_prefix(std::span<const token_id> tokens,
                                       std::string_view space) try {
  if (status ok = check_prompt(tokens); !ok) return ok.error();
  prefix_pin pin{std::string(space), {tokens.begin(), tokens.end()}};
  guard lock(*this);
  if (status room =
          check_hints_locked(static_cast<std::int64_t>(pins_.size()), options_.max_pinned_prefixes,
                             "max_pinned_prefixes", "prefixes are pinned");
      !room) {
    return room.error();
  }
  const mark_id m = policy_->make(mark_kind::pinned, retention::stays);
  prefix_pin* kept = nullptr;
  try {
    pin.lacking = by_lack_.add(wanted_place(space), m);
    try {
      kept = &pins_.try_emplace(m, std::move(pin)).second;
    } catch (...) {
      by_lack_.erase(pin.lacking);
      throw;
    }
  } catch (...) {
    policy_->release(m);
    throw;
  }
  hint_bytes_ += bytes_of(*kept);
  hold_pin_locked(m, *kept);
  return m;
} catch (const std::bad_alloc&) {
  return no_memory("to pin a prefix of", static_cast<std::int64_t>(tokens.size()), "tokens");
}

void cache_core::unpin_prefix(mark_id pinned) noexcept {
  guard lock(*this);
  if (auto* const pin = pins_.find(pinned); pin != nullptr) {
    const std::optional<tree_root> root = spaces_.find(pin->second.space, tree_);
    const room_scope of(*this, root ? root->node : no_node);
    pinned_depths_.change(pin->second.depth, 0);
    by_lack_.erase(pin->second.lacking);
    hint_bytes_ -= bytes_of(pin->second);
    pins_.erase(*pin);
  }
  policy_->release(pinned);
  keep_prefix_limit_locked();
}

// A sequence is released, whose path ends with node `end`, or whose whole blocks end nowhere
// (no_node): it may have published more of a prefix that stays.
void cache_core::settle_pins_locked(const sequence_state& s, node_id end) {
  const std::uint64_t space = wanted_place(spaces_.name_of(s.root));
  if (!by_lack_.any_of(space)) return;
  const std::int64_t b = block_tokens();
  const auto settle = [&](std::int64_t depth, std::uint64_t place) {
    const std::int64_t n = std::min(b, s.committed - depth * b);
    if (n <= 0) return;
    by_lack_.for_each_next(
        place, {tree_.row(s.table[static_cast<std::size_t>(depth)]), static_cast<std::size_t>(n)},
        [&](mark_id m) { return hold_pin_locked(m, pins_.find(m)->second); });
  };
  // The deepest first: a prefix that moves then lacks what the path does not have.
  for (node_id n = end; n != no_node && !tree_.is_root(n); n = tree_.parent(n)) {
    count_nodes();
    if (!policy_->holds_any_of_many(n)) continue;
    const std::int64_t first = tree_.first_block(n);
    for (std::int64_t i = tree_.blocks(n); i > 0; --i) {
      settle(first + i,
             static_cast<std::uint64_t>(tree_.block(n, static_cast<std::uint32_t>(i - 1))));
    }
  }
  settle(0, space);
}

std::int64_t cache_core::held_tokens(mark_id m) const {
  std::lock_guard lock(mutex_);
  const auto [n, blocks] = policy_->place_of(m);
  if (n == no_node) return 0;
  const std::int64_t tokens = (std::int64_t{tree_.first_block(n)} + blocks) * block_tokens();
  const auto* const pin = pins_.find(m);
  return pin == nullptr ? tokens
                        : std::min(tokens, static_cast<std::int64_t>(pin->second.tokens.size()));
}

status cache_core::set_quota(std::string_view space, std::int64_t blocks) try {
  if (status ok = check_range("a quota in blocks", blocks, 0, max_blocks); !ok) return ok;
  guard lock(*this);
  const std::optional<tree_root> root = spaces_.find(space, tree_);
  auto* known = quota_limits_.find(space);
  if (blocks == 0) {
    if (known != nullptr) {
      hint_bytes_ -= bytes_of(*known);
      quota_limits_.erase(*known);
    }
    if (root) policy_->set_quota(root->node, 0);
    return {};
  }
  if (known == nullptr) {
    if (status room = check_hints_locked(static_cast<std::int64_t>(quota_limits_.size()),
                                         options_.max_quotas, "max_quotas", "quotas are set");
        !room) {
      return room;
    }
  }
  std::vector<node_id> nodes;
  const bool first = root && !policy_->quotas().has(root->node);
  room_counts counts;
  if (first) {
    nodes = nodes_of_locked(root->node);
    counts = recount_locked(root->node, nodes);
  }
  const bool added = known == nullptr;
  if (added) known = &quota_limits_.try_emplace(std::string(space), blocks);
  try {
    if (root) policy_->set_quota(root->node, blocks, nodes);
  } catch (...) {
    if (added) quota_limits_.erase(*known);
    throw;
  }
  if (added) hint_bytes_ += bytes_of(*known);
  known->second = blocks;
  if (!root) return {};
  if (first) policy_->quotas().count(root->node, counts);
  if (const std::int64_t excess = policy_->excess(root->node, 0); excess > 0) {
    evict_of_locked(root->node, excess);
  }
  return {};
} catch (const std::bad_alloc&) {
  return no_memory("for a quota of", blocks, "blocks");
}

namespace {

constexpr std::size_t table_entry = 4 * sizeof(void*);  // of a hash table, beside what it holds

}  // namespace

std::size_t cache_core::bytes_of(const prefix_pin& pin) noexcept {
  return sizeof pin + table_entry + lacking_pins::entry_bytes + pin.space.capacity() +
         pin.tokens.capacity() * sizeof(token_id);
}

std::size_t cache_core::bytes_of(const quota_map::value_type& quota) noexcept {
  return sizeof quota + table_entry + quota.first.capacity();
}

// Pins and quotas agree with what they were made of. Part of check(), under the lock.
std::string cache_core::check_hints() const {
  std::int64_t depths = 0;
  std::size_t bytes = 0;
  std::string wrong;
  quota_limits_.for_each([&](const auto& quota) { bytes += bytes_of(quota); });
  pins_.for_each([&](const auto& pinned) {
    const auto& [m, pin] = pinned;
    bytes += bytes_of(pin);
    const auto [n, blocks] = policy_->place_of(m);
    const std::int64_t held = n == no_node ? 0 : std::int64_t{tree_.first_block(n)} + blocks;
    if (held != pin.depth) wrong = "a pinned prefix is not held where it was";
    depths += held;
    std::uint64_t matched = 0;
    (void)cached_place_locked(pin.tokens, pin.space, matched);
    if (!pin.lacking.lacks(wanted_locked(pin, {n, blocks}), m)) {
      wrong = "a pinned prefix is known to lack something else";
    }
    const auto length = static_cast<std::int64_t>(pin.tokens.size());
    if (pin.whole ? held * block_tokens() < length
                  : held * block_tokens() > static_cast<std::int64_t>(matched)) {
      wrong = "a pinned prefix is held where it is not cached";
    }
  });
  if (!wrong.empty()) return wrong;
  if (bytes != hint_bytes_) return "the memory of hints is miscounted";
  if (depths != pinned_depths_.now()) return "pinned prefixes miscounted";
  const namespace_quotas& quotas = policy_->quotas();
  for (const node_id n : tree_.all_nodes()) {
    if (!tree_.is_root(n)) continue;
    const auto* const limit = quota_limits_.find(spaces_.name_of(n));
    if (quotas.has(n) != (limit != nullptr)) {
      return "the quota of root " + std::to_string(n) + " is not its namespace's";
    }
    if (quotas.has(n) && quotas.limit(n) != limit->second) {
      return "the quota of root " + std::to_string(n) + " is not what was set";
    }
  }
  return {};
}

result<std::vector<std::byte>> cache_core::save_policy() const try {
  std::lock_guard lock(mutex_);
  return policy_->save();
} catch (const std::bad_alloc&) {
  return no_memory("to save what the policy has learnt");
}

status cache_core::load_policy(std::span<const std::byte> learnt) try {
  std::lock_guard lock(mutex_);
  return policy_->load(learnt);
} catch (const std::bad_alloc&) {
  return no_memory("to load what a policy has learnt,", static_cast<std::int64_t>(learnt.size()),
                   "bytes");
}

// The prompt was hashed at open if the policy needs it; here what was generated since, and prompts
// of which only announcements need the hashes.
void cache_core::complete_path_hashes(sequence_state& s) const noexcept try {
  if (!always_hashes_ && announcements_.load(std::memory_order_relaxed) == 0) return;
  const std::int64_t chunk = path_digest_.chunk_tokens();
  const auto chunks = static_cast<std::size_t>(s.committed / chunk);
  std::size_t i = s.path_hashes.size();
  if (chunks <= i) return;
  s.path_hashes.resize(chunks);
  std::uint64_t h = i > 0 ? s.path_hashes[i - 1] : s.path_seed;
  const std::int64_t b = block_tokens();
  const std::int64_t sampled = path_digest_.sampled();
  for (; i < chunks; ++i) {
    std::uint32_t sample[path_digest::most_sampled];
    const std::int64_t end = (static_cast<std::int64_t>(i) + 1) * chunk;
    const std::int64_t step = std::min(b, sampled);  // the samples lie in whole rows, or in one
    for (std::int64_t at = end - sampled; at < end; at += step) {
      copy_words(sample + (at - (end - sampled)),
                 tree_.row(s.table[static_cast<std::size_t>(at / b)]) + at % b,
                 static_cast<std::size_t>(step));
    }
    s.path_hashes[i] = h = path_digest_.next(h, sample);
  }
} catch (const std::bad_alloc&) {
  // Then the policy knows less of this path, as it may.
}

}  // namespace radixkv::detail
