// The block ids of nodes: up to three in the node itself, more in a shared chunk.
#include <algorithm>
#include <cassert>

#include "csrc/core/radix_tree.h"

namespace radixkv::detail {

namespace {

const std::uint32_t* words(std::span<const block_id> ids) {
  return reinterpret_cast<const std::uint32_t*>(ids.data());
}

}  // namespace

bool radix_tree::set_run(node_id n, std::span<const block_id> ids, std::uint32_t tokens) {
  tree_node& x = nodes_[n];
  const auto count = static_cast<std::uint32_t>(ids.size());
  assert(count == blocks_of(tokens));
  if (count <= tree_node::inline_blocks) {
    for (std::uint32_t i = 0; i < count; ++i) x.list[i] = static_cast<std::uint32_t>(ids[i]);
  } else {
    const block_lists::chunk c = lists_.allocate(count);
    if (!c) return false;
    copy_words(lists_.at(c), words(ids), count);
    lists_.add_live(c, count);
    x.list[0] = c;
    x.list[1] = c;
    x.list[2] = static_cast<std::uint32_t>(ids[0]);
  }
  x.tokens = tokens;
  return true;
}

// Lengthens the run of a leaf, whose last block has become full if it was not. A chunk of its own
// grows in place while there is room and doubles when there is not, so that generation appends in
// amortised O(1).
bool radix_tree::append_run(node_id n, std::span<const block_id> more, std::uint32_t tokens) {
  tree_node& x = nodes_[n];
  const std::uint32_t old = blocks_of(x.tokens);
  const auto count = old + static_cast<std::uint32_t>(more.size());
  assert(count == blocks_of(tokens));
  if (count <= tree_node::inline_blocks) {
    write_guard writing(x.changes);
    for (std::uint32_t i = old; i < count; ++i) {
      x.list[i] = static_cast<std::uint32_t>(more[i - old]);
    }
    x.tokens = tokens;
    return true;
  }
  const bool chunked = old > tree_node::inline_blocks;
  if (chunked && lists_.references(x.list[1]) == 1 &&
      x.list[0] + count <= x.list[1] + lists_.capacity(x.list[1])) {
    write_guard writing(x.changes);
    copy_words(lists_.at(x.list[0] + old), words(more), more.size());
    lists_.add_live(x.list[1], count - old);
    x.tokens = tokens;
    return true;
  }
  const block_lists::chunk c = lists_.allocate(std::max(count, chunked ? old * 2 : count));
  if (!c) return false;
  const std::uint32_t* from = ids(x);
  const std::uint32_t first = load_word(from);
  copy_words(lists_.at(c), from, old);
  copy_words(lists_.at(c + old), words(more), more.size());
  lists_.add_live(c, count);
  const block_lists::chunk previous = chunked ? x.list[1].load() : 0;
  {
    write_guard writing(x.changes);
    x.list[0] = c;
    x.list[1] = c;
    x.list[2] = first;
    x.tokens = tokens;
  }
  if (previous) {
    lists_.drop_live(previous, old);
    lists_.drop_reference(previous);
  }
  return true;
}

// Takes the last `count` blocks off a run that keeps at least one.
void radix_tree::shorten_run(node_id n, std::uint32_t count) noexcept {
  tree_node& x = nodes_[n];
  const std::uint32_t old = blocks_of(x.tokens);
  const std::uint32_t left = old - count;
  assert(left > 0);
  const bool chunked = old > tree_node::inline_blocks;
  const block_lists::chunk c = chunked ? x.list[1].load() : 0;
  const std::uint32_t at = x.list[0];
  {
    write_guard writing(x.changes);
    x.tokens = left << block_shift_;
    if (chunked && left <= tree_node::inline_blocks) {
      for (std::uint32_t i = 0; i < left; ++i) x.list[i] = load_word(lists_.at(at + i));
    }
  }
  if (!chunked) return;
  if (left <= tree_node::inline_blocks) {
    lists_.drop_live(c, old);
    lists_.drop_reference(c);
    // Other slices of the chunk, if any, belong to ancestors.
    compact(x.parent, c);
  } else {
    lists_.drop_live(c, count);
    compact(n, c);
  }
}

void radix_tree::drop_run(node_id n) noexcept {
  tree_node& x = nodes_[n];
  const std::uint32_t old = blocks_of(x.tokens);
  if (old <= tree_node::inline_blocks) return;
  const block_lists::chunk c = x.list[1];
  lists_.drop_live(c, old);
  lists_.drop_reference(c);
}

// Moves what is left of a sparse chunk to chunks that fit. The slices of a chunk were one run once,
// so they lie one above the other from `lowest` upwards. What is moved is at most a third of what
// was given up since the chunk was made: amortised O(1).
void radix_tree::compact(node_id lowest, block_lists::chunk c) {
  if (lists_.references(c) == 0 || !lists_.sparse(c)) return;
  int others = 0;  // nodes in between that no longer use the chunk; few, or it stays as it is
  for (node_id n = lowest; n != no_node; n = nodes_[n].parent) {
    tree_node& x = nodes_[n];
    const std::uint32_t count = blocks_of(x.tokens);
    if (count <= tree_node::inline_blocks || x.list[1] != c) {
      if (++others > 8) return;
      continue;
    }
    const block_lists::chunk to = lists_.allocate(count);
    if (!to || to == c) return;
    copy_words(lists_.at(to), lists_.at(x.list[0]), count);
    lists_.add_live(to, count);
    {
      write_guard writing(x.changes);
      x.list[0] = to;
      x.list[1] = to;
    }
    lists_.drop_live(c, count);
    const bool last = lists_.references(c) == 1;
    lists_.drop_reference(c);
    if (last) return;
  }
}

}  // namespace radixkv::detail
