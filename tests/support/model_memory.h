// KV memory of a cache under test, moved by a host executor. The bytes of a token are a hash of all
// tokens up to it and of its namespace, so a wrong block, a wrong order or a missing copy shows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "radixkv/host_executor.h"
#include "radixkv/options.h"

namespace radixkv::testing {

class model_memory {
 public:
  static constexpr std::int32_t batch_rows = 4;

  // One plane of 8 bytes per token; mixed: a second one with two runs (heads) of 4 bytes.
  model_memory(const cache_options& options, bool mixed);

  // Hash of a path lengthened by a token. A path begins with its namespace's number + 1.
  [[nodiscard]] static std::uint64_t fold(std::uint64_t h, token_id t) noexcept {
    return (h ^ (t + 1)) * 0x9e3779b97f4a7c15ull + 0x632be59bd9b4e019ull;
  }

  // hashes[i] belongs to position first + i of a sequence with this block table.
  void write(std::span<const block_id> table, std::int64_t first,
             std::span<const std::uint64_t> hashes);
  [[nodiscard]] bool holds(std::span<const block_id> table, std::int64_t first,
                           std::span<const std::uint64_t> hashes) const;

  // Logits of a prompt, known by its hash: rows of the batch, and of the store.
  void write_batch(std::int32_t row, std::uint64_t hash);
  [[nodiscard]] bool batch_holds(std::int32_t row, std::uint64_t hash) const;
  [[nodiscard]] bool store_holds(logits_slot slot, std::uint64_t hash) const;

  // Runs the plan. fail_at ≥ 0: that operation fails.
  status run(const step_plan& plan, std::int64_t fail_at = -1);

 private:
  std::uint32_t block_tokens_;
  bool mixed_;
  host_executor executor_;
  std::vector<float> batch_;
};

}  // namespace radixkv::testing
