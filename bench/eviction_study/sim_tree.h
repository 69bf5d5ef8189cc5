// A prefix tree of block ids alone: what an eviction policy sees of the cache, without the cache.
//
// For studying and testing policies. A path names each block by an id that stands for the block and
// everything before it (as the ids of Mooncake's traces do), so equal ids are equal prefixes.
// Not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "radixkv/eviction_policy.h"

namespace radixkv::study {

// A prompt: `ids` must outlive every tree that has seen it. Each id stands for `per_id` blocks.
struct path {
  const std::uint32_t* ids = nullptr;
  std::uint32_t per_id = 1;
  std::uint32_t blocks = 0;

  [[nodiscard]] std::uint64_t at(std::uint32_t block) const {
    return std::uint64_t{ids[block / per_id]} * per_id + block % per_id;
  }
};

class sim_tree final : public tree_view {
 public:
  using handle = std::uint32_t;

  sim_tree(eviction_policy& policy, std::int64_t capacity_blocks, std::uint32_t block_tokens);

  // Pins the cached prefix of p and takes blocks for the rest, evicting; as many as there are.
  handle open(const path& p);
  // Publishes the whole path (as far as blocks were had), reports the request, and lets go of it.
  // info.node, .request and .matched_blocks are filled in.
  void close(handle h, request_info info);
  // Lets go without publishing.
  void abandon(handle h);
  [[nodiscard]] std::uint32_t matched(handle h) const { return handles_[h].matched; }
  // Where the cached prefix of p ends: the node and the blocks of it (the root and 0: nowhere).
  [[nodiscard]] std::pair<node_id, std::uint32_t> cached_prefix(const path& p) const {
    const place at = find(p);
    return {at.node, at.in_node};
  }
  // Evicts up to n blocks.
  std::int64_t evict(std::int64_t n);
  void clear();

  std::uint32_t block_tokens() const noexcept override { return block_tokens_; }
  node_id parent(node_id n) const noexcept override { return nodes_[n].parent; }
  std::uint32_t first_block(node_id n) const noexcept override { return nodes_[n].first; }
  std::uint32_t blocks(node_id n) const noexcept override { return nodes_[n].blocks; }
  std::uint32_t children(node_id n) const noexcept override { return nodes_[n].children; }
  std::uint32_t pinned_blocks(node_id n) const noexcept override;
  bool is_root(node_id n) const noexcept override { return n == 0; }

  [[nodiscard]] std::int64_t cached() const { return cached_; }
  [[nodiscard]] std::int64_t evictions() const { return evictions_; }
  [[nodiscard]] std::size_t nodes() const { return nodes_.size() - free_.size(); }
  [[nodiscard]] bool alive(node_id n) const { return n < nodes_.size() && nodes_[n].alive; }
  [[nodiscard]] std::size_t node_limit() const { return nodes_.size(); }
  // Id of a node's block, counted from the node's first.
  [[nodiscard]] std::uint64_t id(node_id n, std::uint32_t block) const {
    return nodes_[n].source.at(nodes_[n].first + block);
  }
  [[nodiscard]] std::uint64_t request() const { return request_; }
  // The last victim was not evictable, or asked for more than there is: a broken policy.
  [[nodiscard]] const std::string& failure() const { return failure_; }

 private:
  struct node {
    path source;
    node_id parent = no_node;
    std::uint32_t first = 0, blocks = 0, children = 0;
    bool alive = false;
    std::vector<handle> pins;
  };
  struct state {
    path p;
    node_id node = 0;
    std::uint32_t in_node = 0;  // pinned blocks of `node`
    std::uint32_t matched = 0;
    std::uint32_t taken = 0;  // private blocks
    bool used = false;
  };
  struct place {
    node_id node;
    std::uint32_t in_node, depth;
  };

  [[nodiscard]] place find(const path& p) const;
  node_id new_node();
  node_id split(node_id lower, std::uint32_t at);
  void unpin(handle h);
  void remove(node_id n, bool evicted);

  eviction_policy& policy_;
  std::int64_t capacity_;
  std::uint32_t block_tokens_;
  std::int64_t cached_ = 0, taken_ = 0, evictions_ = 0;
  std::uint64_t request_ = 0;
  std::vector<node> nodes_;
  std::vector<node_id> free_;
  std::vector<state> handles_;
  std::vector<handle> free_handles_;
  std::unordered_map<std::uint64_t, node_id> by_first_;  // id of a node's first block
  std::string failure_;
};

}  // namespace radixkv::study
