// Request sequences for studying eviction: a trace file, or generated ones.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "radixkv/result.h"

namespace radixkv::study {

inline constexpr std::uint32_t id_tokens = 512;  // tokens that one id stands for

struct study_request {
  double seconds = 0;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t output_tokens = 0;
  std::uint32_t first_id = 0, ids = 0;  // slice of workload::ids
};

struct workload {
  std::string name;
  std::vector<study_request> requests;
  std::vector<std::uint32_t> ids;
};

// Reads a trace of one JSON object a line: timestamp (ms), input_length, output_length, hash_ids.
[[nodiscard]] result<workload> read_trace(const std::string& file);

// Names that `generate` knows.
[[nodiscard]] std::vector<std::string> generated_workloads();
// `requests` requests of a named kind; the same seed gives the same workload.
[[nodiscard]] workload generate(const std::string& name, std::uint32_t requests,
                                std::uint64_t seed);

}  // namespace radixkv::study
