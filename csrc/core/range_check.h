// Refusals that name the value and its limits, in one wording.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "radixkv/result.h"

namespace radixkv::detail {

// "what value is not in [low, high]" as invalid_argument unless low ≤ value ≤ high.
template <typename T, typename Low, typename High>
[[nodiscard]] status check_range(std::string_view what, T value, Low low, High high) {
  if (std::cmp_less_equal(low, value) && std::cmp_less_equal(value, high)) return {};
  return {errc::invalid_argument, std::string(what) + " " + std::to_string(value) + " is not in [" +
                                      std::to_string(low) + ", " + std::to_string(high) + "]"};
}

}  // namespace radixkv::detail
