// The program behind main: parses the command line and runs a command.
#pragma once

namespace radixkv::cli {

// Returns the exit code: 0, 1 for a failure, 2 for a command line that makes no sense. Errors are
// one line on standard error.
int run_program(int argc, const char* const* argv);

}  // namespace radixkv::cli
