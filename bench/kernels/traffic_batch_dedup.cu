// Traffic of batch_dedup, CUB's kernels included, at 16-token blocks.

#include "bench/kernels/dedup_batch.h"
#include "bench/kernels/traffic_case.h"

namespace radixkv::bench {
namespace {

traffic_result run(const match_batch& batch) {
  const device_dedup dedup(batch);
  require(kernels::batch_dedup(nullptr, dedup.arguments()), "batch_dedup");
  traffic_result result;
  result.error = dedup.error();
  result.bytes_minimal = dedup.bytes_minimal();
  return result;
}

const traffic_registrar cases([](std::vector<traffic_case>& all) {
  const auto add = [&all](const char* name, auto make) {
    all.push_back({"batch_dedup", name, "", [make] { return run(make()); }, "prefix_match_kernel"});
  };
  add("chat", [] { return chat_prompts(); });
  add("burst", [] { return burst_prompts(); });
  add("tiny", [] { return tiny_prompts(); });
});

}  // namespace
}  // namespace radixkv::bench
