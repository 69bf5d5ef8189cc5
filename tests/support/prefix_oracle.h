// What matching must answer: a map from (parent, tokens) to block, walked block by block. No hash.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

namespace radixkv::testing {

class prefix_oracle {
 public:
  explicit prefix_oracle(std::uint32_t block_tokens) : block_tokens_(block_tokens) {}

  void add(std::int32_t block, std::int32_t parent, std::span<const std::uint32_t> tokens) {
    blocks_[{parent, {tokens.begin(), tokens.end()}}] = block;
  }
  void remove(std::int32_t parent, std::span<const std::uint32_t> tokens) {
    blocks_.erase({parent, {tokens.begin(), tokens.end()}});
  }
  // −1: there is none.
  [[nodiscard]] std::int32_t find(std::int32_t parent,
                                  std::span<const std::uint32_t> tokens) const {
    const auto found = blocks_.find({parent, {tokens.begin(), tokens.end()}});
    return found == blocks_.end() ? -1 : found->second;
  }
  [[nodiscard]] std::vector<std::int32_t> match(std::span<const std::uint32_t> prompt,
                                                std::int32_t namespace_id) const {
    std::vector<std::int32_t> matched;
    std::int32_t parent = -1 - namespace_id;
    while (prompt.size() >= block_tokens_) {
      parent = find(parent, prompt.first(block_tokens_));
      if (parent < 0) break;
      matched.push_back(parent);
      prompt = prompt.subspan(block_tokens_);
    }
    return matched;
  }

 private:
  std::uint32_t block_tokens_;
  std::map<std::pair<std::int32_t, std::vector<std::uint32_t>>, std::int32_t> blocks_;
};

}  // namespace radixkv::testing
