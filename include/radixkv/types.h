// Identifiers and units shared by every public header.
#pragma once

#include <cstdint>

namespace radixkv {

// A vocabulary id. The engine's int32 ids are passed unchanged.
using token_id = std::uint32_t;

// Index of a KV block in the pool, 0 … blocks-1. Engines keep block tables as int32.
using block_id = std::int32_t;
inline constexpr block_id no_block = -1;

// Row of the logits store, 0 … logits_rows-1.
using logits_slot = std::int32_t;
inline constexpr logits_slot no_slot = -1;

// Limits that hold whatever the options say; options beyond them are refused.
inline constexpr std::int64_t max_blocks = (std::int64_t{1} << 30);
inline constexpr std::uint32_t max_block_tokens = 4096;
inline constexpr std::int64_t max_sequence_tokens = (std::int64_t{1} << 31) - 1;

}  // namespace radixkv
