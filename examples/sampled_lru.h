// An eviction policy of an application's own: of a few cached paths that may go, chosen at random,
// the least recently used goes (approximated LRU, as in Redis).
//
// It shows what every policy needs: state by node id, which make_room alone allocates; candidates
// that are looked at again when the index says that they may go (again); nothing else.
#pragma once

#include <algorithm>
#include <cstdint>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include <radixkv/eviction_policy.h>

class sampled_lru final : public radixkv::eviction_policy {
 public:
  // Samples so many candidates for each victim, at least 1. Redis found 5 to be close to LRU.
  explicit sampled_lru(std::uint32_t samples = 5) : samples_(std::max(1u, samples)) {}

  std::string_view name() const noexcept override { return "sampled_lru"; }

  void attach(const radixkv::tree_view& tree, std::int64_t) override {
    tree_ = &tree;
    states_.clear();
    candidates_.clear();
  }
  bool make_room(radixkv::node_id limit) noexcept override try {
    // Twice as much each time, so that a node costs constant time.
    if (limit > states_.size()) states_.resize(std::max<std::size_t>(limit, 2 * states_.size()));
    candidates_.reserve(states_.size());
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }

  void on_insert(radixkv::node_id n) override {
    states_[n] = {tick_, nowhere};
    add(n);
  }
  void on_extend(radixkv::node_id n, std::uint32_t) override { add(n); }
  void on_split(radixkv::node_id upper, radixkv::node_id lower) override {
    states_[upper] = {states_[lower].used, nowhere};  // no leaf yet
  }
  void on_trim(radixkv::node_id, std::uint32_t) override {}
  void on_remove(radixkv::node_id n, bool) override {
    remove(n);
    const radixkv::node_id above = tree_->parent(n);
    if (tree_->is_root(above)) return;
    // Whoever used n used what is above it.
    states_[above].used = std::max(states_[above].used, states_[n].used);
    add(above);
  }
  void on_pin(radixkv::node_id) override {}
  void on_unpin(radixkv::node_id n) override { add(n); }
  void on_request(const radixkv::request_info& request) override {
    ++tick_;
    if (request.node != radixkv::no_node) states_[request.node].used = tick_;
  }

  radixkv::victim next_victim() override {
    radixkv::node_id oldest = radixkv::no_node;
    for (std::uint32_t sampled = 0; sampled < samples_ && !candidates_.empty();) {
      const radixkv::node_id n = candidates_[random() % candidates_.size()];
      if (!tree_->evictable(n)) {
        remove(n);  // pinned, or no leaf any more; comes back when that ends
        continue;
      }
      if (oldest == radixkv::no_node || states_[n].used < states_[oldest].used) oldest = n;
      ++sampled;
    }
    if (oldest == radixkv::no_node) return {};
    return {oldest, tree_->evictable_blocks(oldest)};
  }

  std::size_t bytes() const noexcept override {
    return states_.capacity() * sizeof(state) + candidates_.capacity() * sizeof(radixkv::node_id);
  }
  std::string check() const override {
    for (std::size_t i = 0; i < candidates_.size(); ++i) {
      if (states_[candidates_[i]].place != i) return "a candidate is not where it stands";
    }
    return {};
  }

 private:
  static constexpr std::uint32_t nowhere = 0xffffffffu;
  struct state {
    std::uint64_t used = 0;         // ordinal of the last request that ended here
    std::uint32_t place = nowhere;  // in candidates_
  };

  void add(radixkv::node_id n) noexcept {
    if (states_[n].place != nowhere) return;
    states_[n].place = static_cast<std::uint32_t>(candidates_.size());
    candidates_.push_back(n);  // there is room for all nodes
  }
  void remove(radixkv::node_id n) noexcept {
    const std::uint32_t at = states_[n].place;
    if (at == nowhere) return;
    candidates_[at] = candidates_.back();
    states_[candidates_[at]].place = at;
    candidates_.pop_back();
    states_[n].place = nowhere;
  }
  std::uint64_t random() noexcept {  // xorshift64 (Marsaglia, 2003)
    seed_ ^= seed_ << 13;
    seed_ ^= seed_ >> 7;
    seed_ ^= seed_ << 17;
    return seed_;
  }

  std::uint32_t samples_;
  const radixkv::tree_view* tree_ = nullptr;
  std::vector<state> states_;                 // by node id
  std::vector<radixkv::node_id> candidates_;  // at least every node that may go
  std::uint64_t tick_ = 0;
  std::uint64_t seed_ = 0x9e3779b97f4a7c15u;
};
