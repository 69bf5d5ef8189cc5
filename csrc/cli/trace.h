// A workload as plain data: requests in order of arrival, each prompt a list of segments.
//
// A segment is a run of tokens named by an id: the first `tokens` tokens of the endless sequence
// that belongs to the id. Equal ids give equal tokens, so two prompts share what their leading
// segments share. A recorded trace has one segment per block of its own block size; a generated one
// has one per message of a conversation.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace radixkv::cli {

struct segment {
  std::uint64_t id = 0;
  std::uint32_t tokens = 0;

  friend bool operator==(const segment&, const segment&) = default;
};

struct trace_request {
  double seconds = 0;               // since the start of the trace, never less than the one before
  std::uint32_t prompt_tokens = 0;  // the sum of its segments, at least 1
  std::uint32_t output_tokens = 0;
  std::uint32_t name_space = 0;  // index into trace::name_spaces
  std::uint32_t segments = 0;
  std::uint64_t first_segment = 0;
};

struct trace {
  std::string source;  // what a person would call it: the file, or the generator and its seed
  std::vector<trace_request> requests;
  std::vector<segment> segments;
  std::vector<std::string> name_spaces{std::string()};

  [[nodiscard]] std::span<const segment> segments_of(const trace_request& request) const noexcept {
    return {segments.data() + request.first_segment, request.segments};
  }
  [[nodiscard]] std::uint64_t prompt_tokens() const noexcept {
    std::uint64_t sum = 0;
    for (const trace_request& request : requests) sum += request.prompt_tokens;
    return sum;
  }
};

}  // namespace radixkv::cli
