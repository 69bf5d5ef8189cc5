#include "csrc/cli/text.h"

namespace radixkv::cli {

std::string printable(std::string_view text) {
  std::string out = "\"";
  for (const char c : text.substr(0, 60)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      constexpr char digits[] = "0123456789abcdef";
      (out += "\\x") += {digits[byte >> 4], digits[byte & 15]};
    }
  }
  return out += text.size() > 60 ? "…\"" : "\"";
}

std::string utf8(std::string text) {
  const auto byte = [&](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  for (std::size_t i = 0; i < text.size();) {
    const unsigned lead = byte(i);
    const std::size_t length = lead < 0x80                   ? 1
                               : lead >= 0xc2 && lead < 0xe0 ? 2
                               : lead >= 0xe0 && lead < 0xf0 ? 3
                               : lead >= 0xf0 && lead < 0xf5 ? 4
                                                             : 0;
    bool good = length > 0;
    for (std::size_t k = 1; k < length; ++k) good = good && (byte(i + k) & 0xc0u) == 0x80;
    // Overlong forms, surrogates, and what is beyond U+10FFFF.
    const unsigned second = byte(i + 1);
    good = good && !(lead == 0xe0 && second < 0xa0) && !(lead == 0xed && second >= 0xa0) &&
           !(lead == 0xf0 && second < 0x90) && !(lead == 0xf4 && second >= 0x90);
    if (!good) text[i] = '?';
    i += good ? length : 1;
  }
  return text;
}

std::string one_line(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text.size() > 400 ? text.substr(0, 400) + "…" : text;
}

}  // namespace radixkv::cli
