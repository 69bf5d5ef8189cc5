// Names of namespaces to roots of the index. A namespace without cached prefixes and without open
// sequences is forgotten, so the table is bounded by the blocks and the sequences.
//
// The default namespace, whose name is empty, is found without the lock and the table: cold, they
// cost a dozen cache misses.
//
// Thread-safety: find may be called from any thread; the others under the cache's lock.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>

#include "csrc/core/name_hash.h"
#include "csrc/core/parted_map.h"
#include "csrc/core/radix_tree.h"
#include "csrc/core/reader_lock.h"

namespace radixkv::detail {

class namespace_table {
 public:
  // The namespace's root, with the version by which a reader tells that it is still this one's.
  [[nodiscard]] std::optional<tree_root> find(std::string_view name, const radix_tree& tree) const {
    if (name.empty()) return find_default(tree);
    std::shared_lock lock(mutex_);
    const auto* const found = roots_.find(name);
    if (found == nullptr) return std::nullopt;
    return tree.root_handle(found->second);
  }
  // REQUIRES: the name is not there. May throw std::bad_alloc, leaving the table as it was.
  void add(std::string_view name, node_id root) {
    std::unique_lock lock(mutex_);
    const auto& added = roots_.try_emplace(std::string(name), root);
    try {
      names_.try_emplace(root, &added.first);
    } catch (...) {
      roots_.erase(added);
      throw;
    }
    name_bytes_ += name.size();
    if (name.empty()) default_root_.store(root, std::memory_order_release);
  }
  // REQUIRES: root is a namespace's.
  void remove(node_id root) {
    std::unique_lock lock(mutex_);
    const auto* const named = names_.find(root);
    const auto* const found = roots_.find(*named->second);
    name_bytes_ -= found->first.size();
    if (found->first.empty()) default_root_.store(no_node, std::memory_order_release);
    names_.erase(*named);
    roots_.erase(*found);
  }
  [[nodiscard]] std::string_view name_of(node_id root) const { return *names_.find(root)->second; }
  [[nodiscard]] std::size_t size() const noexcept { return names_.size(); }
  [[nodiscard]] std::size_t bytes() const noexcept { return name_bytes_ + names_.size() * 160; }

 private:
  [[nodiscard]] std::optional<tree_root> find_default(const radix_tree& tree) const {
    node_id root = default_root_.load(std::memory_order_acquire);
    while (root != no_node) {
      const tree_root found = tree.root_handle(root);
      // Still the root, so the version is of the time that it was; or it went in between and came
      // back, then the version is an old one, and nothing that is found with it counts.
      const node_id now = default_root_.load(std::memory_order_acquire);
      if (now == root) return found;
      root = now;
    }
    return std::nullopt;
  }

  std::atomic<node_id> default_root_{no_node};
  mutable reader_lock mutex_;
  parted_map<std::string, node_id, name_hash, 7, std::equal_to<>> roots_;
  parted_map<node_id, const std::string*, id_hash, 7> names_;
  std::size_t name_bytes_ = 0;
};

}  // namespace radixkv::detail
