#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>
#include <unistd.h>

#include "csrc/cli/program.h"

namespace radixkv::cli {
namespace {

struct outcome {
  int code = 0;
  std::string out;
  std::string err;
};

outcome run(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "radixkv");
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  outcome o;
  o.code = run_program(static_cast<int>(arguments.size()), arguments.data());
  o.out = testing::internal::GetCapturedStdout();
  o.err = testing::internal::GetCapturedStderr();
  return o;
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A file name in the working directory that goes with the object.
class scratch_file {
 public:
  explicit scratch_file(const std::string& text = {}) {
    const int fd = ::mkstemp(path_.data());
    EXPECT_GE(fd, 0);
    EXPECT_EQ(::write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    ::close(fd);
  }
  ~scratch_file() { ::unlink(path_.c_str()); }
  [[nodiscard]] const char* path() const { return path_.c_str(); }

 private:
  std::string path_ = "radixkv_test_XXXXXX";
};

TEST(program, says_what_it_is) {
  const outcome version = run({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_EQ(version.out.rfind("radixkv ", 0), 0u);
  EXPECT_NE(version.out.find('.'), std::string::npos);
  const outcome help = run({"help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_NE(help.out.find("--capacity-tokens"), std::string::npos);
  EXPECT_EQ(run({"replay", "--help"}).code, 0);
  const outcome about = run({"help", "soak"});
  EXPECT_EQ(about.code, 0);
  EXPECT_NE(about.out.find("--minutes"), std::string::npos);
  EXPECT_EQ(about.out.find("--capacity-tokens"), std::string::npos);
}

TEST(program, output_that_nobody_gets_is_a_failure) {
  std::fflush(stdout);
  const int kept = ::dup(1);
  const int full = ::open("/dev/full", O_WRONLY);
  ASSERT_GE(full, 0);
  ::dup2(full, 1);
  testing::internal::CaptureStderr();
  const char* arguments[] = {"radixkv", "help"};
  const int code = run_program(2, arguments);
  ::dup2(kept, 1);
  std::clearerr(stdout);
  ::close(full);
  ::close(kept);
  EXPECT_EQ(code, 1);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("cannot write to standard output: "),
            std::string::npos);
}

TEST(program, files_are_tried_before_anything_runs) {
  const std::string line =
      "{\"timestamp\": 0, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [1]}\n";
  const scratch_file trace(line);
  const outcome onto = run({"replay", trace.path(), "--json", trace.path()});
  EXPECT_EQ(onto.code, 2);
  EXPECT_NE(onto.err.find("is the file of TRACE"), std::string::npos) << onto.err;
  EXPECT_EQ(read_file(trace.path()), line);
  for (const char* option : {"--json", "--csv", "--plot"}) {
    // More requests than a test would wait for.
    const outcome o = run({"replay", "--requests", "100000000", option, "/no/such/folder/x"});
    EXPECT_EQ(o.code, 1) << option;
    EXPECT_EQ(o.out, "");
    EXPECT_NE(o.err.find("cannot write /no/such/folder/x: No such file"), std::string::npos)
        << o.err;
  }
  const outcome soaked = run({"soak", "--minutes", "500000", "--json", "."});
  EXPECT_EQ(soaked.code, 1);
  EXPECT_NE(soaked.err.find("cannot write .: Is a directory"), std::string::npos) << soaked.err;
}

TEST(program, what_makes_no_sense_is_one_line_and_code_2) {
  const std::string long_name(100000, 'x');
  const struct {
    std::vector<const char*> arguments;
    const char* wanted;
  } cases[] = {
      {{}, "A subcommand is required"},
      {{"fly"}, "\"fly\" is not a command"},
      {{"replay", "a", "b"}, "b"},
      {{"replay", "--no-such"}, "--no-such"},
      {{"replay", "--block-tokens", "0"},
       "--block-tokens is \"0\", not a whole number of 1 … 4096"},
      {{"replay", "--block-tokens", "24"}, "--block-tokens is 24, not a power of two of 1 … 4096"},
      {{"replay", "--block-tokens", "8192"}, "\"8192\", not a whole number of 1 … 4096"},
      {{"replay", "--block-tokens", "-16"}, "\"-16\""},
      {{"replay", "--threads", "0"}, "--threads is \"0\", not a whole number of 1 … 256"},
      {{"replay", "--threads", "1e3"}, "\"1e3\""},
      {{"replay", "--lookahead", "-1"}, "--lookahead is \"-1\""},
      {{"replay", "--lookahead", "1000001"}, "not a whole number of 0 … 1000000"},
      {{"replay", "--limit", "0"}, "--limit is \"0\""},
      {{"replay", "--limit", "99999999999999999999999"}, "--limit is \"9999"},
      {{"replay", "--capacity-tokens", "lots"}, "\"lots\" is not a whole number"},
      {{"replay", "--capacity-tokens", "1M,,2M"}, "empty element"},
      {{"replay", "--capacity-tokens", "1M,2M,1000K"}, "\"1000K\" is \"1M\" again"},
      {{"replay", "--capacity-tokens", "10"}, "a capacity of 10 tokens is less than one block"},
      {{"replay", "--capacity-tokens", "70000G"}, "more than the limit of 1073741824"},
      {{"replay", "--policy", "nope"}, "'nope' is not one of: lru"},
      {{"replay", "--policy", "lru,nope"}, "belady; nor is it all"},
      {{"replay", "--policy", "all,lru"}, "all stands alone, not in a list"},
      {{"replay", "--policy", "lru,fifo,lru"}, "--policy: \"lru\" stands twice"},
      {{"--foo"}, "\"--foo\" is not an option of the program itself"},
      {{"-x", "replay"}, "\"-x\" is not an option of the program itself"},
      {{"replay", ""}, "TRACE is an empty name of a file"},
      {{"replay", "--json", ""}, "--json is an empty name of a file"},
      {{"replay", "--csv", ""}, "--csv is an empty name of a file"},
      {{"replay", "--plot", ""}, "--plot is an empty name of a file"},
      {{"replay", "--limit", ""}, "--limit is \"\", not a whole number of 1"},
      {{"soak", "--json", ""}, "--json is an empty name of a file"},
      {{"replay", "--json", "same", "--csv", "./same"}, "--csv: \"./same\" is the file of --json"},
      {{"help", "fly"}, "\"fly\" is not a command"},
      {{"soak", "--seed", "-1"},
       "--seed is \"-1\", not a whole number of 0 … 18446744073709551615"},
      {{"soak", "--threads", "257"}, "--threads is \"257\", not a whole number of 1 … 256"},
      {{"replay", "--policy", ""}, "--policy"},
      {{"replay", "--policy", "lru,\n\a"}, "is not one of"},
      {{"replay", "--executor", "tpu"}, "\"tpu\", not host or cuda"},
      {{"replay", "--requests", "0"}, "--requests is \"0\""},
      {{"replay", "--seed", "x"}, "--seed is \"x\""},
      {{"replay", "--trace-block-tokens", "0"}, "--trace-block-tokens"},
      {{"replay", "--policy", long_name.c_str()}, "is not one of"},
      {{"replay", "--block-tokens", long_name.c_str()}, "--block-tokens"},
  };
  for (const auto& c : cases) {
    const outcome o = run(c.arguments);
    EXPECT_EQ(o.code, 2) << o.err;
    EXPECT_EQ(o.out, "");
    EXPECT_EQ(std::count(o.err.begin(), o.err.end(), '\n'), 1) << o.err;
    EXPECT_LT(o.err.size(), 600u);
    EXPECT_NE(o.err.find(c.wanted), std::string::npos) << o.err;
  }
}

TEST(program, a_failure_is_one_line_and_code_1) {
  const scratch_file damaged("{\"timestamp\": 0, \"input_length\": 1}\n");
  const outcome bad = run({"replay", damaged.path()});
  EXPECT_EQ(bad.code, 1);
  EXPECT_EQ(bad.err,
            "radixkv replay: " + std::string(damaged.path()) + ":1: output_length is missing\n");
  const outcome missing = run({"replay", "/no/such/trace"});
  EXPECT_EQ(missing.code, 1);
  EXPECT_EQ(std::count(missing.err.begin(), missing.err.end(), '\n'), 1);
  const outcome unwritable = run({"replay", "--requests", "5", "--json", "/no/such/folder/x"});
  EXPECT_EQ(unwritable.code, 1);
  EXPECT_NE(unwritable.err.find("/no/such/folder/x"), std::string::npos);
}

TEST(program, a_prompt_that_is_too_long_to_expand_is_refused_before_it_is) {
  std::string ids = "0";
  for (int i = 1; i < 257; ++i) ids += "," + std::to_string(i);
  const std::string start =
      R"({"timestamp":0,"output_length":1,"hash_ids":[)" + ids + R"(],"input_length":)";
  const scratch_file trace(start + "268435457}\n");
  const outcome o = run({"replay", trace.path(), "--trace-block-tokens", "1048576"});
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.err.find("request 0 has a prompt of 268435457 tokens, more than the limit of "
                       "268435456 that are expanded at a time"),
            std::string::npos)
      << o.err;
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// Runs the program in a process that may take so much more memory.
[[noreturn]] void run_within(std::size_t bytes, std::vector<const char*> arguments) {
  std::ifstream statm("/proc/self/statm");
  std::size_t pages = 0;
  statm >> pages;
  const std::size_t most = pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) + bytes;
  const rlimit limit{most, most};
  if (::setrlimit(RLIMIT_AS, &limit) != 0) std::exit(99);
  arguments.insert(arguments.begin(), "radixkv");
  std::exit(run_program(static_cast<int>(arguments.size()), arguments.data()));
}

TEST(program, memory_that_is_refused_is_one_line_and_code_1) {
  using ::testing::ExitedWithCode;
  // 256 stacks of 8 MB are more than that.
  EXPECT_EXIT(run_within(std::size_t{1} << 30, {"replay", "--requests", "200", "--threads", "256"}),
              ExitedWithCode(1), "^radixkv replay: cannot start thread [0-9]+ of 255: .*\n$");
  EXPECT_EXIT(run_within(std::size_t{1} << 30, {"soak", "--minutes", "0.05", "--threads", "256"}),
              ExitedWithCode(1), "^radixkv soak: cannot start thread [0-9]+ of 256: .*\n$");
  EXPECT_EXIT(run_within(std::size_t{1} << 28, {"replay", "--requests", "100000000"}),
              ExitedWithCode(1), "^radixkv replay: no memory to generate 100000000 requests\n$");
  std::string ids = "1";
  for (int i = 1; i < 4'000'000; ++i) ids += ",1";
  const scratch_file trace(
      R"({"timestamp":0,"input_length":4000000,"output_length":1,"hash_ids":[)" + ids + "]}\n");
  for (const char* policy : {"lru", "belady"}) {
    EXPECT_EXIT(run_within(std::size_t{64} << 20, {"replay", trace.path(), "--policy", policy,
                                                   "--trace-block-tokens", "1"}),
                ExitedWithCode(1), ":1: no memory for the requests up to here\n$");
  }
  // A line is not read on behind its limit.
  EXPECT_EXIT(run_within(std::size_t{256} << 20, {"replay", "/dev/zero"}), ExitedWithCode(1),
              "^radixkv replay: /dev/zero:1: longer than the limit of 67108864 bytes\n$");
}
#endif

TEST(program, replays_without_a_trace_and_writes_one_object) {
  const scratch_file json;
  const outcome o = run({"replay", "--requests", "200", "--verify", "--json", json.path()});
  ASSERT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(o.err, "");  // no progress bar: this is no terminal
  EXPECT_NE(o.out.find("generated conversations (seed 1)"), std::string::npos);
  const auto document = nlohmann::json::parse(read_file(json.path()));
  EXPECT_EQ(document.at("requests"), 200);
  EXPECT_EQ(document.at("wrong_bytes"), 0);
  EXPECT_GT(document.at("checked_bytes"), 0);
  EXPECT_GT(document.at("hit_blocks"), 0);
}

TEST(program, limit_and_trace_block_size_are_passed_on) {
  std::string text;
  for (int i = 0; i < 5; ++i) {
    text += R"({"timestamp":0,"input_length":40,"output_length":1,"hash_ids":[1,2,)" +
            std::to_string(10 + i) + "]}\n";
  }
  const scratch_file trace(text);
  const scratch_file json;
  const outcome o = run({"replay", trace.path(), "--trace-block-tokens", "16", "--limit", "3",
                         "--json", json.path(), "--capacity-tokens", "1K"});
  ASSERT_EQ(o.code, 0) << o.err;
  const auto document = nlohmann::json::parse(read_file(json.path()));
  EXPECT_EQ(document.at("requests"), 3);
  EXPECT_EQ(document.at("blocks"), 9);
  EXPECT_EQ(document.at("hit_blocks"), 4);
  EXPECT_EQ(document.at("hit_tokens"), 64);
  EXPECT_EQ(document.at("copied_blocks"), 0);
}

TEST(program, lists_run_side_by_side) {
  const scratch_file json;
  const scratch_file csv;
  const scratch_file plot;
  const outcome o =
      run({"replay", "--requests", "300", "--policy", "lru,fifo", "--capacity-tokens", "50K,0.1M",
           "--json", json.path(), "--csv", csv.path(), "--plot", plot.path()});
  ASSERT_EQ(o.code, 0) << o.err;
  const auto document = nlohmann::json::parse(read_file(json.path()));
  ASSERT_EQ(document.size(), 4u);
  EXPECT_EQ(document[0].at("policy"), "lru");
  EXPECT_EQ(document[1].at("policy"), "fifo");
  EXPECT_EQ(document[0].at("capacity_tokens"), 50000);
  EXPECT_EQ(document[3].at("capacity_tokens"), 100000);
  EXPECT_NE(o.out.find("share of the way from lru to belady"), std::string::npos);
  const std::string lines = read_file(csv.path());
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 5);
  EXPECT_NE(read_file(plot.path()).find("</svg>"), std::string::npos);
}

TEST(program, requests_ahead_are_announced_and_bring_hits) {
  const scratch_file json;
  const std::vector<const char*> common = {
      "replay",   "--requests",      "1500",   "--capacity-tokens", "60K",
      "--policy", "lru,reuse_index", "--json", json.path()};
  std::vector<double> rates;
  for (const char* ahead : {"0", "64"}) {
    std::vector<const char*> arguments = common;
    arguments.insert(arguments.end(), {"--lookahead", ahead});
    const outcome o = run(arguments);
    ASSERT_EQ(o.code, 0) << o.err;
    const auto document = nlohmann::json::parse(read_file(json.path()));
    ASSERT_EQ(document.size(), 2u);
    EXPECT_EQ(document[0].at("lookahead"), std::stoi(ahead));
    EXPECT_EQ(document[0].at("us").contains("announce"), ahead[0] != '0');
    EXPECT_TRUE(document[0].at("lru_block_hit_rate").is_null());
    EXPECT_GT(document[1].at("lru_block_hit_rate"), 0);
    EXPECT_EQ(o.out.find("requests ahead") != std::string::npos, ahead[0] != '0');
    for (const auto& one : document) rates.push_back(one.at("block_hit_rate"));
  }
  EXPECT_GT(rates[2], 1.1 * rates[0]);
  EXPECT_GT(rates[3], rates[1]);
}

TEST(program, all_policies_run) {
  const scratch_file json;
  const outcome o = run({"replay", "--requests", "300", "--policy", "all", "--capacity-tokens",
                         "50K", "--verify", "--json", json.path()});
  ASSERT_EQ(o.code, 0) << o.err;
  const auto document = nlohmann::json::parse(read_file(json.path()));
  ASSERT_TRUE(document.is_array());
  ASSERT_GE(document.size(), 5u);
  for (const auto& one : document) {
    EXPECT_EQ(one.at("requests"), 300);
    EXPECT_EQ(one.at("wrong_bytes"), 0);
    const bool offline = one.at("policy") == "belady";
    EXPECT_EQ(one.at("requests_per_second").is_null(), offline);
    EXPECT_EQ(one.at("index_bytes_per_token").is_null(), offline);
    EXPECT_EQ(one.at("checked_bytes") == 0, offline);
  }
}

TEST(program, a_pool_that_holds_nothing_has_no_bytes_per_token) {
  const scratch_file trace(
      "{\"timestamp\": 0, \"input_length\": 600, \"output_length\": 1, \"hash_ids\": [1, 2]}\n");
  const scratch_file json;
  const outcome o =
      run({"replay", trace.path(), "--capacity-tokens", "512", "--json", json.path()});
  ASSERT_EQ(o.code, 0) << o.err;
  const auto document = nlohmann::json::parse(read_file(json.path()));
  EXPECT_EQ(document.at("refused_requests"), 1);
  EXPECT_TRUE(document.at("index_bytes_per_token").is_null());
}

}  // namespace
}  // namespace radixkv::cli
