// Refusals that name the value and its limits, in one wording.
#pragma once

#include <string>

#include "radixkv/result.h"

namespace radixkv::detail {

// "what value is not in [low, high]" as invalid_argument unless low ≤ value ≤ high.
template <typename T, typename Low, typename High>
[[nodiscard]] status check_range(const std::string& what, T value, Low low, High high) {
  if (value >= static_cast<T>(low) && value <= static_cast<T>(high)) return {};
  return {errc::invalid_argument, what + " " + std::to_string(value) + " is not in [" +
                                      std::to_string(low) + ", " + std::to_string(high) + "]"};
}

}  // namespace radixkv::detail
