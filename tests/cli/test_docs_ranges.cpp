// docs/profiling.md names the NVTX ranges that the device side opens, all but those of creation,
// destruction and synchronisation, and no others: profilers are given these names on command lines.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>

#include <gtest/gtest.h>

namespace {

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::set<std::string> all_matches(const std::string& text, const std::regex& pattern) {
  std::set<std::string> found;
  for (std::sregex_iterator it(text.begin(), text.end(), pattern), end; it != end; ++it) {
    found.insert((*it)[1]);
  }
  return found;
}

TEST(docs_ranges, are_those_of_the_sources) {
  const std::filesystem::path root = RADIXKV_SOURCE_DIR;
  std::set<std::string> opened;
  for (const auto& file : std::filesystem::directory_iterator(root / "csrc/cuda")) {
    opened.merge(
        all_matches(read_file(file.path()), std::regex(R"x(RADIXKV_RANGE\("(\w+::\w+)"\))x")));
  }
  ASSERT_GT(opened.size(), 10u);
  const std::string doc = read_file(root / "docs/profiling.md");
  const std::set<std::string> named = all_matches(doc, std::regex(R"(\b(\w+::\w+)\b)"));
  const std::regex left_out(".*::(create|borrow|make_graph_plan|destroy|synchronize)");
  for (const std::string& range : opened) {
    if (std::regex_match(range, left_out)) continue;
    EXPECT_TRUE(named.count(range)) << "docs/profiling.md does not name the range " << range;
  }
  for (const std::string& name : named) {
    if (name.starts_with("radixkv::")) continue;
    EXPECT_TRUE(opened.count(name))
        << "docs/profiling.md names a range that nothing opens: " << name;
  }
  // What profilers are told to look for: NAME@DOMAIN for nsys, DOMAIN@NAME/ for ncu.
  const std::regex filter("(?:nvtx-capture='|nvtx-include 'radixkv@)([^'@/]*)");
  const std::set<std::string> filters = all_matches(doc, filter);
  EXPECT_EQ(filters.size(), 1u);
  for (const std::string& name : filters) {
    EXPECT_TRUE(opened.count(name)) << "a profiler's filter names no range: " << name;
  }
}

}  // namespace
