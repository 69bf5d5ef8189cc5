// What one line of `./dev bench traffic` measures, and how a kernel's cases are registered.
//
// A file of cases defines one `registrar` at namespace scope and is listed in CMakeLists.txt:
//
//     namespace radixkv::bench {
//     static const traffic_registrar cases([](std::vector<traffic_case>& all) {
//       all.push_back({"block_copy", "nhd_full", "block_copy_kernel", [] { …; return
//       traffic_result{…}; }});
//     });
//     }
//
// Registering must not call CUDA. Each case runs in a process of its own, so that the simulator's
// report holds that case alone.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace radixkv::bench {

struct traffic_result {
  // Bytes that any implementation must read and write: the denominator of traffic_ratio.
  double bytes_minimal = 0;
  // prefix_match only: adds bytes_per_token and instructions_per_token (per matched token).
  double matched_tokens = 0;
  // Index updates only: adds bytes_per_delta.
  double deltas = 0;
  // Top-k only: adds instructions_per_element.
  double elements = 0;
  // Why the case failed (a wrong result, a CUDA error); empty: it is good.
  std::string error;
};

struct traffic_case {
  std::string kernel;  // member `kernel` of the output
  std::string name;    // member `case`
  // Counted are the kernels whose (demangled) name contains this; what set-up launches is not.
  std::string entry;  // empty: all kernels
  // Sets up, launches the measured kernels, synchronises, checks the result. Host code and
  // cudaMemcpy for set-up: neither is counted.
  std::function<traffic_result()> run;
  // Of them, those whose name contains this are not counted; empty: all are.
  std::string but = {};
};

class traffic_registrar {
 public:
  explicit traffic_registrar(void (*add)(std::vector<traffic_case>&));
};

// Every registered case, in order of registration within a file.
const std::vector<traffic_case>& traffic_cases();

}  // namespace radixkv::bench
