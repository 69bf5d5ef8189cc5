#include "csrc/core/radix_tree.h"

#include <algorithm>
#include <cassert>

#include "csrc/core/mix.h"
#include "csrc/core/step_count.h"

namespace radixkv::detail {

bool radix_tree::create(const options& o) {
  block_shift_ = static_cast<std::uint32_t>(__builtin_ctz(o.block_tokens));
  hasher_ = path_hasher(o.hash_bits);
  pin_secret_ = hasher_.seed(0);
  block_limit_ = static_cast<std::uint32_t>(o.blocks);
  // A node that is no root holds a block, and a block is in one node.
  const std::int64_t most = o.blocks + o.max_roots + 2;
  max_nodes_ = static_cast<std::uint32_t>(std::min<std::int64_t>(most, sibling_trie::fork_bit - 1));
  const auto tokens = static_cast<std::size_t>(o.blocks) << block_shift_;
  if (!rows_.reserve(tokens) || !nodes_.reserve(max_nodes_) || !lists_.create(o.blocks) ||
      !child_table_.create() || !jump_table_.create() || !siblings_.create(max_nodes_)) {
    return false;
  }
  // Nodes hold this many blocks or more in most trees; those beyond come when they are needed.
  constexpr std::int64_t usual_run = 4;
  const auto usual_nodes = static_cast<std::size_t>(std::min(most, o.blocks / usual_run + 1));
  return !o.prefault ||
         (rows_.populate(tokens) && lists_.prefault(o.blocks) && nodes_.populate(usual_nodes));
}

node_id radix_tree::take_node() {
  node_id n = free_node_;
  if (n != no_node) {
    free_node_ = nodes_[n].next;
  } else {
    if (fresh_node_ == max_nodes_) return no_node;
    n = fresh_node_++;
  }
  tree_node& x = nodes_[n];
  write_guard writing(x.changes);
  x.parent = no_node;
  x.first_block = 0;
  x.tokens = 0;
  x.child = 0;
  x.children = 0;
  x.previous = no_node;
  x.next = no_node;
  x.path_hash = 0;
  x.pins = {};
  ++node_count_;
  return n;
}

node_id radix_tree::add_root() { return take_node(); }

void radix_tree::remove_root(node_id root) {
  assert(is_root(root) && nodes_[root].children == 0 && nodes_[root].pins.empty());
  give_node(root);
}

tree_root radix_tree::root_handle(node_id root) const noexcept {
  return {root, nodes_[root].changes.read_begin()};
}

node_id radix_tree::root_of(node_id n) const noexcept {
  while (nodes_[n].parent != no_node) n = nodes_[n].parent;
  return n;
}

bool radix_tree::goes_on(const tree_match& m, std::span<const token_id> tokens) const noexcept {
  const tree_place at = m.place;
  if (m.tokens == tokens.size()) return false;
  if (!is_root(at.node) && at.blocks < blocks(at.node)) return false;  // ends inside a run
  const std::uint64_t whole = m.blocks << block_shift_;
  const std::uint64_t left = std::min<std::uint64_t>(tokens.size() - whole, block_tokens());
  const found_child next =
      find_child(at.node, tokens.data() + whole, static_cast<std::uint32_t>(left));
  return next.common > m.tokens - whole;
}

std::int64_t radix_tree::pinned_depth(node_id n) const noexcept { return nodes_[n].pins.depth(); }

void radix_tree::pin(tree_pin& p, tree_place at) noexcept {
  assert(!p.is_laid() && (at.blocks == 0) == is_root(at.node));
  p.depth = is_root(at.node) ? 0 : nodes_[at.node].first_block + at.blocks;
  p.priority = static_cast<std::uint32_t>(mix(++pins_laid_, pin_secret_));
  recount(at.node, [&] { nodes_[at.node].pins.add(p, at.node); });
}

node_id radix_tree::unpin(tree_pin& p) noexcept {
  const node_id n = p.end();
  const std::uint32_t before = pinned_blocks(n);
  take_pin(n, p);
  return pinned_blocks(n) < before ? n : no_node;
}

radix_tree::moved_pin radix_tree::repin(tree_pin& p, tree_place at) noexcept {
  const node_id n = p.end();
  const std::uint32_t before = pinned_blocks(n);
  take_pin(n, p);
  pin(p, at);
  return {n, pinned_blocks(n) < before};
}

tree_place radix_tree::locate(node_id below, std::uint64_t depth) const noexcept {
  node_id n = below;
  while (!is_root(n) && nodes_[n].first_block >= depth) {
    count_nodes();
    n = nodes_[n].parent;
  }
  return {n, is_root(n) ? 0 : static_cast<std::uint32_t>(depth - nodes_[n].first_block)};
}

// A node for a run that is not yet part of the tree. no_node if memory is refused.
node_id radix_tree::make_leaf(node_id parent, std::uint32_t first_block,
                              std::span<const block_id> ids, std::uint32_t tokens) {
  const node_id n = take_node();
  if (n == no_node) return no_node;
  tree_node& x = nodes_[n];
  bool fits = false;
  {
    write_guard writing(x.changes);
    fits = set_run(n, ids, tokens);
    x.parent = parent;
    x.first_block = first_block;
  }
  if (!fits) {
    give_node(n);
    return no_node;
  }
  return n;
}

void radix_tree::attach_leaf(node_id n) {
  const node_id up = nodes_[n].parent;
  if (nodes_[up].children > 0 || is_root(up)) ++leaf_count_;
  evictable_in_leaves_ -= evictable_blocks(up);
  link_child(up, n);
  evictable_in_leaves_ += evictable_blocks(n);
  leaves_added_.fetch_add(1, std::memory_order_release);
  register_leaf(n);
  token_count_ += nodes_[n].tokens;
  if (policy_) policy_->on_insert(n);
}

bool radix_tree::reserve_for_change() {
  settle_jumps();
  return child_table_.reserve(4) && jump_table_.reserve(4) && siblings_.reserve(2) &&
         node_count_ + 2 <= static_cast<std::int64_t>(max_nodes_) &&
         (!policy_ || policy_->make_room(std::min(fresh_node_ + 2, max_nodes_)));
}

bool radix_tree::split_after(node_id n, std::uint32_t count) {
  assert(!is_root(n) && count >= 1 && count <= blocks(n));
  if (count == blocks(n)) return true;
  fetch_for_split(n, count);
  if (!reserve_for_change()) return false;
  split(n, count);
  return true;
}

// Fetches what splitting n after `count` blocks will read, as far as the node tells: the misses
// overlap instead of following one another. What is waited for first comes first, since where page
// tables are cold, too, the processor has only a few of them under way.
void radix_tree::fetch_for_split(node_id n, std::uint32_t count) const noexcept {
  const tree_node& x = nodes_[n];
  const std::uint32_t total = blocks_of(x.tokens);
  const bool leaf = x.children == 0;
  const table_hashes h = leaf ? known_hashes(x) : table_hashes{};
  const std::uint32_t hashed = hashed_blocks(count);
  const std::uint32_t last = std::min(total - 1, count + before_jump(x.first_block + count));
  if (total <= tree_node::inline_blocks) {
    for (std::uint32_t i = hashed != 0 || h.child == 0 ? 0 : count; i <= last; ++i) {
      detail::prefetch(row(static_cast<block_id>(x.list[i].load())));
    }
  } else {
    detail::prefetch(lists_.at(x.list[0]));
    lists_.prefetch_header(x.list[1]);
    // Blocks of a run mostly have ids in a row: fetch rows before the ids are there.
    const std::uint32_t first = x.list[2];
    if (hashed == 0 && h.child == 0) detail::prefetch(row(static_cast<block_id>(first)));
    for (std::uint32_t i = 0; i < hashed; ++i) {
      detail::prefetch(row(static_cast<block_id>(first + i)));
    }
    for (std::uint32_t i = count; i <= last; ++i) {
      detail::prefetch(row(static_cast<block_id>(first + i)));
    }
    detail::prefetch(lists_.at(x.list[0] + count));
  }
  if (h.jump != 0 && count > before_jump(x.first_block)) jump_table_.prefetch_slot(h.jump);
  detail::prefetch(&nodes_[x.parent]);
  if (h.child != 0 && is_alone(x)) child_table_.prefetch_slot(h.child);
  detail::prefetch(&nodes_[free_node_ != no_node ? free_node_ : fresh_node_]);
}

// The first `count` blocks of n become a node of their own, n's new parent. REQUIRES: room
// reserved.
node_id radix_tree::split(node_id n, std::uint32_t count) {
  tree_node& x = nodes_[n];
  const std::uint32_t total = blocks_of(x.tokens);
  assert(count >= 1 && count < total);
  const std::uint32_t rest = total - count;
  const node_id up = x.parent;
  const node_id u = take_node();
  assert(u != no_node);
  const std::uint32_t evictable_before = evictable_blocks(n);
  tree_node& y = nodes_[u];
  const bool grouped = nodes_[up].children >= 2;
  // If not the new node, the old one has the block that the jump table knows it by.
  const std::uint32_t middle = x.first_block + count;
  const bool hands_over = count > before_jump(x.first_block);
  const table_hashes old = hashes_of(n, hands_over);
  if (grouped && is_alone(x)) child_table_.prefetch_slot(old.child);
  if (hands_over) jump_table_.prefetch_slot(old.jump);

  // The new node first, which nobody knows of yet.
  write_guard writing_y(y.changes);
  write_guard writing_children(y.child_changes);
  y.parent = up;
  y.first_block = x.first_block;
  y.tokens = count << block_shift_;
  const bool chunked = total > tree_node::inline_blocks;
  const std::uint32_t at = x.list[0];
  const block_lists::chunk c = chunked ? x.list[1].load() : block_lists::chunk{0};
  const std::uint32_t* const all = ids(x);
  if (count <= tree_node::inline_blocks) {
    for (std::uint32_t i = 0; i < count; ++i) y.list[i] = load_word(all + i);
  } else {
    y.list[0] = at;
    y.list[1] = c;
    y.list[2] = x.list[2];
  }
  y.children = 1;
  y.child = n;
  y.path_hash = end_path(u);
  const std::uint32_t split_id = load_word(all + count);
  const std::uint32_t rest_tokens = x.tokens - y.tokens;
  const bool new_jump = hands_over && rest_tokens >> block_shift_ > before_jump(middle);
  std::uint32_t jump = hands_over ? 0 : old.jump;  // of the lower half
  if (new_jump) jump = hasher_.jump_hash(jump_path(y.path_hash, all + count, middle));

  write_guard writing_up(nodes_[up].child_changes);
  if (grouped) replace_sibling(up, n, u);  // reads x
  write_guard writing_x(x.changes);
  if (hands_over) jump_table_.replace(old.jump, n, u);
  if (!chunked) {
    for (std::uint32_t i = 0; i < rest; ++i) x.list[i] = x.list[count + i];
  } else {
    if (count <= tree_node::inline_blocks) {
      lists_.drop_live(c, count);
    } else {
      lists_.add_reference(c);
    }
    if (rest <= tree_node::inline_blocks) {
      for (std::uint32_t i = 0; i < rest; ++i) x.list[i] = load_word(lists_.at(at + count + i));
      lists_.drop_live(c, rest);
      lists_.drop_reference(c);
    } else {
      x.list[0] = at + count;
      x.list[2] = split_id;
    }
  }
  x.tokens = rest_tokens;
  x.first_block = middle;
  x.parent = u;
  x.previous = no_node;
  x.next = no_node;
  const std::int64_t pinned = pinned_depth(n);
  y.pins = x.pins.split_off(x.first_block, u);
  pinned_depths_.change(pinned, pinned_depth(n) + pinned_depth(u));
  evictable_in_leaves_ += std::int64_t{evictable_blocks(n)} - evictable_before;

  nodes_[up].child = nodes_[up].child ^ n ^ u;
  if (new_jump) register_jump(jump, n);
  if (x.children == 0) {
    const std::uint32_t token = load_word(row(static_cast<block_id>(split_id)));
    know_hashes(x, {jump, hasher_.child_hash(u, token)});
  }
  if (policy_) policy_->on_split(u, n);
  return u;
}

std::vector<node_id> radix_tree::all_nodes() const {
  std::vector<node_id> all;
  all.reserve(static_cast<std::size_t>(node_count_));
  for (node_id n = 0; n < fresh_node_; ++n) {
    if (nodes_[n].first_block != free_mark) all.push_back(n);
  }
  return all;
}

std::size_t radix_tree::bytes(std::int64_t blocks_ever_used) const noexcept {
  return (static_cast<std::size_t>(blocks_ever_used) << block_shift_) * sizeof(token_id) +
         std::size_t{fresh_node_} * sizeof(tree_node) + lists_.bytes() + child_table_.bytes() +
         jump_table_.bytes() + siblings_.bytes();
}

}  // namespace radixkv::detail
