// Quantities as people write them: 300K, 3M, 0.5M, unlimited; and lists of them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "radixkv/result.h"

namespace radixkv::cli {

// A pool's capacity in tokens; `unlimited` is one that holds everything the workload ever caches.
struct capacity {
  bool unlimited = false;
  std::uint64_t tokens = 0;
  std::string text;  // as written
};

// A number with an optional suffix K, M or G (powers of 1000). Errors: invalid_argument unless it
// is a whole number of 1 … 2^46 in the end.
[[nodiscard]] result<std::uint64_t> parse_quantity(std::string_view text);
[[nodiscard]] result<capacity> parse_capacity(std::string_view text);
// What an option takes. Errors: invalid_argument, naming the option, the text and the limits.
[[nodiscard]] result<std::uint64_t> whole_number(const char* option, const std::string& text,
                                                 std::uint64_t least, std::uint64_t most);
// The parts between commas. Errors: invalid_argument when one is empty.
[[nodiscard]] result<std::vector<std::string>> split_list(std::string_view text);

// 144793823 as 144.8 M: four significant digits at most.
[[nodiscard]] std::string human(double value);

}  // namespace radixkv::cli
