// Hostile text made fit for one line of an error message.
#pragma once

#include <string>
#include <string_view>

namespace radixkv::cli {

// In quotes, printable ASCII, cut to 60 bytes.
[[nodiscard]] std::string printable(std::string_view text);

// What is not UTF-8 (RFC 3629), byte by byte, becomes '?'.
[[nodiscard]] std::string utf8(std::string text);

// A message without control characters or trailing space, cut to 400 bytes.
[[nodiscard]] std::string one_line(std::string text);

}  // namespace radixkv::cli
