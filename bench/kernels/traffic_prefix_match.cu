// Traffic of prefix_match per matched token, at 16-token blocks and a grid that fills an H100.

#include "bench/kernels/match_batch.h"
#include "bench/kernels/traffic_case.h"

namespace radixkv::bench {
namespace {

constexpr std::int32_t h100_multiprocessors = 132;

traffic_result run(const match_batch& batch) {
  const device_match match(batch, h100_multiprocessors);
  require(kernels::prefix_match(nullptr, match.arguments()), "prefix_match");
  traffic_result result;
  result.error = match.error();
  result.matched_tokens = static_cast<double>(match.matched_tokens());
  result.bytes_minimal = match.bytes_minimal();
  return result;
}

const traffic_registrar cases([](std::vector<traffic_case>& all) {
  const auto add = [&all](const char* name, auto make) {
    all.push_back({"prefix_match", name, "prefix_match_kernel", [make] { return run(make()); }});
  };
  add("long", [] { return long_prompts(); });
  add("mixed", [] { return mixed_prompts(); });
  add("one_1m", [] { return one_prompt(); });
  add("mid", [] { return mid_prompts(); });
  add("chat", [] { return chat_prompts(); });
  add("chat_uniform", [] { return chat_uniform_prompts(); });
  add("tiny", [] { return tiny_prompts(); });
});

}  // namespace
}  // namespace radixkv::bench
