// Registers and spills of kernels, from what `ptxas -v` printed when they were compiled.
#pragma once

#include <string>
#include <vector>

namespace radixkv::bench {

struct compiled_kernel {
  std::string name;  // demangled
  int registers = 0;
  int spill_bytes = 0;  // stores and loads
};

// Reads the reports named by `paths` (separated by ':'); a file that cannot be read adds nothing.
std::vector<compiled_kernel> read_compiler_report(const std::string& paths);

// The kernel of that (demangled) name, or null.
const compiled_kernel* find_compiled(const std::vector<compiled_kernel>& all,
                                     const std::string& name);

}  // namespace radixkv::bench
