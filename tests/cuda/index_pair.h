// A device index beside an oracle of what it must answer, and matches in flight.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "radixkv/cuda_index.h"
#include "tests/cuda/executor_test.h"
#include "tests/support/prefix_oracle.h"

namespace radixkv::testing {

inline constexpr std::uint32_t block_tokens = 8;
inline constexpr std::int32_t namespaces = 2;

using tokens = std::vector<token_id>;

// An index and an oracle that change together; the oracle of the last update is kept.
class index_pair {
 public:
  index_pair(std::int64_t blocks, const cuda_index_options& options, std::uint32_t seed)
      : index(cuda_index::create(options).value()), random(seed) {
    for (block_id b = 0; b < blocks; ++b) free_.push_back(b);
  }

  // Adds a block below a random one, with tokens of a small alphabet that its siblings do not have.
  void add() {
    if (free_.empty()) return;
    std::int32_t parent = -1 - static_cast<std::int32_t>(random() % namespaces);
    if (!nodes_.empty() && random() % 8 != 0) {
      parent = std::next(nodes_.begin(), static_cast<long>(random() % nodes_.size()))->first;
    }
    tokens t(block_tokens);
    for (token_id& x : t) x = random() % 2;
    if (now_.find(parent, t) >= 0) return;
    const block_id block = free_.back();
    free_.pop_back();
    const status s = index.add(block, std::max(parent, no_block), parent < 0 ? -1 - parent : 0, t);
    ASSERT_TRUE(s.ok()) << s.error().message;
    now_.add(block, parent, t);
    nodes_[block] = {parent, t, 0};
    if (parent >= 0) ++nodes_[parent].children;
  }

  // Removes a random leaf. Its id may be used again at once: tables have tokens of their own.
  void remove() {
    if (nodes_.empty()) return;
    auto leaf = std::next(nodes_.begin(), static_cast<long>(random() % nodes_.size()));
    while (leaf->second.children > 0) {
      if (++leaf == nodes_.end()) leaf = nodes_.begin();
    }
    const auto removed = index.remove(leaf->first);
    ASSERT_TRUE(removed.ok()) << removed.error().message;
    EXPECT_EQ(*removed, index.published() + 1);
    now_.remove(leaf->second.parent, leaf->second.own);
    if (leaf->second.parent >= 0) --nodes_[leaf->second.parent].children;
    free_.push_back(leaf->first);
    nodes_.erase(leaf);
  }

  void update(cudaStream_t stream) {
    status s = index.update(stream);
    while (!s && s.error().code == errc::busy) s = index.update(stream);
    ASSERT_TRUE(s.ok()) << s.error().message;
    shown = now_;
  }

  // A cached path, cut or continued at random.
  tokens prompt(std::int32_t& name_space) {
    tokens t;
    name_space = static_cast<std::int32_t>(random() % namespaces);
    if (!nodes_.empty()) {
      auto at = std::next(nodes_.begin(), static_cast<long>(random() % nodes_.size()))->first;
      while (at >= 0) {
        t.insert(t.begin(), nodes_[at].own.begin(), nodes_[at].own.end());
        at = nodes_[at].parent;
      }
      if (random() % 4) name_space = -1 - at;
    }
    for (std::size_t i = random() % 20; i > 0; --i) t.push_back(random() % 2);
    if (random() % 4 == 0) t.resize(random() % (t.size() + 1));
    if (random() % 4 == 0 && !t.empty()) t[random() % t.size()] ^= 1;
    return t;
  }

  cuda_index index;
  std::mt19937 random;
  prefix_oracle shown{block_tokens};

 private:
  struct node {
    std::int32_t parent;
    tokens own;
    int children;
  };
  prefix_oracle now_{block_tokens};
  std::map<block_id, node> nodes_;
  std::vector<block_id> free_;
};

// Device memory of one match, allocated once: allocating and uploading would wait for the device
// and hide a missing order.
struct match_memory {
  static constexpr std::size_t max_prompts = 64, max_tokens = 1 << 14;
  device_array<token_id> prompts{max_tokens};
  device_array<std::int64_t> offsets{max_prompts + 1};
  device_array<std::int32_t> spaces{max_prompts};
  device_array<std::int32_t> matched{max_prompts};
  device_array<std::int32_t> representatives{max_prompts};
  device_array<std::int32_t> shared{max_prompts};
  device_array<block_id> table{max_tokens / block_tokens};
};

// A match in flight, and what it must give.
class pending_match {
 public:
  pending_match(index_pair& pair, std::size_t prompts, cudaStream_t stream, match_memory& memory)
      : stream_(stream), memory_(memory) {
    spaces_.resize(prompts);
    offsets_.push_back(0);
    tokens all;
    for (std::int32_t& space : spaces_) {
      const tokens t = pair.prompt(space);
      prompts_.push_back(t);
      expected_.push_back(pair.shown.match(t, space));
      all.insert(all.end(), t.begin(), t.end());
      offsets_.push_back(static_cast<std::int64_t>(all.size()));
    }
    send(memory.prompts.data(), all);
    send(memory.offsets.data(), offsets_);
    send(memory.spaces.data(), spaces_);
    batch_ = {.tokens = memory.prompts.data(),
              .offsets = memory.offsets.data(),
              .namespace_ids = memory.spaces.data(),
              .prompts = static_cast<std::uint32_t>(prompts),
              .token_count = static_cast<std::int64_t>(all.size()),
              .matched_blocks = memory.matched.data(),
              .block_table = memory.table.data()};
    const auto ticket = pair.index.match(stream, batch_);
    EXPECT_TRUE(ticket.ok()) << ticket.error().message;
    if (ticket.ok()) ticket_ = *ticket;
  }

  void finish(index_pair& pair) { finish(pair, stream_); }
  void finish(index_pair& pair, cudaStream_t stream) {
    RADIXKV_ASSERT_OK(pair.index.finish(stream, ticket_));
  }

  [[nodiscard]] const cuda_match_batch& batch() const { return batch_; }
  [[nodiscard]] std::uint64_t ticket() const { return ticket_; }

  // Behind the match, on its stream.
  void find_shared(index_pair& pair) {
    RADIXKV_ASSERT_OK(pair.index.find_shared(
        stream_, batch_, {memory_.representatives.data(), memory_.shared.data()}));
  }

  // Waits for the stream and compares every pair of prompts. Adds the shared blocks to `found`.
  void check_shared(std::int64_t& found) {
    require_cuda(cudaStreamSynchronize(stream_));
    const auto representatives = memory_.representatives.download(0, prompts_.size());
    const auto shared = memory_.shared.download(0, prompts_.size());
    for (std::size_t p = 0; p < prompts_.size(); ++p) {
      std::size_t who = p, most = 0;
      for (std::size_t q = 0; q < p; ++q) {
        if (spaces_[q] != spaces_[p]) continue;
        const auto differ = std::mismatch(prompts_[p].begin(), prompts_[p].end(),
                                          prompts_[q].begin(), prompts_[q].end());
        const auto common =
            static_cast<std::size_t>(differ.first - prompts_[p].begin()) / block_tokens;
        if (common > expected_[p].size() && common - expected_[p].size() > most) {
          most = common - expected_[p].size();
          who = q;
        }
      }
      EXPECT_EQ(shared[p], static_cast<std::int32_t>(most)) << "prompt " << p;
      EXPECT_EQ(representatives[p], static_cast<std::int32_t>(who)) << "prompt " << p;
      found += shared[p];
    }
  }

  // Waits for the stream. Adds the matched blocks to `hits`.
  void check(std::int64_t& hits) {
    require_cuda(cudaStreamSynchronize(stream_));
    const auto matched = memory_.matched.download(0, expected_.size());
    for (std::size_t p = 0; p < expected_.size(); ++p) {
      ASSERT_EQ(matched[p], static_cast<std::int32_t>(expected_[p].size())) << "prompt " << p;
      hits += matched[p];
      if (matched[p] == 0) continue;
      const auto row = memory_.table.download(static_cast<std::size_t>(offsets_[p]) / block_tokens,
                                              static_cast<std::size_t>(matched[p]));
      ASSERT_EQ(row, expected_[p]) << "prompt " << p;
    }
  }

 private:
  template <class T>
  void send(T* device, const std::vector<T>& host) {
    require_cuda(cudaMemcpyAsync(device, host.data(), host.size() * sizeof(T),
                                 cudaMemcpyHostToDevice, stream_));
  }

  cudaStream_t stream_;
  match_memory& memory_;
  std::uint64_t ticket_ = 0;
  cuda_match_batch batch_;
  std::vector<std::int32_t> spaces_;
  std::vector<tokens> prompts_;
  std::vector<std::int64_t> offsets_;
  std::vector<std::vector<std::int32_t>> expected_;
};

inline cuda_index_options small_options() {
  return {.blocks = 300,
          .block_tokens = block_tokens,
          .max_prompts = 64,
          .max_prompt_tokens = 1 << 14,
          .staging_bytes = 128 << 10,
          .matches_in_flight = 8};
}

}  // namespace radixkv::testing
