// Writing the rows of new blocks of 16 tokens, which are a cache line each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "radixkv/types.h"

namespace radixkv::detail {

// Tokens of a block whose row is a line.
inline constexpr std::uint32_t line_tokens = 16;

// Row ids[i] of `rows` becomes the i-th line of `tokens`, whatever the runs of the ids: those that
// a policy frees by something else than age are short, and a copy for each costs a branch or two
// that are not foreseen. past_caches: for rows too many to stay in the processor's caches, as
// stream_words does. Gives how many were written: all, or none where the processor has no registers
// of half a line, which makes it slower than copying runs. REQUIRES: rows begins a line.
[[nodiscard]] std::size_t write_lines(std::uint32_t* rows, std::span<const block_id> ids,
                                      const token_id* tokens, bool past_caches) noexcept;

}  // namespace radixkv::detail
