// Runs cases with Google Benchmark, and collects the median of their runs.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "bench/host/host_case.h"

namespace radixkv::bench {

struct case_result {
  const host_case* what = nullptr;
  double value = 0;  // median of the runs
  double least = 0;
  double most = 0;
  std::vector<std::pair<std::string, double>> parts;  // medians
  std::string error;                                  // not empty: there is no value
};

// Runs the cases whose names match the regular expression, in order; prints each as it ends. The
// cases must outlive the results.
std::vector<case_result> run_cases(const std::vector<host_case>& cases, const settings& how,
                                   const std::string& filter);

}  // namespace radixkv::bench
