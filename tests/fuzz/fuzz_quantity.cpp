// What options take: any text is refused by a message of one line, or read as what its digits say.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "csrc/cli/quantity.h"
#include "csrc/cli/text.h"
#include "tests/fuzz/fuzz_check.h"

namespace {

using namespace radixkv;
using namespace radixkv::cli;

// The number that digits give, if it lies between the limits: as text, without arithmetic that
// could overflow.
std::optional<std::uint64_t> number(std::string digits, std::uint64_t least, std::uint64_t most) {
  if (digits.empty() || digits.find_first_not_of("0123456789") != std::string::npos) return {};
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size() - 1));
  const std::string limit = std::to_string(most);
  if (digits.size() > limit.size() || (digits.size() == limit.size() && digits > limit)) return {};
  const std::uint64_t value = std::stoull(digits);
  return value >= least ? std::optional(value) : std::nullopt;
}

// Moves the point by as many digits as the suffix says; what is left behind it must be zeros.
std::optional<std::uint64_t> quantity(std::string text) {
  std::size_t places = 0;
  if (!text.empty()) {
    const std::size_t suffix = std::string_view("kKmMgG").find(text.back());
    if (suffix != std::string_view::npos) {
      places = 3 * (suffix / 2 + 1);
      text.pop_back();
    }
  }
  const std::size_t point = std::min(text.find('.'), text.size());
  std::string fraction = text.substr(std::min(point + 1, text.size()));
  if (text.substr(0, point).empty() && fraction.empty()) return {};
  if (fraction.find_first_not_of("0123456789") != std::string::npos) return {};
  fraction.resize(std::max(fraction.size(), places), '0');
  if (fraction.find_first_not_of('0', places) != std::string::npos) return {};
  return number(text.substr(0, point) + fraction.substr(0, places), 1, std::uint64_t{1} << 46);
}

template <typename Result>
void check_refusal(const Result& r) {
  FUZZ_CHECK(r.error().code == errc::invalid_argument && !r.error().message.empty());
  FUZZ_CHECK(one_line(r.error().message) == r.error().message);
}

void check_quantity(const std::string& text) {
  const std::optional<std::uint64_t> expected = quantity(text);
  const result<std::uint64_t> read = parse_quantity(text);
  FUZZ_CHECK(read.ok() == expected.has_value());
  if (read.ok()) {
    FUZZ_CHECK(*read == *expected);
  } else {
    check_refusal(read);
  }
  const result<capacity> pool = parse_capacity(text);
  FUZZ_CHECK(pool.ok() == (read.ok() || text == "unlimited"));
  FUZZ_CHECK(!pool.ok() || (pool->text == text && pool->unlimited == !read.ok()));
}

void check_whole_number(const std::string& text) {
  constexpr std::uint64_t least = 2, most = UINT64_MAX - 1;
  const result<std::uint64_t> read = whole_number("--limit", text, least, most);
  const std::optional<std::uint64_t> expected = number(text, least, most);
  FUZZ_CHECK(read.ok() == expected.has_value());
  if (read.ok()) {
    FUZZ_CHECK(*read == *expected);
  } else {
    check_refusal(read);
  }
}

void check_list(const std::string& text) {
  const bool gap = text.empty() || text.front() == ',' || text.back() == ',' ||
                   text.find(",,") != std::string::npos;
  const result<std::vector<std::string>> parts = split_list(text);
  FUZZ_CHECK(parts.ok() == !gap);
  if (!parts.ok()) return check_refusal(parts);
  std::string joined;
  for (const std::string& part : *parts) joined += (joined.empty() ? "" : ",") + part;
  FUZZ_CHECK(joined == text);
  for (const std::string& part : *parts) check_quantity(part);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  check_quantity(text);
  check_whole_number(text);
  check_list(text);
  const std::string shown = printable(text.substr(0, 60));  // behind that it says "…"
  FUZZ_CHECK(std::ranges::all_of(shown, [](char c) { return c >= ' ' && c <= '~'; }));
  FUZZ_CHECK(printable(text).size() <= 4 * 60 + 5);
  const std::string valid = utf8(text);
  FUZZ_CHECK(valid.size() == text.size() && utf8(valid) == valid);
  return 0;
}
