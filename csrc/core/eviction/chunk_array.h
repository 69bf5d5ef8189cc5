// An array that grows by a chunk at a time and never moves: nobody waits for a million elements to
// be copied.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "csrc/core/eviction/page_allocator.h"

namespace radixkv::detail {

template <typename T, std::size_t chunk>
class chunk_array {
 public:
  [[nodiscard]] T& operator[](std::size_t i) noexcept { return chunks_[i / chunk][i % chunk]; }
  [[nodiscard]] const T& operator[](std::size_t i) const noexcept {
    return chunks_[i / chunk][i % chunk];
  }
  // Elements that there are, those that came with a chunk as T{}.
  [[nodiscard]] std::size_t size() const noexcept { return chunks_.size() * chunk; }
  // At least n. May throw std::bad_alloc, and then keeps what there is.
  void grow_to(std::size_t n) {
    while (size() < n) chunks_.push_back(std::make_unique<T[]>(chunk));
  }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return size() * sizeof(T) + chunks_.capacity() * sizeof(chunks_[0]);
  }

 private:
  using chunk_pointer = std::unique_ptr<T[]>;
  std::vector<chunk_pointer, page_allocator<chunk_pointer>> chunks_;
};

}  // namespace radixkv::detail
