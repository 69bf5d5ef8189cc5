// Matching: without the lock, beside a writer; with it when a writer keeps coming in the way.
#include <algorithm>
#include <vector>

#include "csrc/core/cache_core.h"
#include "csrc/core/stage_timer.h"

namespace radixkv::detail {

namespace {

constexpr int optimistic_tries = 16;

}  // namespace

bool cache_core::try_match(std::span<const token_id> tokens, std::string_view space,
                           std::span<block_id> table, tree_match& out) const {
  for (int i = 0; i < optimistic_tries; ++i) {
    const std::optional<tree_root> root = spaces_.find(space, tree_);
    if (!root) {
      out = {};
      return true;  // nothing was ever cached under this name
    }
    if (tree_.match(*root, tokens, table, out)) return true;
  }
  return false;
}

bool cache_core::match_locked(std::span<const token_id> tokens, std::string_view space,
                              std::span<block_id> table, tree_match& out) const {
  const std::optional<tree_root> root = spaces_.find(space, tree_);
  out = {};
  return root && tree_.match(*root, tokens, table, out);
}

bool cache_core::is_current_locked(const tree_match& m, std::uint32_t leaves_added,
                                   std::span<const token_id> tokens, std::string_view space) const {
  if (m.deepest == no_node) return !spaces_.find(space, tree_);  // the namespace may have come up
  return tree_.still(m) && (leaves_added == tree_.leaves_added() || !tree_.goes_on(m, tokens));
}

// The anchor of the logits row of a prompt whose last whole block is number `depth` on the path of
// n.
std::int64_t cache_core::anchor_at(node_id n, std::uint64_t depth) const {
  const tree_place p = tree_.locate(n, depth);
  return p.blocks == 0 ? -1 - std::int64_t{p.node} : tree_.block(p.node, p.blocks - 1);
}

void cache_core::to_prefix_match(const tree_match& m, std::span<const token_id> tokens,
                                 prefix_match& out) const {
  out = {static_cast<std::int64_t>(m.tokens), static_cast<std::int64_t>(m.blocks), no_slot};
  if (!slots_ || m.tokens != tokens.size() || tokens.empty()) return;
  std::lock_guard lock(mutex_);
  if (!tree_.still(m)) return;
  out.slot = slots_->find(anchor_at(m.place.node, m.blocks),
                          tokens.subspan(m.blocks * options_.block_tokens));
}

prefix_match cache_core::match(std::span<const token_id> tokens, std::string_view space,
                               std::span<block_id> table) const {
  const stage_timer timing(&stage_times::match);
  tree_match m;
  prefetch(tokens.data());  // comes while the root is found
  if (!try_match(tokens, space, table, m)) {
    std::lock_guard lock(mutex_);
    (void)match_locked(tokens, space, table, m);
  }
  prefix_match out;
  to_prefix_match(m, tokens, out);
  return out;
}

void cache_core::match_batch(std::span<const open_request> requests, std::span<prefix_match> out,
                             std::span<const std::span<block_id>> tables) const {
  const stage_timer timing(&stage_times::match);
  constexpr std::size_t group = 64;
  std::array<tree_root, group> roots;
  std::array<std::span<const token_id>, group> tokens;
  std::array<std::span<block_id>, group> rows;
  std::array<tree_match, group> found;
  std::array<bool, group> ok{};
  std::array<std::size_t, group> which{};
  for (std::size_t first = 0; first < requests.size();) {
    std::size_t n = 0;
    for (; n < group && first < requests.size(); ++first) {
      const open_request& r = requests[first];
      const std::optional<tree_root> root = spaces_.find(r.name_space, tree_);
      out[first] = {};
      if (!root) continue;
      roots[n] = *root;
      tokens[n] = r.tokens;
      rows[n] = tables.empty() ? std::span<block_id>{} : tables[first];
      which[n++] = first;
    }
    tree_.match_batch(std::span(roots).first(n), std::span(tokens).first(n),
                      std::span(rows).first(n), std::span(found).first(n), std::span(ok).first(n));
    for (std::size_t i = 0; i < n; ++i) {
      const open_request& r = requests[which[i]];
      if (ok[i]) {
        to_prefix_match(found[i], r.tokens, out[which[i]]);
      } else {
        out[which[i]] = match(r.tokens, r.name_space, rows[i]);
      }
    }
  }
}

}  // namespace radixkv::detail
