// The error of a refused allocation, made where another allocation may be refused too.
#pragma once

#include <cstdint>
#include <exception>
#include <string>

#include "radixkv/result.h"

namespace radixkv::detail {

// "no host memory WHAT [N UNIT]"; without WHAT if even the message cannot be had: what is left fits
// into a string without an allocation.
[[nodiscard]] inline error no_memory(const char* what) noexcept {
  try {
    return {errc::out_of_memory, std::string("no host memory ") + what};
  } catch (const std::exception&) {
    return {errc::out_of_memory, "no host memory"};
  }
}
[[nodiscard]] inline error no_memory(const char* what, std::int64_t n, const char* unit) noexcept {
  try {
    return {errc::out_of_memory,
            std::string("no host memory ") + what + " " + std::to_string(n) + " " + unit};
  } catch (const std::exception&) {
    return {errc::out_of_memory, "no host memory"};
  }
}

}  // namespace radixkv::detail
