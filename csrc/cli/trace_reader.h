// Reads recorded traces: JSON lines, one request each, as the Mooncake project publishes them.
//
//     {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, …,
//     2354]}
//
// `timestamp` is in milliseconds, lengths are in tokens, and `hash_ids` holds one id per block of
// `block_tokens` tokens (the last one may be partial); equal ids mean equal prefixes up to and
// including that block. An optional `namespace` (string) keeps tenants apart; other members are
// ignored, and so are empty lines.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "csrc/cli/trace.h"
#include "radixkv/result.h"

namespace radixkv::cli {

struct trace_options {
  std::uint32_t block_tokens = 512;    // tokens per hash id
  std::size_t limit = SIZE_MAX;        // requests to read at most
  std::size_t line_bytes = 64u << 20;  // longer lines are refused
};

// Parses the text of a trace. `name` is what errors call it.
// Errors: invalid_argument with name, line (from 1), member, value and limit; out_of_memory. Any
// input is safe: memory stays proportional to it.
[[nodiscard]] result<trace> parse_trace(std::string_view text, const std::string& name,
                                        const trace_options& options = {});

// Reads a trace file line by line. Errors: io, and those of parse_trace.
[[nodiscard]] result<trace> read_trace(const std::string& path, const trace_options& options = {});

}  // namespace radixkv::cli
