// One line of a recorded trace: JSON in, checked members out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "radixkv/result.h"

namespace radixkv::cli {

struct trace_line {
  double timestamp_ms = 0;
  std::uint32_t input_length = 0;   // tokens
  std::uint32_t output_length = 0;  // tokens
  std::vector<std::uint64_t> hash_ids;
  std::string name_space;
};

// Parses one line; `line`'s buffers are reused. Errors: invalid_argument, naming the member, its
// value and its limit. Takes any bytes.
[[nodiscard]] status parse_trace_line(std::string_view text, std::uint32_t block_tokens,
                                      trace_line& line);

}  // namespace radixkv::cli
