// A vector whose resize leaves new elements unset, for what is written before it is read: half of
// the time to make room for a long prompt's block table was spent on setting it to zero.
#pragma once

#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace radixkv::detail {

template <typename T>
struct unset_allocator : std::allocator<T> {
  static_assert(std::is_trivially_default_constructible_v<T>);
  template <typename U>
  struct rebind {
    using other = unset_allocator<U>;
  };
  unset_allocator() noexcept = default;
  template <typename U>
  explicit unset_allocator(const unset_allocator<U>&) noexcept {}

  template <typename U>
  void construct(U* p) noexcept {
    ::new (static_cast<void*>(p)) U;
  }
  template <typename U, typename... Args>
  void construct(U* p, Args&&... args) {
    ::new (static_cast<void*>(p)) U(std::forward<Args>(args)...);
  }
};

template <typename T>
using unset_vector = std::vector<T, unset_allocator<T>>;

}  // namespace radixkv::detail
