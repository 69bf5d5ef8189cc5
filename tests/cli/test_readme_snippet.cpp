// The README's example is the marked part of examples/readme_snippet.cpp, letter by letter.
#include <fstream>
#include <iterator>
#include <string>

#include <gtest/gtest.h>

namespace {

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(readme_snippet, is_what_the_tests_compile) {
  const std::string program = read_file(RADIXKV_SOURCE_DIR "/examples/readme_snippet.cpp");
  const std::string readme = read_file(RADIXKV_SOURCE_DIR "/README.md");
  const std::string mark = "// [readme]\n";
  const std::size_t first = program.find(mark);
  ASSERT_NE(first, std::string::npos);
  const std::size_t begin = first + mark.size();
  const std::size_t end = program.find(mark, begin);
  ASSERT_NE(end, std::string::npos);
  const std::string snippet = program.substr(begin, end - begin);
  ASSERT_GT(snippet.size(), 300u);
  EXPECT_NE(readme.find("```cpp\n" + snippet + "```"), std::string::npos)
      << "README.md does not hold these lines:\n"
      << snippet;
}

}  // namespace
