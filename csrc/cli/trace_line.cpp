#include "csrc/cli/trace_line.h"

#include <cmath>

#include <nlohmann/json.hpp>

#include "csrc/cli/text.h"
#include "radixkv/types.h"

namespace radixkv::cli {
namespace {

using json = nlohmann::json;

enum class member : unsigned char {
  timestamp,
  input_length,
  output_length,
  hash_ids,
  name_space,
  other
};
constexpr const char* member_names[] = {"timestamp", "input_length", "output_length", "hash_ids",
                                        "namespace"};
constexpr unsigned required = 0b1111;
constexpr const char* timestamp_limits = ", outside 0 … 1e16 ms";

// Receives the parser's events, so that no document is built: members that nobody reads cost no
// memory, however large or deeply nested they are.
class line_handler : public nlohmann::json_sax<json> {
 public:
  line_handler(trace_line& line, std::string& problem) : line_(line), problem_(problem) {}

  bool null() override { return scalar("null"); }
  bool boolean(bool value) override { return scalar(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override {
    if (is(member::timestamp)) return timestamp(static_cast<double>(value));
    if (is(member::input_length)) return outside(std::to_string(value), 1);
    if (is(member::output_length)) return outside(std::to_string(value), 0);
    return scalar(std::to_string(value));
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (in_ids()) {
      line_.hash_ids.push_back(value);
      return true;
    }
    if (is(member::timestamp)) return timestamp(static_cast<double>(value));
    if (is(member::input_length)) return length(value, 1, line_.input_length);
    if (is(member::output_length)) return length(value, 0, line_.output_length);
    return scalar(std::to_string(value));
  }
  bool number_float(number_float_t value, const string_t& text) override {
    if (is(member::timestamp)) return timestamp(value);
    return scalar(text);
  }
  bool string(string_t& value) override {
    if (is(member::name_space)) {
      line_.name_space = value;
      return true;
    }
    return scalar(printable(value));
  }
  bool binary(binary_t&) override { return scalar("binary data"); }

  bool start_object(std::size_t) override {
    if (depth_ == 1 && member_ != member::other) return scalar("an object");
    if (in_ids()) return scalar("an object");
    ++depth_;
    return true;
  }
  bool key(string_t& name) override {
    if (depth_ != 1) return true;
    member_ = member::other;
    for (unsigned i = 0; i < std::size(member_names); ++i) {
      if (name != member_names[i]) continue;
      if ((seen_ >> i & 1u) != 0) return fail(std::string(member_names[i]) + " appears twice");
      seen_ |= 1u << i;
      member_ = static_cast<member>(i);
    }
    return true;
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_ == 0) return scalar("an array");
    if (depth_ == 1 && member_ != member::other && member_ != member::hash_ids) {
      return scalar("an array");
    }
    if (in_ids()) return scalar("an array");
    ++depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(std::size_t position, const std::string& token,
                   const nlohmann::detail::exception& problem) override {
    constexpr int number_overflow = 406;
    if (problem.id == number_overflow) {
      if (is(member::timestamp)) return fail("timestamp is " + token + timestamp_limits);
      return fail("the number " + token + " at byte " + std::to_string(position) +
                  " is beyond what a double holds");
    }
    return fail("not valid JSON at byte " + std::to_string(position));
  }

  [[nodiscard]] unsigned seen() const noexcept { return seen_; }

 private:
  [[nodiscard]] bool is(member m) const noexcept { return depth_ == 1 && member_ == m; }
  [[nodiscard]] bool in_ids() const noexcept { return depth_ == 2 && member_ == member::hash_ids; }

  bool fail(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }
  // A value of a kind that its place does not take.
  bool scalar(const std::string& value) {
    if (depth_ == 0) return fail("a line must be an object, not " + value);
    if (in_ids()) {
      return fail("hash_ids[" + std::to_string(line_.hash_ids.size()) + "] is " + value +
                  ", not an integer of 0 … 18446744073709551615");
    }
    if (depth_ != 1 || member_ == member::other) return true;
    const char* wanted = member_ == member::timestamp    ? "a number of milliseconds of at least 0"
                         : member_ == member::hash_ids   ? "an array of integers"
                         : member_ == member::name_space ? "a string"
                                                         : "an integer number of tokens";
    return fail(std::string(member_names[static_cast<int>(member_)]) + " is " + value + ", not " +
                wanted);
  }
  bool timestamp(double value) {
    // A year of milliseconds times a million: beyond that, doubles lose the seconds.
    if (!(value >= 0) || value > 1e16) {
      return fail("timestamp is " + json(value).dump() + timestamp_limits);
    }
    line_.timestamp_ms = value;
    return true;
  }
  bool length(number_unsigned_t value, std::uint32_t least, std::uint32_t& out) {
    if (value < least || value > static_cast<number_unsigned_t>(max_sequence_tokens)) {
      return outside(std::to_string(value), least);
    }
    out = static_cast<std::uint32_t>(value);
    return true;
  }
  bool outside(const std::string& value, std::uint32_t least) {
    return fail(std::string(member_names[static_cast<int>(member_)]) + " is " + value +
                ", outside " + std::to_string(least) + " … " + std::to_string(max_sequence_tokens) +
                " tokens");
  }

  trace_line& line_;
  std::string& problem_;
  member member_ = member::other;
  std::size_t depth_ = 0;
  unsigned seen_ = 0;
};

}  // namespace

status parse_trace_line(std::string_view text, std::uint32_t block_tokens, trace_line& line) {
  line.hash_ids.clear();
  line.name_space.clear();
  // The parser takes it for the end of the text.
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos) {
    return {errc::invalid_argument, "not valid JSON at byte " + std::to_string(nul + 1)};
  }
  std::string problem;
  line_handler handler(line, problem);
  if (!json::sax_parse(text.begin(), text.end(), &handler)) {
    return {errc::invalid_argument, problem.empty() ? "not valid JSON" : problem};
  }
  for (unsigned i = 0; i < std::size(member_names); ++i) {
    if ((required & ~handler.seen() & 1u << i) != 0) {
      return {errc::invalid_argument, std::string(member_names[i]) + " is missing"};
    }
  }
  const std::uint64_t blocks = (std::uint64_t{line.input_length} + block_tokens - 1) / block_tokens;
  if (line.hash_ids.size() != blocks) {
    return {errc::invalid_argument,
            "hash_ids has " + std::to_string(line.hash_ids.size()) + " ids, but input_length " +
                std::to_string(line.input_length) + " needs " + std::to_string(blocks) +
                " blocks of " + std::to_string(block_tokens) + " tokens"};
  }
  return {};
}

}  // namespace radixkv::cli
