// The radixkv program.
#include "csrc/cli/program.h"

int main(int argc, char** argv) { return radixkv::cli::run_program(argc, argv); }
