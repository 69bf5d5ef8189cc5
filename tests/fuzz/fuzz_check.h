// What a fuzz target asserts, in every build type.
#pragma once

#include <cstdio>
#include <cstdlib>

// Aborts, which the fuzzer records as a finding, with the condition and its place.
#define FUZZ_CHECK(condition)                                                             \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                       \
    }                                                                                     \
  } while (false)
