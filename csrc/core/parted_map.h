// A hash map in many parts, each with a table of its own: when one grows, the others do not, so
// that nobody's call waits until a million entries have moved.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <utility>

#include "csrc/core/step_count.h"

namespace radixkv::detail {

// Of ids that nobody can choose.
struct id_hash {
  std::size_t operator()(std::uint64_t id) const noexcept { return id * 0x9e3779b97f4a7c15ull; }
};

// The upper bits of Hash choose the part: there are 2^log2_parts.
template <typename Key, typename Value, typename Hash, int log2_parts,
          typename Equal = std::equal_to<Key>>
class parted_map {
 public:
  using part = std::unordered_map<Key, Value, Hash, Equal>;
  using value_type = typename part::value_type;

  parted_map() {
    for (part& p : parts_) p = part(0, hash_);
  }
  // What there is under a key, or nullptr; it stays where it is until it is erased.
  template <typename K>
  [[nodiscard]] value_type* find(const K& k) noexcept {
    part& p = parts_[number(k)];
    const auto found = p.find(k);
    return found == p.end() ? nullptr : &*found;
  }
  template <typename K>
  [[nodiscard]] const value_type* find(const K& k) const noexcept {
    return const_cast<parted_map*>(this)->find(k);
  }
  // The same, or, under a new key, Value{args…}. May throw std::bad_alloc, changing nothing.
  template <typename... Args>
  value_type& try_emplace(const Key& k, Args&&... args) {
    const auto [at, added] = parts_[number(k)].try_emplace(k, std::forward<Args>(args)...);
    size_ += added;
    return *at;
  }
  // REQUIRES: v is here.
  void erase(const value_type& v) noexcept {
    part& p = parts_[number(v.first)];
    p.erase(p.find(v.first));
    --size_;
  }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  template <typename Visit>
  void for_each(Visit&& visit) {
    count_entries(size_);
    for (part& p : parts_)
      for (value_type& v : p) visit(v);
  }
  template <typename Visit>
  void for_each(Visit&& visit) const {
    const_cast<parted_map*>(this)->for_each([&](const value_type& v) { visit(v); });
  }

 private:
  template <typename K>
  [[nodiscard]] std::size_t number(const K& k) const noexcept {
    return hash_(k) >> (8 * sizeof(std::size_t) - log2_parts);
  }
  Hash hash_;
  std::array<part, std::size_t{1} << log2_parts> parts_;
  std::size_t size_ = 0;
};

}  // namespace radixkv::detail
