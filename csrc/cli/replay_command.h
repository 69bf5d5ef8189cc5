// The command `radixkv replay`: its options, checked, and what it does with them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "csrc/cli/replay_driver.h"
#include "csrc/cli/trace_generator.h"
#include "radixkv/options.h"
#include "radixkv/result.h"

namespace radixkv::cli {

// Options as they were typed.
struct replay_arguments {
  std::optional<std::string> trace;  // none: generate
  std::string capacity_tokens = "3M";
  std::string block_tokens = "16";
  std::string policy = cache_options{}.policy;
  std::string threads = "1";
  std::optional<std::string> limit;
  std::string lookahead = "0";
  std::string executor = "host";
  std::string seed = "1";
  std::string requests = "4000";
  std::string trace_block_tokens = "512";
  std::optional<std::string> json;
  std::optional<std::string> csv;
  std::optional<std::string> plot;
  bool verify = false;
};

// What was asked for, once it is known to make sense.
struct replay_plan {
  std::vector<replay_config> runs;  // every policy at every capacity
  std::uint64_t limit = UINT64_MAX;
  generator_options generator;
  std::uint32_t trace_block_tokens = 512;
};

// Errors: invalid_argument or not_found, naming the option, its value and its limit; io: a file
// that could not be written in the end.
[[nodiscard]] result<replay_plan> check(const replay_arguments& arguments);

// The names that --policy takes in this build, in the order of --policy all.
[[nodiscard]] std::vector<std::string> policy_names();

// Runs the command and returns the exit code: 0; 1 after a failure, wrong bytes included; 2 for
// options that make no sense. Prints the report, or one line on standard error.
int run_replay(const replay_arguments& arguments);

}  // namespace radixkv::cli
