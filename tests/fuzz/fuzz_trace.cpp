// The trace reader: any bytes are refused with a message of one line, or give requests whose
// segments add up.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "csrc/cli/trace_reader.h"
#include "tests/fuzz/fuzz_check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const std::uint32_t block_tokens : {1u, 512u}) {
    const auto parsed = radixkv::cli::parse_trace(text, "trace", {.block_tokens = block_tokens});
    if (!parsed) {
      FUZZ_CHECK(!parsed.error().message.empty());
      FUZZ_CHECK(parsed.error().message.find('\n') == std::string::npos);
      continue;
    }
    double before = 0;
    for (const radixkv::cli::trace_request& request : parsed->requests) {
      FUZZ_CHECK(request.prompt_tokens > 0);
      FUZZ_CHECK(request.seconds >= before);
      before = request.seconds;
      FUZZ_CHECK(request.name_space < parsed->name_spaces.size());
      FUZZ_CHECK(request.first_segment + request.segments <= parsed->segments.size());
      std::uint64_t sum = 0;
      for (const radixkv::cli::segment& s : parsed->segments_of(request)) sum += s.tokens;
      FUZZ_CHECK(sum == request.prompt_tokens);
    }
  }
  return 0;
}
