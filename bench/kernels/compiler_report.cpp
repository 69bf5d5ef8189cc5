#include "bench/kernels/compiler_report.h"

#include <cstdlib>
#include <fstream>
#include <regex>
#include <sstream>

#include <cxxabi.h>

namespace radixkv::bench {
namespace {

std::string demangled(const std::string& name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string result = status == 0 ? text : name;
  std::free(text);
  return result;
}

}  // namespace

std::vector<compiled_kernel> read_compiler_report(const std::string& paths) {
  static const std::regex entry("Compiling entry function '([^']+)'");
  static const std::regex spills("([0-9]+) bytes spill stores, ([0-9]+) bytes spill loads");
  static const std::regex registers("Used ([0-9]+) registers");
  std::vector<compiled_kernel> all;
  std::stringstream list(paths);
  for (std::string path; std::getline(list, path, ':');) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
      std::smatch found;
      if (std::regex_search(line, found, entry)) {
        all.push_back({demangled(found[1]), 0, 0});
      } else if (all.empty()) {
        continue;
      } else if (std::regex_search(line, found, spills)) {
        all.back().spill_bytes += std::stoi(found[1]) + std::stoi(found[2]);
      } else if (std::regex_search(line, found, registers)) {
        all.back().registers = std::stoi(found[1]);
      }
    }
  }
  return all;
}

const compiled_kernel* find_compiled(const std::vector<compiled_kernel>& all,
                                     const std::string& name) {
  for (const compiled_kernel& k : all) {
    if (k.name == name) return &k;
  }
  return nullptr;
}

}  // namespace radixkv::bench
