#include "csrc/cli/verify_engine.h"

#include <bit>
#include <cstring>

#include "csrc/cli/mixed.h"

namespace radixkv::cli {

verify_engine::verify_engine(std::unique_ptr<kv_memory> memory, std::uint32_t block_tokens,
                             bool check)
    : memory_(std::move(memory)), block_tokens_(block_tokens), check_(check) {}

status verify_engine::step(std::string_view name_space, std::span<const token_id> prompt,
                           std::int64_t cached, std::span<const block_id> table,
                           const step_plan& plan) {
  if (!plan.empty()) {
    if (status s = memory_->run(plan); !s) return s;
  }
  if (!check_) return {};
  compute(name_space, prompt);

  const std::size_t served_bytes = static_cast<std::size_t>(cached) * replay_token_bytes;
  served_.assign(served_bytes, std::byte{0});
  split(0, cached, table);
  if (status s = memory_->read(ranges_, served_); !s) return s;
  counts_.checked_bytes += served_bytes;
  if (served_bytes > 0 && std::memcmp(served_.data(), computed_.data(), served_bytes) != 0) {
    for (std::size_t i = 0; i < served_bytes; ++i)
      counts_.wrong_bytes += served_[i] != computed_[i];
  }

  split(cached, static_cast<std::int64_t>(prompt.size()), table);
  return memory_->write(ranges_, std::span<const std::byte>(computed_).subspan(served_bytes));
}

// A rolling hash: for one past, each next token is a bijection, so pasts that differ stay different
// but for collisions of 64 bits.
void verify_engine::compute(std::string_view name_space, std::span<const token_id> prompt) {
  computed_.resize(prompt.size() * replay_token_bytes);
  std::uint64_t state = 0x9e3779b97f4a7c15u;
  for (const char c : name_space) state = mixed(state ^ static_cast<unsigned char>(c));
  std::byte* out = computed_.data();
  for (const token_id token : prompt) {
    state = (std::rotl(state, 23) ^ token) * 0x9fb21c651e98df25u;
    const std::uint64_t values[2] = {state, mixed(state)};
    std::memcpy(out, values, sizeof values);
    out += replay_token_bytes;
  }
}

// Tokens [first, end) of a sequence as ranges inside blocks.
void verify_engine::split(std::int64_t first, std::int64_t end, std::span<const block_id> table) {
  ranges_.clear();
  while (first < end) {
    const auto block = static_cast<std::size_t>(first / block_tokens_);
    const auto offset = static_cast<std::uint32_t>(first % block_tokens_);
    const auto count =
        static_cast<std::uint32_t>(std::min<std::int64_t>(end - first, block_tokens_ - offset));
    ranges_.push_back({table[block], offset, count});
    first += count;
  }
}

}  // namespace radixkv::cli
