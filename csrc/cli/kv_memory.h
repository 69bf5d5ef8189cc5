// The memory that a verifying replay writes and checks: small planes, and whoever runs plans on
// them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "radixkv/layout.h"
#include "radixkv/result.h"
#include "radixkv/step_plan.h"
#include "radixkv/types.h"

namespace radixkv::cli {

// A run of tokens inside one block.
struct token_range {
  block_id block = no_block;
  std::uint32_t first = 0;  // token of the block
  std::uint32_t tokens = 0;
};

// Bytes of a token in host order: plane 0, then each run of plane 1 (see replay_layout).
inline constexpr std::uint32_t replay_token_bytes = 16;

// Two small planes with what layouts can differ in: one NHD of 8 bytes per token, and one HND of
// two heads with 4 bytes each.
[[nodiscard]] memory_layout replay_layout(std::int64_t blocks, std::uint32_t block_tokens);

// Thread-safety: one call at a time, unless noted.
class kv_memory {
 public:
  virtual ~kv_memory() = default;
  // For people: "RAM", or the device's name.
  [[nodiscard]] virtual std::string name() const = 0;
  // Runs the plan; what it does is ordered before later calls.
  virtual status run(const step_plan& plan) = 0;
  // Writes replay_token_bytes per token of the ranges, which follow each other in `bytes`.
  virtual status write(std::span<const token_range> ranges, std::span<const std::byte> bytes) = 0;
  // Reads them back after everything that was written or run.
  virtual status read(std::span<const token_range> ranges, std::span<std::byte> bytes) = 0;
};

// Errors: out_of_memory, invalid_argument.
[[nodiscard]] result<std::unique_ptr<kv_memory>> make_host_memory(std::int64_t blocks,
                                                                  std::uint32_t block_tokens);
// Errors: device when there is none, or when this program was built without CUDA; out_of_memory.
[[nodiscard]] result<std::unique_ptr<kv_memory>> make_cuda_memory(std::int64_t blocks,
                                                                  std::uint32_t block_tokens);

}  // namespace radixkv::cli
