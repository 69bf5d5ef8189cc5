#include "csrc/cli/kv_memory.h"

#include <cstring>

#include "radixkv/host_executor.h"

namespace radixkv::cli {
namespace {

constexpr std::uint64_t plane_align = 256;

class host_memory final : public kv_memory {
 public:
  explicit host_memory(host_executor executor) : executor_(std::move(executor)) {}

  [[nodiscard]] std::string name() const override { return "host memory"; }
  status run(const step_plan& plan) override { return executor_.run(plan); }
  status write(std::span<const token_range> ranges, std::span<const std::byte> bytes) override {
    const std::byte* from = bytes.data();
    for (const token_range& r : ranges) {
      // Tokens of a run lie one after the other, so one lookup serves the whole range.
      std::byte* a = executor_.token_bytes(0, r.block, 0, r.first).data();
      std::byte* b = executor_.token_bytes(1, r.block, 0, r.first).data();
      std::byte* c = executor_.token_bytes(1, r.block, 1, r.first).data();
      for (std::uint32_t t = 0; t < r.tokens; ++t, from += replay_token_bytes) {
        std::memcpy(a + 8 * std::size_t{t}, from, 8);
        std::memcpy(b + 4 * std::size_t{t}, from + 8, 4);
        std::memcpy(c + 4 * std::size_t{t}, from + 12, 4);
      }
    }
    return {};
  }
  status read(std::span<const token_range> ranges, std::span<std::byte> bytes) override {
    std::byte* to = bytes.data();
    for (const token_range& r : ranges) {
      const std::byte* a = executor_.token_bytes(0, r.block, 0, r.first).data();
      const std::byte* b = executor_.token_bytes(1, r.block, 0, r.first).data();
      const std::byte* c = executor_.token_bytes(1, r.block, 1, r.first).data();
      for (std::uint32_t t = 0; t < r.tokens; ++t, to += replay_token_bytes) {
        std::memcpy(to, a + 8 * std::size_t{t}, 8);
        std::memcpy(to + 8, b + 4 * std::size_t{t}, 4);
        std::memcpy(to + 12, c + 4 * std::size_t{t}, 4);
      }
    }
    return {};
  }

 private:
  host_executor executor_;
};

}  // namespace

memory_layout replay_layout(std::int64_t blocks, std::uint32_t block_tokens) {
  memory_layout layout;
  layout.blocks = blocks;
  layout.block_tokens = block_tokens;
  const auto tokens = static_cast<std::int64_t>(block_tokens);
  plane_layout nhd;
  nhd.block_stride = 8 * tokens;
  nhd.inner_stride = 8 * tokens;
  nhd.bytes_per_token = 8;
  plane_layout hnd;
  const std::uint64_t end = static_cast<std::uint64_t>(blocks) * 8 * block_tokens;
  hnd.offset = (end + plane_align - 1) / plane_align * plane_align;
  hnd.block_stride = 8 * tokens;
  hnd.inner_stride = 4 * tokens;
  hnd.inner_count = 2;
  hnd.bytes_per_token = 4;
  layout.planes = {nhd, hnd};
  return layout;
}

result<std::unique_ptr<kv_memory>> make_host_memory(std::int64_t blocks,
                                                    std::uint32_t block_tokens) {
  result<host_executor> executor = host_executor::create(replay_layout(blocks, block_tokens));
  if (!executor) return executor.error();
  return std::unique_ptr<kv_memory>(std::make_unique<host_memory>(std::move(*executor)));
}

}  // namespace radixkv::cli
