#include "csrc/core/eviction/s3fifo.h"

#include <algorithm>
#include <new>

namespace radixkv::detail {

std::uint32_t s3fifo_policy::path_hash_tokens(std::uint32_t block_tokens) const noexcept {
  return std::max(128u, block_tokens);
}

void s3fifo_policy::attach(const tree_view& tree, std::int64_t capacity_blocks) {
  small_blocks_ = ghost_blocks_ = 0;
  prints_ = node_array<std::uint32_t>(capacity_blocks);
  ghosts_ = {};
  ghost_count_ = {};
  counted_policy::attach(tree, capacity_blocks);
}

bool s3fifo_policy::make_room(node_id limit) noexcept {
  return prints_.grow_to(limit) && counted_policy::make_room(limit);
}

void s3fifo_policy::on_insert(node_id n) {
  print(n) = 0;
  small_blocks_ += tree_->blocks(n);
  counted_policy::on_insert(n);
}

void s3fifo_policy::on_extend(node_id n, std::uint32_t blocks) {
  if (state(n).segment == small) small_blocks_ += blocks;
  counted_policy::on_extend(n, blocks);
}

void s3fifo_policy::on_trim(node_id n, std::uint32_t blocks) {
  if (state(n).segment == small) small_blocks_ -= blocks;
}

void s3fifo_policy::split_state(node_id upper, node_id lower) {
  print(upper) = print(lower);
  print(lower) = 0;
}

void s3fifo_policy::on_request(const request_info& request) {
  const node_id n = request.node;
  if (n == no_node || tree_->is_root(n)) return;
  const bool arrived = state(n).uses == 0 && tree_->first_block(n) >= request.matched_blocks;
  state(n).uses = std::min<std::uint32_t>(max_frequency + 1, state(n).uses + 1);
  if (arrived) {
    const std::size_t chunk = std::size_t{tree_->first_block(n)} * tree_->block_tokens() /
                              path_hash_tokens(tree_->block_tokens());
    if (chunk < request.path_hashes.size())
      print(n) = static_cast<std::uint32_t>(request.path_hashes[chunk]) | 1u;
    if (print(n) != 0 && ghost_count_.contains(print(n))) move_to_main(n);
  }
  enqueue(n);
}

victim s3fifo_policy::next_victim() {
  node_id n = no_node;
  if (small_blocks_ * 10 > capacity_blocks_) n = take_small();
  if (n == no_node) n = take_main();
  if (n == no_node) n = take_small();
  if (n == no_node) n = take_main();  // what the small queue has just passed on
  return n == no_node ? victim{} : whole(n);
}

// The oldest of the small queue that was not used again; those that were move on. None, if as many
// of them came first as one victim may take.
node_id s3fifo_policy::take_small() {
  for (std::uint32_t passed = 0; passed < most_passed; ++passed) {
    const node_id n = first_evictable(queues_[small], small);
    if (n == no_node || state(n).uses <= 2) return n;
    move_to_main(n);
    enqueue(n);
  }
  return no_node;
}

// The oldest of the main queue that was not used since its last round, or, if as many that were
// came first as one victim may take, that of them which was used least.
node_id s3fifo_policy::take_main() {
  node_id least = no_node;
  for (std::uint32_t passed = 0; passed < most_passed; ++passed) {
    const node_id n = first_evictable(queues_[main], main);
    if (n == no_node || state(n).uses <= 1) return n;
    state(n).uses = std::min<std::uint32_t>(state(n).uses, max_frequency + 1) - 1;
    if (least == no_node || state(n).uses < state(least).uses) least = n;
    touch(n);
    enqueue(n);
  }
  return least;
}

void s3fifo_policy::move_to_main(node_id n) {
  touch(n);
  if (state(n).segment == small) small_blocks_ -= tree_->blocks(n);
  state(n).segment = main;
}

void s3fifo_policy::gone(node_id n, bool evicted) {
  if (state(n).segment != small) return;
  small_blocks_ -= tree_->blocks(n);
  if (evicted && print(n) != 0) remember(print(n), tree_->blocks(n));
}

void s3fifo_policy::remember(std::uint32_t print, std::uint32_t blocks) {
  try {
    ghosts_.push_back({print, blocks});
  } catch (const std::bad_alloc&) {  // forgotten
    return;
  }
  try {
    ++ghost_count_[print];
  } catch (const std::bad_alloc&) {
    ghosts_.pop_back();
    return;
  }
  ghost_blocks_ += blocks;
  while (ghost_blocks_ * 10 > capacity_blocks_ * 9) {
    const ghost g = ghosts_.front();
    ghosts_.pop_front();
    ghost_blocks_ -= g.blocks;
    const auto found = ghost_count_.find(g.print);
    if (--found->second == 0) ghost_count_.erase(found);
  }
}

void s3fifo_policy::clear_queues() {
  queues_[0].clear();
  queues_[1].clear();
}

std::size_t s3fifo_policy::queue_bytes() const {
  // A hash map's node: key, value, hash link; and its bucket.
  return queues_[0].bytes() + queues_[1].bytes() + prints_.bytes() +
         ghosts_.size() * sizeof(ghost) + ghost_count_.size() * 24 +
         ghost_count_.bucket_count() * sizeof(void*);
}

std::string s3fifo_policy::check_queues() const {
  std::string wrong = counted_policy::check(queues_[0]);
  return wrong.empty() ? counted_policy::check(queues_[1]) : wrong;
}

std::string s3fifo_policy::check() const {
  if (small_blocks_ < 0) return "s3fifo: blocks of the small queue below 0";
  std::int64_t blocks = 0;
  for (const ghost& g : ghosts_) blocks += g.blocks;
  if (blocks != ghost_blocks_ || blocks * 10 > capacity_blocks_ * 9)
    return "s3fifo: ghosts stand for " + std::to_string(blocks) + " blocks, counted " +
           std::to_string(ghost_blocks_);
  return counted_policy::check();
}

}  // namespace radixkv::detail
