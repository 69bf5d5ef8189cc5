#include <cstdio>
#include <string>

#include <gtest/gtest.h>
#include <unistd.h>

#include "csrc/cli/random_source.h"
#include "csrc/cli/trace_line.h"
#include "csrc/cli/trace_reader.h"

namespace radixkv::cli {
namespace {

const std::string good_line =
    R"({"timestamp": 1500, "input_length": 1030, "output_length": 7, "hash_ids": [3, 9, 4]})";

std::string error_of(const std::string& text, const trace_options& options = {}) {
  result<trace> r = parse_trace(text, "t.jsonl", options);
  return r ? "" : r.error().message;
}

TEST(trace_reader, reads_what_a_line_says) {
  const std::string text = good_line + "\n\n" +
                           R"({"hash_ids":[3],"output_length":0,"input_length":512,)"
                           R"("timestamp":2500.5,"namespace":"a","type":{"x":[1,[2]]}})" +
                           "\n" + good_line + "\r\n\r\n";
  result<trace> r = parse_trace(text, "t.jsonl");
  ASSERT_TRUE(r.ok()) << r.error().message;
  ASSERT_EQ(r->requests.size(), 3u);
  EXPECT_EQ(r->requests[0].seconds, 1.5);
  EXPECT_EQ(r->requests[0].prompt_tokens, 1030u);
  EXPECT_EQ(r->requests[0].output_tokens, 7u);
  const auto segments = r->segments_of(r->requests[0]);
  ASSERT_EQ(segments.size(), 3u);
  EXPECT_EQ(segments[0], (segment{3, 512}));
  EXPECT_EQ(segments[1], (segment{9, 512}));
  EXPECT_EQ(segments[2], (segment{4, 6}));
  EXPECT_EQ(r->requests[1].seconds, 2.5005);
  EXPECT_EQ(r->name_spaces[r->requests[1].name_space], "a");
  EXPECT_EQ(r->name_spaces[r->requests[0].name_space], "");
  EXPECT_EQ(r->name_spaces[r->requests[2].name_space], "") << "not that of the line before";
  EXPECT_EQ(r->prompt_tokens(), 2572u);
}

TEST(trace_reader, takes_another_block_size) {
  trace_options options;
  options.block_tokens = 16;
  const std::string line =
      R"({"timestamp":0,"input_length":20,"output_length":1,"hash_ids":[1,2]})";
  result<trace> r = parse_trace(line, "t", options);
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->segments_of(r->requests[0])[1], (segment{2, 4}));
  EXPECT_NE(error_of(line), "");
}

TEST(trace_reader, the_clock_never_goes_back) {
  const auto line = [](int ms) {
    return R"({"timestamp":)" + std::to_string(ms) +
           R"(,"input_length":1,"output_length":1,"hash_ids":[1]})" + "\n";
  };
  result<trace> r = parse_trace(line(5000) + line(4000) + line(6000), "t");
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->requests[1].seconds, 5.0);
  EXPECT_EQ(r->requests[2].seconds, 6.0);
}

TEST(trace_reader, stops_at_the_limit) {
  trace_options options;
  options.limit = 1;
  result<trace> r = parse_trace(good_line + "\nnonsense that is never read\n", "t", options);
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->requests.size(), 1u);
}

TEST(trace_reader, errors_name_file_line_member_value_and_limit) {
  const struct {
    const char* line;
    const char* wanted;
  } cases[] = {
      {R"({"timestamp": -1, "input_length": 1, "output_length": 0, "hash_ids": [1]})",
       "timestamp is -1"},
      {R"({"timestamp": "x", "input_length": 1, "output_length": 0, "hash_ids": [1]})",
       "timestamp is \"x\", not a number"},
      {R"({"timestamp": 0, "input_length": 0, "output_length": 0, "hash_ids": []})",
       "input_length is 0, outside 1 … 2147483647"},
      {R"({"timestamp": 0, "input_length": 2147483648, "output_length": 0, "hash_ids": []})",
       "input_length is 2147483648, outside"},
      {R"({"timestamp": 0, "input_length": 1.5, "output_length": 0, "hash_ids": [1]})",
       "input_length is 1.5, not an integer"},
      {R"({"timestamp": 0, "input_length": -4, "output_length": 0, "hash_ids": [1]})",
       "input_length is -4, outside 1 … 2147483647 tokens"},
      {R"({"timestamp": 0, "input_length": 1, "output_length": -1, "hash_ids": [1]})",
       "output_length is -1, outside 0 … 2147483647 tokens"},
      {R"({"timestamp": 0, "input_length": 1, "output_length": null, "hash_ids": [1]})",
       "output_length is null"},
      {R"({"timestamp": 0, "input_length": 1, "output_length": 0, "hash_ids": [-7]})",
       "hash_ids[0] is -7"},
      {R"({"timestamp": 0, "input_length": 513, "output_length": 0, "hash_ids": [1, "b"]})",
       "hash_ids[1] is \"b\""},
      {R"({"timestamp": 0, "input_length": 1, "output_length": 0, "hash_ids": [[1]]})",
       "hash_ids[0] is an array"},
      {R"({"timestamp": 0, "input_length": 1, "output_length": 0, "hash_ids": {"a": 1}})",
       "hash_ids is an object"},
      {R"({"timestamp": 0, "input_length": 1, "output_length": 0, "hash_ids": 5})",
       "hash_ids is 5, not an array"},
      {R"({"timestamp": 0, "input_length": 513, "output_length": 0, "hash_ids": [1]})",
       "hash_ids has 1 ids, but input_length 513 needs 2 blocks of 512 tokens"},
      {R"({"timestamp": 0, "input_length": 1, "hash_ids": [1]})", "output_length is missing"},
      {R"({"timestamp": 0, "timestamp": 0})", "timestamp appears twice"},
      {R"({"timestamp": 0, "input_length": 1, "output_length": 0, "hash_ids": [1], "namespace": 3})",
       "namespace is 3, not a string"},
      {R"([1, 2])", "a line must be an object, not an array"},
      {R"(17)", "a line must be an object, not 17"},
      {R"({"timestamp": 0,)", "not valid JSON at byte"},
      {R"({"timestamp": 1e999})", "timestamp is 1e999, outside 0 … 1e16 ms"},
      {R"({"timestamp": 1.1e16})", "timestamp is 1.1e+16, outside 0 … 1e16 ms"},
      {R"({"other": 1e999})", "the number 1e999 at byte 15 is beyond what a double holds"},
      {"{\"timestamp\": 0, \"a\xff\": 1}", "not valid JSON at byte"},
  };
  for (const auto& c : cases) {
    const std::string message = error_of(good_line + "\n" + c.line + "\n");
    EXPECT_EQ(message.rfind("t.jsonl:2: ", 0), 0u) << c.line << " → " << message;
    EXPECT_NE(message.find(c.wanted), std::string::npos) << c.line << " → " << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
  EXPECT_EQ(error_of("\n \n"), "t.jsonl holds no request, at least 1 is needed");
}

// A parser may take the NUL for the end of the text.
TEST(trace_reader, nothing_follows_the_object) {
  for (const std::string& end : {std::string("x"), std::string(1, '\0'), std::string("\0 {", 3)}) {
    const std::string message = error_of(good_line + end + "\n");
    EXPECT_NE(message.find(":1: not valid JSON at byte " + std::to_string(good_line.size() + 1)),
              std::string::npos)
        << message;
  }
}

TEST(trace_reader, hostile_values_make_one_printable_short_line) {
  std::string value = "\\u0007\\n";
  value.append(100000, 'x');
  const std::string message = error_of(R"({"timestamp": ")" + value + "\"}");
  EXPECT_LT(message.size(), 250u);
  EXPECT_NE(message.find("\\x07\\x0a"), std::string::npos) << message;
}

TEST(trace_reader, deep_nesting_and_long_lines_are_refused_or_ignored) {
  EXPECT_NE(error_of(std::string(1000000, '[')), "");
  const std::string nested =
      R"({"x": )" + std::string(300000, '[') + std::string(300000, ']') + "," + good_line.substr(1);
  EXPECT_EQ(error_of(nested), "");
  trace_options options;
  options.line_bytes = 64;
  EXPECT_EQ(error_of(good_line, options), "t.jsonl:1: longer than the limit of 64 bytes");
}

// Random damage never crashes, and what is accepted keeps the promises of trace.h.
TEST(trace_reader, random_damage) {
  random_source random(7);
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string text = good_line + "\n" + good_line + "\n";
    for (std::uint64_t n = 1 + random.below(3); n > 0; --n) {
      const std::size_t at = random.below(text.size());
      switch (random.below(4)) {
        case 0:
          text[at] = static_cast<char>(random.next());
          break;
        case 1:
          text.erase(at, 1 + random.below(5));
          break;
        case 2:
          text.insert(at, 1, "0123456789{}[],:\"-.e"[random.below(20)]);
          break;
        default:
          text[at] = static_cast<char>('0' + random.below(10));
          break;
      }
      if (text.empty()) text = "{";
    }
    result<trace> r = parse_trace(text, "t");
    if (!r) {
      EXPECT_EQ(r.error().code, errc::invalid_argument);
      continue;
    }
    ++accepted;
    for (const trace_request& request : r->requests) {
      std::uint64_t sum = 0;
      for (const segment& s : r->segments_of(request)) sum += s.tokens;
      ASSERT_EQ(sum, request.prompt_tokens);
      ASSERT_GE(request.prompt_tokens, 1u);
      ASSERT_LT(request.name_space, r->name_spaces.size());
    }
  }
  EXPECT_GT(accepted, 100);
}

TEST(trace_reader, files_read_like_text) {
  std::string text;
  for (int i = 0; i < 30000; ++i) text += good_line + "\n";  // several read buffers
  text += good_line;                                         // without a newline at the end
  char path[] = "trace_XXXXXX";
  const int fd = ::mkstemp(path);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  result<trace> from_file = read_trace(path);
  result<trace> from_text = parse_trace(text, path);
  ASSERT_TRUE(from_file.ok()) << from_file.error().message;
  EXPECT_EQ(from_file->requests.size(), 30001u);
  EXPECT_EQ(from_file->segments, from_text->segments);

  ASSERT_EQ(::write(fd, "\n{", 2), 2);
  ::close(fd);
  result<trace> damaged = read_trace(path);
  ASSERT_FALSE(damaged.ok());
  EXPECT_NE(damaged.error().message.find(":30002: "), std::string::npos);
  trace_options options;
  options.line_bytes = 50;
  EXPECT_NE(read_trace(path, options).error().message.find(":1: longer"), std::string::npos);
  ::unlink(path);
  EXPECT_EQ(read_trace(path).error().code, errc::io);
  EXPECT_EQ(read_trace("/").error().code, errc::io);
}

}  // namespace
}  // namespace radixkv::cli
