// radixkv_traffic: bytes moved, coalescing, instructions, registers and spills of every kernel,
// without a GPU. Counts come from the CUDA simulator's report, registers from the compiler's.
//
//   radixkv_traffic --json FILE [--kernel NAME]
//
// Each case runs in a process of its own (radixkv_traffic --case N), because the simulator writes
// one report per process.

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/kernels/compiler_report.h"
#include "bench/kernels/traffic_case.h"

namespace radixkv::bench {
namespace {

std::vector<traffic_case>& registry() {
  static std::vector<traffic_case> all;
  return all;
}

// Runs one case in this process and prints what it found as one line of JSON.
int run_case(std::size_t index) {
  if (index >= traffic_cases().size()) {
    std::fprintf(stderr, "radixkv_traffic: case %zu, but there are %zu\n", index,
                 traffic_cases().size());
    return 2;
  }
  const traffic_result result = traffic_cases()[index].run();
  nlohmann::json line{{"bytes_minimal", result.bytes_minimal},
                      {"matched_tokens", result.matched_tokens},
                      {"deltas", result.deltas},
                      {"elements", result.elements},
                      {"error", result.error}};
  std::cout << line.dump() << '\n';
  return 0;
}

// Starts `program --case index` with the simulator reporting to `report`; its output, or an error.
std::string run_child(const std::string& program, std::size_t index, const std::string& report,
                      std::string& output) {
  int pipe_ends[2];
  if (pipe(pipe_ends) != 0) return "cannot create a pipe";
  const pid_t child = fork();
  if (child < 0) return "cannot start a process";
  if (child == 0) {
    setenv("CUDASIM_REPORT", report.c_str(), 1);
    setenv("CUDASIM_ASYNC", "lazy", 1);
    dup2(pipe_ends[1], STDOUT_FILENO);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    const std::string number = std::to_string(index);
    execl(program.c_str(), program.c_str(), "--case", number.c_str(), nullptr);
    _exit(127);
  }
  close(pipe_ends[1]);
  char buffer[4096];
  for (ssize_t n; (n = read(pipe_ends[0], buffer, sizeof buffer)) > 0;) {
    output.append(buffer, static_cast<std::size_t>(n));
  }
  close(pipe_ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return "its process failed";
  return {};
}

struct counts {
  double sectors = 0, ideal_sectors = 0, host_sectors = 0, instructions = 0, launches = 0;
  int registers = 0, spill_bytes = 0;
};

// Sums the kernels of `report` that belong to the case; a message if that is not possible.
std::string count(const nlohmann::json& report, const traffic_case& c,
                  const std::vector<compiled_kernel>& compiled, counts& sum) {
  for (const auto& [name, k] : report.at("kernels").items()) {
    if (name.find(c.entry) == std::string::npos) continue;
    if (!c.but.empty() && name.find(c.but) != std::string::npos) continue;
    const auto& load = k.at("global_load");
    const auto& store = k.at("global_store");
    sum.sectors += load.at("sectors").get<double>() + store.at("sectors").get<double>();
    sum.ideal_sectors +=
        load.at("ideal_sectors").get<double>() + store.at("ideal_sectors").get<double>();
    sum.host_sectors +=
        load.at("host_sectors").get<double>() + store.at("host_sectors").get<double>();
    sum.instructions += k.at("thread_instructions").get<double>();
    sum.launches += k.at("launches").get<double>();
    const compiled_kernel* found = find_compiled(compiled, name);
    if (found == nullptr) return "the compiler's report lacks kernel " + name;
    sum.registers = std::max(sum.registers, found->registers);
    sum.spill_bytes += found->spill_bytes;
  }
  if (sum.launches == 0) return "no kernel whose name contains " + c.entry + " ran";
  return {};
}

// One element of the output; a message in `error` if the case did not succeed.
nlohmann::json measure(const std::string& program, std::size_t index,
                       const std::vector<compiled_kernel>& compiled, std::string& error) {
  const traffic_case& c = traffic_cases()[index];
  const std::filesystem::path report =
      std::filesystem::temp_directory_path() /
      ("radixkv_traffic_" + std::to_string(getpid()) + "_" + std::to_string(index) + ".json");
  std::string output;
  error = run_child(program, index, report, output);
  if (!error.empty()) return {};
  std::ifstream file(report);
  if (!file) {
    error = "no simulator wrote a report: run this through `./dev bench traffic`";
    return {};
  }
  const nlohmann::json simulated = nlohmann::json::parse(file, nullptr, false);
  const nlohmann::json result = nlohmann::json::parse(output, nullptr, false);
  std::filesystem::remove(report);
  if (simulated.is_discarded() || result.is_discarded()) {
    error = "its report is not JSON";
    return {};
  }
  if (error = result.at("error"); !error.empty()) return {};
  counts sum;
  if (error = count(simulated, c, compiled, sum); !error.empty()) return {};

  // Of device memory; what goes over the bus is another limit.
  const double bytes = (sum.sectors - sum.host_sectors) * 32;
  const double minimal = result.at("bytes_minimal");
  nlohmann::json line{{"kernel", c.kernel},
                      {"case", c.name},
                      {"bytes_moved", bytes},
                      {"host_bytes_moved", sum.host_sectors * 32},
                      {"bytes_minimal", minimal},
                      {"traffic_ratio", minimal > 0 ? bytes / minimal : 0},
                      {"coalescing", sum.sectors > 0 ? sum.ideal_sectors / sum.sectors : 0},
                      {"thread_instructions", sum.instructions},
                      {"launches", sum.launches},
                      {"registers", sum.registers},
                      {"spills", sum.spill_bytes}};
  if (const double tokens = result.at("matched_tokens"); tokens > 0) {
    line["bytes_per_token"] = bytes / tokens;
    line["instructions_per_token"] = sum.instructions / tokens;
  }
  if (const double deltas = result.at("deltas"); deltas > 0) {
    line["bytes_per_delta"] = bytes / deltas;
    line["host_bytes_per_delta"] = sum.host_sectors * 32 / deltas;
  }
  if (const double elements = result.at("elements"); elements > 0) {
    line["instructions_per_element"] = sum.instructions / elements;
  }
  return line;
}

int run_all(const std::string& program, const std::string& json_path, const std::string& kernel) {
  const std::vector<compiled_kernel> compiled = read_compiler_report(RADIXKV_COMPILER_REPORTS);
  nlohmann::json all = nlohmann::json::array();
  int failures = 0;
  std::printf("%-16s %-24s %14s %8s %8s %16s %5s %6s\n", "kernel", "case", "bytes moved", "ratio",
              "coalesc.", "instructions", "regs", "spills");
  for (std::size_t i = 0; i < traffic_cases().size(); ++i) {
    const traffic_case& c = traffic_cases()[i];
    if (!kernel.empty() && c.kernel != kernel) continue;
    std::string error;
    nlohmann::json line = measure(program, i, compiled, error);
    if (!error.empty()) {
      ++failures;
      std::fprintf(stderr, "radixkv_traffic: %s, case %s: %s\n", c.kernel.c_str(), c.name.c_str(),
                   error.c_str());
      continue;
    }
    std::printf("%-16s %-24s %14.0f %8.4f %8.4f %16.0f %5d %6d", c.kernel.c_str(), c.name.c_str(),
                line["bytes_moved"].get<double>(), line["traffic_ratio"].get<double>(),
                line["coalescing"].get<double>(), line["thread_instructions"].get<double>(),
                line["registers"].get<int>(), line["spills"].get<int>());
    if (line.contains("bytes_per_token")) {
      std::printf("  %.2f B and %.1f instructions a token", line["bytes_per_token"].get<double>(),
                  line["instructions_per_token"].get<double>());
    }
    if (line.contains("bytes_per_delta")) {
      std::printf("  %.1f B and %.1f from the host a delta", line["bytes_per_delta"].get<double>(),
                  line["host_bytes_per_delta"].get<double>());
    }
    if (line.contains("instructions_per_element")) {
      std::printf("  %.1f instructions an element", line["instructions_per_element"].get<double>());
    }
    std::printf("\n");
    std::fflush(stdout);
    all.push_back(std::move(line));
  }
  if (all.empty()) {
    std::fprintf(stderr, "radixkv_traffic: no case was measured\n");
    return 1;
  }
  if (!json_path.empty()) {
    std::ofstream out(json_path);
    out << all.dump(2) << '\n';
    if (!out.flush()) {
      std::fprintf(stderr, "radixkv_traffic: cannot write %s\n", json_path.c_str());
      return 1;
    }
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace

traffic_registrar::traffic_registrar(void (*add)(std::vector<traffic_case>&)) { add(registry()); }

const std::vector<traffic_case>& traffic_cases() { return registry(); }

}  // namespace radixkv::bench

int main(int argc, char** argv) {
  CLI::App app{"Memory traffic and instructions of radixkv's kernels, on the CUDA simulator"};
  std::string json, kernel;
  long long index = -1;
  app.add_option("--json", json, "write an array of objects, one a case, to this file");
  app.add_option("--kernel", kernel, "only the cases of this kernel");
  app.add_option("--case", index, "run one case in this process (what the program starts itself)");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    app.exit(e);
    return 2;
  }
  if (index >= 0) return radixkv::bench::run_case(static_cast<std::size_t>(index));
  // The cases take minutes, and the file is written behind them.
  if (!json.empty() && !std::ofstream(json, std::ios::app)) {
    std::fprintf(stderr, "radixkv_traffic: cannot write %s\n", json.c_str());
    return 1;
  }
  return radixkv::bench::run_all(std::filesystem::read_symlink("/proc/self/exe"), json, kernel);
}
