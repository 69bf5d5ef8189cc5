// Storage for the block ids of nodes: chunks in one arena, shared by the nodes that a split made of
// one.
//
// A chunk is `capacity` ids behind a header. A slice is a contiguous part of it. Splitting a node
// shares its chunk (nothing is copied); `live` counts the ids that some slice still covers, so that
// the owner can tell when a chunk has become sparse and move what is left (radix_tree::compact).
//
// 1. live ≤ capacity; a chunk without references is on the free list of its size class.
// 2. The arena never shrinks or moves: a reader without a lock may read any offset that
//    a consistent node names.
//
// Thread-safety: one writer; readers may read ids at any time and validate afterwards.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "csrc/core/stable_array.h"
#include "csrc/core/token_ops.h"

namespace radixkv::detail {

class block_lists {
 public:
  using chunk = std::uint32_t;  // arena offset of the first id; 0 is none

  [[nodiscard]] bool create(std::int64_t blocks);
  // Takes the memory for an id of each block now. False if the system refuses.
  [[nodiscard]] bool prefault(std::int64_t blocks) noexcept {
    return arena_.populate(static_cast<std::size_t>(blocks));
  }

  // A chunk for at least n ids with one reference and live = 0; 0 if the arena is full.
  [[nodiscard]] chunk allocate(std::uint32_t n);
  void add_reference(chunk c) noexcept { ++header(c).references; }
  // Gives up one reference; the last one frees the chunk.
  void drop_reference(chunk c) noexcept;

  [[nodiscard]] std::uint32_t capacity(chunk c) const noexcept { return header(c).capacity; }
  [[nodiscard]] std::uint32_t live(chunk c) const noexcept { return header(c).live; }
  [[nodiscard]] std::uint32_t references(chunk c) const noexcept { return header(c).references; }
  void prefetch_header(chunk c) const noexcept { prefetch(&header(c)); }
  void add_live(chunk c, std::uint32_t n) noexcept { header(c).live += n; }
  void drop_live(chunk c, std::uint32_t n) noexcept { header(c).live -= n; }
  // Few enough ids are left that moving them costs less than their chunk.
  [[nodiscard]] bool sparse(chunk c) const noexcept { return live(c) < capacity(c) / 4; }

  [[nodiscard]] std::uint32_t* at(std::uint32_t offset) noexcept { return arena_.data() + offset; }
  [[nodiscard]] const std::uint32_t* at(std::uint32_t offset) const noexcept {
    return arena_.data() + offset;
  }
  [[nodiscard]] std::size_t bytes() const noexcept { return std::size_t{used_} * 4; }

 private:
  struct chunk_header {
    std::uint32_t capacity;
    std::uint32_t live;
    std::uint32_t references;
  };
  static constexpr std::uint32_t header_words = 3;
  static constexpr int classes = 128;  // sizes 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, …

  static int class_of(std::uint32_t n) noexcept;
  static std::uint32_t class_size(int c) noexcept;
  [[nodiscard]] chunk_header& header(chunk c) noexcept {
    return *reinterpret_cast<chunk_header*>(arena_.data() + c - header_words);
  }
  [[nodiscard]] const chunk_header& header(chunk c) const noexcept {
    return *reinterpret_cast<const chunk_header*>(arena_.data() + c - header_words);
  }

  stable_array<std::uint32_t> arena_;
  std::array<chunk, classes> free_{};  // linked through the first id
  std::uint32_t used_ = 1;             // words handed out
  std::uint64_t limit_ = 0;
};

}  // namespace radixkv::detail
