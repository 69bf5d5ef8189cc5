#include "bench/kernels/bench_result.h"
#include "bench/kernels/dedup_batch.h"

namespace radixkv::bench {
namespace {

std::size_t workspace_bytes(const match_batch& batch) {
  std::size_t bytes = 0;
  require(kernels::batch_dedup_workspace_bytes(static_cast<std::uint32_t>(batch.cached.size()),
                                               batch.offsets.back(), match_block_tokens, bytes),
          "batch_dedup_workspace_bytes");
  return bytes;
}

}  // namespace

device_dedup::device_dedup(const match_batch& batch)
    : batch_(batch),
      match_(batch),
      representatives_(batch.cached.size()),
      shared_(batch.cached.size()),
      workspace_(workspace_bytes(batch)) {
  const kernels::prefix_match_arguments& m = match_.arguments();
  arguments_.hash = m.hash;
  arguments_.block_tokens = match_block_tokens;
  arguments_.tokens = m.tokens;
  arguments_.token_offsets = m.token_offsets;
  arguments_.prompt_count = m.prompt_count;
  arguments_.token_count = m.token_count;
  arguments_.matched_blocks = m.matched_blocks;
  arguments_.block_table = m.block_table;
  arguments_.representatives = representatives_.data();
  arguments_.shared_blocks = shared_.data();
  arguments_.workspace = workspace_.data();
  arguments_.workspace_bytes = workspace_.size();
  require(kernels::prefix_match(nullptr, m), "prefix_match");
  if (const std::string wrong = match_.error(); !wrong.empty()) fail(wrong);
}

std::string device_dedup::error() const {
  require(cudaDeviceSynchronize(), "batch_dedup");
  std::vector<std::int32_t> representatives(batch_.cached.size()), shared(representatives.size());
  for (std::size_t p = 0; p < representatives.size(); ++p) {
    representatives[p] = static_cast<std::int32_t>(p);
  }
  for (const shared_prefix& s : batch_.shared) {
    representatives[s.prompt] = static_cast<std::int32_t>(s.of);
    shared[s.prompt] = static_cast<std::int32_t>(s.tokens / match_block_tokens);
  }
  if (shared_.download() != shared) return "wrong numbers of shared blocks";
  if (representatives_.download() != representatives) return "wrong representatives";
  return {};
}

std::int64_t device_dedup::uncached_tokens() const {
  std::int64_t sum = 0;
  for (std::size_t p = 0; p < batch_.cached.size(); ++p) {
    const std::int64_t tokens = batch_.offsets[p + 1] - batch_.offsets[p];
    sum += tokens / match_block_tokens * match_block_tokens - batch_.cached[p];
  }
  return sum;
}

double device_dedup::bytes_minimal() const {
  return static_cast<double>(uncached_tokens()) * sizeof(std::uint32_t) +
         static_cast<double>(batch_.cached.size()) * (8 + 4 + 4 + 4);
}

}  // namespace radixkv::bench
