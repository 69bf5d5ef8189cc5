// Compares a stretch of a prompt, block by block, with the rows that a list of ids names, and
// fetches meanwhile what comes later: the inner loop of matching.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace radixkv::detail {

struct block_stretch {
  const std::uint32_t* tokens;  // of the prompt, 2^shift a block
  const std::uint32_t* ids;     // of the blocks to compare with
  std::size_t blocks;
  const std::uint32_t* rows;
  std::uint32_t limit;  // ids below it have a row
  std::uint32_t shift;
  // What is fetched with each block: tokens, and the rows of ids. Those of the stretch itself where
  // there is nothing more to fetch.
  const std::uint32_t* later_tokens;
  const std::uint32_t* later_ids;
};

// How many blocks are equal before the first that is not, or whose id has no row.
[[nodiscard]] std::size_t equal_blocks(const block_stretch& s) noexcept;

// The forms of it that this processor can run; equal_blocks takes one of them. For tests.
using block_comparison = std::size_t (*)(const block_stretch&) noexcept;
struct block_comparison_form {
  const char* name;
  std::uint32_t shift;       // of the blocks that it is for; any_shift: of all
  block_comparison compare;  // REQUIRES: s.blocks > 0
};
inline constexpr std::uint32_t any_shift = 0xffffffffu;
[[nodiscard]] std::span<const block_comparison_form> block_comparison_forms() noexcept;

}  // namespace radixkv::detail
