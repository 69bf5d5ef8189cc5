// The load of `radixkv soak`: threads that use every feature of one cache at once.
//
// Blocks are given away and filled in one order: planning, running the plan and writing what a pass
// computes happen under one lock, as on an engine's stream. Everything else runs beside it.
#pragma once

#include <cstdint>
#include <string>

#include "radixkv/options.h"
#include "radixkv/result.h"

namespace radixkv::cli {

struct soak_config {
  double seconds = 60;
  unsigned threads = 2;
  bool cuda = false;
  bool verify = false;  // read back and compare every byte that is served or was written
  std::string policy = cache_options().policy;
  std::uint64_t seed = 1;
};

struct soak_result {
  std::int64_t operations = 0;  // calls of the cache and its sequences
  std::int64_t faults_injected =
      0;  // refused requests, plans that were not run, cancelled requests
  std::int64_t wrong_bytes = 0;
  std::int64_t checked_bytes = 0;
  std::int64_t leaked_blocks = 0;    // not free after everything was closed and cleared
  std::int64_t rss_start_bytes = 0;  // resident memory after a tenth of the time
  std::int64_t rss_end_bytes = 0;
  std::int64_t rss_limit_bytes = 0;  // beyond it the memory has grown; 0: it cannot be told
  std::string violation;             // the first broken promise; empty: none
};

// Errors: the memory's (device, out_of_memory) and the cache's.
[[nodiscard]] result<soak_result> soak(const soak_config& config);

}  // namespace radixkv::cli
