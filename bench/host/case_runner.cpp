#include "bench/host/case_runner.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include <benchmark/benchmark.h>

#include "bench/host/core_share.h"
#include "bench/host/stopwatch.h"

namespace radixkv::bench {

namespace {

constexpr const char* value_counter = "value";

// Prints one line a case and keeps the figures.
class table_reporter final : public benchmark::BenchmarkReporter {
 public:
  explicit table_reporter(const std::vector<host_case>& cases) : cases_(cases) {}

  bool ReportContext(const Context&) override {
    std::printf("%-32s %10s  %21s  %8s  %s\n", "case", "median", "least … most", "to reach",
                "unit");
    return true;
  }

  void ReportRuns(const std::vector<Run>& runs) override {
    case_result r;
    std::vector<double> values;
    std::map<std::string, std::vector<double>> parts;
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration) continue;
      if (!r.what) r.what = find(run.run_name.function_name);
      if (run.error_occurred) {
        r.error = run.error_message;
        continue;
      }
      for (const auto& [name, counter] : run.counters) {
        (name == value_counter ? values : parts[name]).push_back(counter.value);
      }
    }
    if (!r.what) return;
    if (values.empty() && r.error.empty()) r.error = "no run";
    if (r.error.empty()) {
      r.value = median(values);
      r.least = *std::min_element(values.begin(), values.end());
      r.most = *std::max_element(values.begin(), values.end());
      for (auto& [name, all] : parts) r.parts.emplace_back(name, median(all));
    }
    print(r);
    results.push_back(std::move(r));
  }

  std::vector<case_result> results;

 private:
  const host_case* find(const std::string& name) const {
    const auto it = std::find_if(cases_.begin(), cases_.end(),
                                 [&](const host_case& c) { return c.name == name; });
    return it == cases_.end() ? nullptr : &*it;
  }

  static void print(const case_result& r) {
    const host_case& c = *r.what;
    if (!r.error.empty()) {
      std::printf("%-32s FAILED: %s\n", c.name.c_str(), r.error.c_str());
    } else {
      std::printf("%-32s %10.3f  %9.3f … %9.3f  %8.2f  %s%s\n", c.name.c_str(), r.value, r.least,
                  r.most, c.limit, c.unit.c_str(), r.value > c.limit ? "   (missed)" : "");
      for (const auto& [name, value] : r.parts) {
        std::printf("    %-44s %10.3f\n", name.c_str(), value);
      }
    }
    std::fflush(stdout);
  }

  const std::vector<host_case>& cases_;
};

void measure(const runner& run, benchmark::State& state) {
  (void)core_share::of_thread().take();
  sample s;
  state.SetIterationTime(time_of([&] { s = run(); }) * 1e-9);
  state.counters[value_counter] = s.value;
  for (const auto& [name, value] : s.parts) state.counters[name] = value;
  const core_times core = core_share::of_thread().take();
  if (core.whole + core.shared == 0) return;
  state.counters["timed while the core was shared, %"] =
      100 * static_cast<double>(core.shared) / static_cast<double>(core.whole + core.shared);
  state.counters["waited for the core, s"] = core.waited;
}

}  // namespace

std::vector<case_result> run_cases(const std::vector<host_case>& cases, const settings& how,
                                   const std::string& filter) {
  (void)nanoseconds_per_tick();
  if (how.small()) core_share::wait_at_most(0);  // no figure means anything
  (void)core_share::of_thread();
  // Trees are large: only those of the running case exist.
  const host_case* prepared = nullptr;
  runner run;
  for (const host_case& c : cases) {
    benchmark::RegisterBenchmark(c.name.c_str(),
                                 [&](benchmark::State& state) {
                                   try {
                                     if (prepared != &c) {
                                       run = nullptr;
                                       prepared = nullptr;
                                       run = c.prepare(how);
                                       prepared = &c;
                                     }
                                     for (auto iteration : state) {
                                       (void)iteration;
                                       measure(run, state);
                                     }
                                   } catch (const std::exception& e) {
                                     run = nullptr;
                                     prepared = nullptr;
                                     state.SkipWithError(e.what());
                                   }
                                 })
        ->UseManualTime()
        ->Iterations(1)
        ->Repetitions(c.runs);
  }
  table_reporter reporter(cases);
  benchmark::RunSpecifiedBenchmarks(&reporter, filter);
  run = nullptr;
  benchmark::ClearRegisteredBenchmarks();
  return std::move(reporter.results);
}

}  // namespace radixkv::bench
