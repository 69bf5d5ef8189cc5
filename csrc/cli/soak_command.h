// The command `radixkv soak`: a long mixed load with injected faults, and what it found.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "csrc/cli/soak_load.h"
#include "radixkv/result.h"

namespace radixkv::cli {

// Options as they were typed.
struct soak_arguments {
  std::string minutes = "1";
  std::string executor = "host";
  std::string policy = cache_options().policy;
  std::string threads = "2";
  std::string seed = "1";
  std::optional<std::string> json;
  bool verify = false;
};

// Errors: invalid_argument or not_found, naming the option, its value and its limit; io: a file
// that could not be written in the end.
[[nodiscard]] result<soak_config> check(const soak_arguments& arguments);

// Runs the command and returns the exit code: 0; 1 after a wrong byte, a leaked block, resident
// memory that grew after the warm-up, a violated invariant or another failure; 2 for options that
// make no sense.
int run_soak(const soak_arguments& arguments);

}  // namespace radixkv::cli
