// Publishing: walking down as far as somebody else's tokens are the same, then adding what is new.
#include <algorithm>
#include <cassert>

#include "csrc/core/radix_tree.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

// The last block of leaf n, partial and a prefix of `own`, grows to `tokens` tokens of `own`.
// REQUIRES: n is being written.
void radix_tree::lengthen_tail(node_id n, block_id own, std::uint32_t tokens) {
  tree_node& x = nodes_[n];
  const std::uint32_t count = blocks_of(x.tokens);
  const std::uint32_t before = x.tokens;
  const bool had_jump = has_jump(x);
  if (count <= tree_node::inline_blocks) {
    x.list[count - 1] = static_cast<std::uint32_t>(own);
  } else {
    store_word(lists_.at(x.list[0] + count - 1), static_cast<std::uint32_t>(own));
  }
  x.tokens = ((count - 1) << block_shift_) + tokens;
  token_count_ += x.tokens - before;
  if (!had_jump && has_jump(x)) register_leaf(n);
}

tree_publication radix_tree::publish(tree_place at, std::span<const block_id> mine,
                                     std::uint64_t tokens, bool grow,
                                     const sibling_trie::trail& trail) {
  const std::uint32_t full = 1u << block_shift_;
  tree_publication done;
  done.place = at;
  done.end = at.node;
  done.end_blocks = at.blocks;
  if (!reserve_for_change()) return done;
  done.ok = true;

  std::uint32_t i = 0;
  std::uint64_t left = tokens;
  bool grew_own_tail = grow;
  node_id diverges = no_node;  // node to split after `place.blocks` before something is added
  node_id partial = no_node;   // leaf whose last block, partial, becomes mine[i - 1]
  const auto advance = [&](node_id n, std::uint32_t blocks, std::uint32_t taken_tokens) {
    done.end = n;
    done.end_blocks = blocks;
    if (taken_tokens == full) done.place = {n, blocks};
    left -= taken_tokens;
    ++i;
  };
  while (left > 0) {
    const auto wanted = static_cast<std::uint32_t>(std::min<std::uint64_t>(full, left));
    const std::uint32_t* own = row(mine[i]);
    count_tokens(1);  // its first line
    node_id n = done.place.node;
    std::uint32_t k = done.place.blocks;
    std::uint32_t common = 0;
    if (k == blocks(n)) {
      const found_child c = find_child(n, own, wanted, trail);
      if (c.node == no_node) break;
      n = c.node;
      k = 0;
      common = c.common;
    }
    const std::uint32_t held = std::min(full, nodes_[n].tokens - (k << block_shift_));
    const block_id theirs = block(n, k);
    if (theirs == mine[i]) {
      common = std::min(wanted, held);
    } else if (k > 0) {
      const std::uint32_t reach = std::min(wanted, held);
      common = static_cast<std::uint32_t>(common_prefix(own, row(theirs), reach));
      count_compared_further(common, reach);
    }
    if (common == wanted) {
      advance(n, k + 1, wanted);
      done.first_taken = i;
      continue;
    }
    if (common == held) {
      if (theirs != mine[i]) {
        done.replaced = theirs;
        grew_own_tail = false;
      }
      done.first_taken = i;
      partial = n;
      advance(n, k + 1, wanted);
      break;
    }
    if (k > 0) diverges = n;
    break;
  }
  done.processed = i;
  // Readers see it together with what follows, or not at all.
  const auto complete_tail = [&](std::uint32_t tail_tokens) {
    if (partial == no_node) return;
    write_guard writing(nodes_[partial].changes);
    lengthen_tail(partial, mine[i - 1], tail_tokens);
  };
  if (left == 0) {
    complete_tail(static_cast<std::uint32_t>((tokens - 1) & (full - 1)) + 1);
    return done;
  }

  const auto rest = mine.subspan(i, static_cast<std::size_t>((left + full - 1) >> block_shift_));
  const node_id at_node = done.place.node;
  const bool took_before = done.first_taken < i;
  if (!took_before) done.first_taken = i;
  const auto fail = [&] {
    // What was taken so far is sound; without room for the rest the caller keeps it.
    complete_tail(full);
    done.ok = took_before;
    return done;
  };
  const std::uint64_t length = left;
  if (grew_own_tail && diverges == no_node && !is_root(at_node) && children(at_node) == 0 &&
      !pins(at_node).several() && done.place.blocks == blocks(at_node)) {
    const tree_node& x = nodes_[at_node];
    const std::uint32_t before = x.tokens;
    const bool had_jump = has_jump(x);
    const std::uint32_t whole = blocks(at_node) << block_shift_;
    if (!append_run(at_node, rest, whole + static_cast<std::uint32_t>(length))) return fail();
    token_count_ += x.tokens - before;
    if (!had_jump && has_jump(x)) register_leaf(at_node);
    evictable_in_leaves_ += static_cast<std::int64_t>(rest.size());
    done.end = at_node;
    done.end_blocks = blocks(at_node);
    if (policy_) policy_->on_extend(at_node, static_cast<std::uint32_t>(rest.size()));
  } else {
    const std::uint32_t depth =
        is_root(at_node) ? 0 : nodes_[at_node].first_block + done.place.blocks;
    const node_id leaf = make_leaf(at_node, depth, rest, static_cast<std::uint32_t>(length));
    if (leaf == no_node) return fail();
    if (diverges != no_node) {
      if (!reserve_for_change()) {
        drop_run(leaf);
        give_node(leaf);
        return fail();
      }
      const node_id upper = split(diverges, done.place.blocks);
      write_guard writing(nodes_[leaf].changes);
      nodes_[leaf].parent = upper;
    }
    if (partial != no_node) {
      write_guard writing(nodes_[partial].changes);
      lengthen_tail(partial, mine[i - 1], full);
      attach_leaf(leaf);
    } else {
      attach_leaf(leaf);
    }
    done.end = leaf;
    done.end_blocks = blocks(leaf);
  }
  done.processed = i + static_cast<std::uint32_t>(rest.size());
  const std::uint32_t tail_tokens = nodes_[done.end].tokens & (full - 1);
  const std::uint32_t whole = done.end_blocks - (tail_tokens != 0);
  if (whole > 0) {
    done.place = {done.end, whole};
  } else if (diverges != no_node) {
    done.place = {nodes_[done.end].parent, blocks(nodes_[done.end].parent)};
  }
  return done;
}

}  // namespace radixkv::detail
