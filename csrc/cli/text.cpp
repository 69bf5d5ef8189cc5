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

std::string one_line(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text.size() > 400 ? text.substr(0, 400) + "…" : text;
}

}  // namespace radixkv::cli
