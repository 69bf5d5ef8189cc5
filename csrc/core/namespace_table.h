// Names of namespaces to roots of the index. A namespace without cached prefixes and without open
// sequences is forgotten, so the table is bounded by the blocks and the sequences.
//
// Thread-safety: find may be called from any thread; the others under the cache's lock.
#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "csrc/core/name_hash.h"
#include "csrc/core/radix_tree.h"
#include "csrc/core/reader_lock.h"

namespace radixkv::detail {

class namespace_table {
 public:
  // The namespace's root, with the version by which a reader tells that it is still this one's.
  [[nodiscard]] std::optional<tree_root> find(std::string_view name, const radix_tree& tree) const {
    std::shared_lock lock(mutex_);
    const auto it = roots_.find(name);
    if (it == roots_.end()) return std::nullopt;
    return tree.root_handle(it->second);
  }
  // REQUIRES: the name is not there. May throw std::bad_alloc, leaving the table as it was.
  void add(std::string_view name, node_id root) {
    std::unique_lock lock(mutex_);
    const auto [it, added] = roots_.emplace(name, root);
    try {
      names_.emplace(root, &it->first);
    } catch (...) {
      roots_.erase(it);
      throw;
    }
    name_bytes_ += name.size();
  }
  // REQUIRES: root is a namespace's.
  void remove(node_id root) {
    std::unique_lock lock(mutex_);
    const auto name = names_.find(root);
    const auto it = roots_.find(*name->second);
    name_bytes_ -= it->first.size();
    names_.erase(name);
    roots_.erase(it);
  }
  [[nodiscard]] std::string_view name_of(node_id root) const { return *names_.at(root); }
  [[nodiscard]] std::size_t size() const noexcept { return names_.size(); }
  [[nodiscard]] std::size_t bytes() const noexcept { return name_bytes_ + names_.size() * 160; }

 private:
  mutable reader_lock mutex_;
  std::unordered_map<std::string, node_id, name_hash, std::equal_to<>> roots_;
  std::unordered_map<node_id, const std::string*> names_;
  std::size_t name_bytes_ = 0;
};

}  // namespace radixkv::detail
