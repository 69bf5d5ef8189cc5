#include "csrc/cli/quantity.h"

#include <charconv>
#include <cmath>
#include <cstdio>

#include "csrc/cli/text.h"

namespace radixkv::cli {
namespace {

constexpr std::uint64_t max_quantity = std::uint64_t{1} << 46;

error not_a_quantity(std::string_view text) {
  return {errc::invalid_argument,
          printable(text) + " is not a whole number of 1 … 2^46 (suffixes K, M, G; 0.5M is one)"};
}

}  // namespace

result<std::uint64_t> parse_quantity(std::string_view text) {
  std::string_view digits = text;
  std::uint64_t unit = 1;
  if (!digits.empty()) {
    switch (digits.back()) {
      case 'k':
      case 'K':
        unit = 1000;
        break;
      case 'm':
      case 'M':
        unit = 1000000;
        break;
      case 'g':
      case 'G':
        unit = 1000000000;
        break;
      default:
        break;
    }
    if (unit > 1) digits.remove_suffix(1);
  }
  // Integer arithmetic throughout: 0.3M is exactly 300000.
  std::uint64_t value = 0;
  bool any = false;
  bool fraction = false;
  for (const char c : digits) {
    if (c == '.' && !fraction) {
      fraction = true;
      continue;
    }
    if (c < '0' || c > '9') return not_a_quantity(text);
    const auto digit = static_cast<std::uint64_t>(c - '0');
    any = true;
    if (fraction) {
      if (digit != 0 && unit % 10 != 0) return not_a_quantity(text);
      if (unit % 10 == 0) {
        unit /= 10;
        value = value * 10 + digit;
      }
    } else {
      value = value * 10 + digit;
    }
    if (value > max_quantity) return not_a_quantity(text);
  }
  if (!any || value == 0 || value > max_quantity / unit) return not_a_quantity(text);
  return value * unit;
}

result<capacity> parse_capacity(std::string_view text) {
  if (text == "unlimited") return capacity{true, 0, "unlimited"};
  result<std::uint64_t> tokens = parse_quantity(text);
  if (!tokens) return tokens.error();
  return capacity{false, *tokens, std::string(text)};
}

result<std::uint64_t> whole_number(const char* option, const std::string& text, std::uint64_t least,
                                   std::uint64_t most) {
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(text.data(), end, value);
  if (problem != std::errc() || stop != end || value < least || value > most) {
    return error{errc::invalid_argument, std::string(option) + " is " + printable(text) +
                                             ", not a whole number of " + std::to_string(least) +
                                             " … " + std::to_string(most)};
  }
  return value;
}

result<std::vector<std::string>> split_list(std::string_view text) {
  std::vector<std::string> parts;
  for (;;) {
    const std::size_t comma = text.find(',');
    if (text.substr(0, comma).empty()) {
      return error{errc::invalid_argument, "a list has an empty element"};
    }
    parts.emplace_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

std::string human(double value) {
  const char* unit = "";
  for (const char* next : {" K", " M", " G", " T"}) {
    if (std::abs(value) < 999.95) break;
    value /= 1000;
    unit = next;
  }
  char buffer[64];
  const bool whole = *unit == '\0' && value == std::floor(value);
  std::snprintf(buffer, sizeof buffer, whole ? "%.0f%s" : "%.1f%s", value, unit);
  return buffer;
}

}  // namespace radixkv::cli
