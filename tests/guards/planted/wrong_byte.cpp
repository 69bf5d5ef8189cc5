// The radixkv program with memory in which one bit of one write flips: `replay --verify` must fail.
// Linked with --wrap, so that everything but the memory is the program's own.
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "csrc/cli/kv_memory.h"
#include "csrc/cli/program.h"

namespace {

using radixkv::cli::kv_memory;
using radixkv::cli::token_range;

class damaged_memory final : public kv_memory {
 public:
  explicit damaged_memory(std::unique_ptr<kv_memory> memory) : memory_(std::move(memory)) {}

  [[nodiscard]] std::string name() const override { return memory_->name(); }
  radixkv::status run(const radixkv::step_plan& plan) override { return memory_->run(plan); }
  radixkv::status write(std::span<const token_range> ranges,
                        std::span<const std::byte> bytes) override {
    std::vector<std::byte> copy(bytes.begin(), bytes.end());
    // The first token that is written first belongs to the first prompt's start: all share it.
    if (!damaged_ && !copy.empty()) {
      copy.front() ^= std::byte{1};
      damaged_ = true;
    }
    return memory_->write(ranges, copy);
  }
  radixkv::status read(std::span<const token_range> ranges, std::span<std::byte> bytes) override {
    return memory_->read(ranges, bytes);
  }

 private:
  std::unique_ptr<kv_memory> memory_;
  bool damaged_ = false;
};

}  // namespace

// radixkv::cli::make_host_memory(long, unsigned), as the linker knows it: NOLINTBEGIN
extern "C++" radixkv::result<std::unique_ptr<kv_memory>> real_make_host_memory(
    std::int64_t blocks,
    std::uint32_t block_tokens) asm("__real__ZN7radixkv3cli16make_host_memoryElj");
extern "C++" radixkv::result<std::unique_ptr<kv_memory>> wrapped_make_host_memory(
    std::int64_t blocks,
    std::uint32_t block_tokens) asm("__wrap__ZN7radixkv3cli16make_host_memoryElj");
// NOLINTEND

radixkv::result<std::unique_ptr<kv_memory>> wrapped_make_host_memory(std::int64_t blocks,
                                                                     std::uint32_t block_tokens) {
  auto memory = real_make_host_memory(blocks, block_tokens);
  if (!memory) return memory;
  return {std::make_unique<damaged_memory>(std::move(*memory))};
}

int main(int argc, char** argv) { return radixkv::cli::run_program(argc, argv); }
