// radixkv_bench_host: how fast the index and the cache are on this machine, each case held against
// a limit. docs/benchmarks.md explains the cases and keeps figures.
#include <cstdio>
#include <fstream>
#include <map>
#include <regex>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "bench/host/case_runner.h"
#include "bench/host/machine.h"

namespace radixkv::bench {
namespace {

std::string describe(const case_result& r) {
  std::string text = r.what->compared_with + "; through " + r.what->through;
  for (const auto& [name, value] : r.parts) {
    char figure[64];
    std::snprintf(figure, sizeof figure, " %.4g", value);
    text += "; " + name + figure;
  }
  return text;
}

bool write_json(const std::string& path, const std::vector<case_result>& results) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const case_result& r : results) {
    nlohmann::ordered_json entry = {{"case", r.what->name},
                                    {"value", r.value},
                                    {"unit", r.what->unit},
                                    {"limit", r.what->limit}};
    entry["compared_with"] = describe(r);
    if (!r.error.empty()) {
      entry["value"] = nullptr;
      entry["error"] = r.error;
    }
    all.push_back(std::move(entry));
  }
  std::ofstream out(path);
  out << all.dump(2) << '\n';
  return out.good();
}

int run(int argc, char** argv) {
  settings how;
  std::string filter = ".";
  std::string json;
  bool list = false;
  CLI::App app{"Benchmarks of radixkv's host side"};
  app.add_option("--filter", filter, "run the cases whose names match this regular expression");
  app.add_option("--json", json, "write case, value, unit and limit of every case to this file");
  app.add_option("--trace", how.trace,
                 "recorded trace for the memory cases; without it, generated conversations")
      ->check(CLI::ExistingFile);
  app.add_option("--scale", how.size,
                 "full, or small: see that every case runs, figures mean little")
      ->transform(CLI::CheckedTransformer(
                      std::map<std::string, scale>{{"small", scale::small}, {"full", scale::full}})
                      .description("small|full"));
  app.add_flag("--list", list, "print the names of the cases");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    app.exit(e);
    return 2;
  }

  std::vector<host_case> cases;
  add_match_cases(cases);
  add_bushy_cases(cases);
  add_commit_cases(cases);
  add_evict_cases(cases);
  add_index_cases(cases);
  add_memory_cases(cases);
  add_reader_cases(cases);
  add_scale_cases(cases);
  if (list) {
    for (const host_case& c : cases) std::printf("%s\n", c.name.c_str());
    return 0;
  }
  try {
    (void)std::regex(filter);
  } catch (const std::regex_error& e) {
    std::fprintf(stderr, "--filter %s: %s\n", filter.c_str(), e.what());
    return 2;
  }
  // The cases take minutes, and the file is written behind them.
  if (!json.empty() && !std::ofstream(json, std::ios::app)) {
    std::fprintf(stderr, "cannot write %s\n", json.c_str());
    return 1;
  }
  for (const std::string& line : describe_machine()) std::printf("%s\n", line.c_str());
  if (slow_build()) {
    std::printf("WARNING: a build with assertions or without optimisation; figures mean nothing\n");
  }
  if (how.small()) std::printf("WARNING: small trees; figures mean nothing\n");
  std::printf("\n");
  const std::vector<case_result> results = run_cases(cases, how, filter);
  bool failed = results.empty();
  for (const case_result& r : results) failed |= !r.error.empty();
  if (results.empty()) std::fprintf(stderr, "no case matches %s\n", filter.c_str());
  if (!json.empty() && !write_json(json, results)) {
    std::fprintf(stderr, "cannot write %s\n", json.c_str());
    return 1;
  }
  return failed ? 1 : 0;
}

}  // namespace
}  // namespace radixkv::bench

int main(int argc, char** argv) { return radixkv::bench::run(argc, argv); }
