// An index for tests: mirror, oracle and one device table that are changed together.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <stdexcept>
#include <vector>

#include "csrc/cuda/device_memory.h"
#include "csrc/cuda/index_chunks.h"
#include "csrc/cuda/index_mirror.h"
#include "kernels/index_update.h"
#include "kernels/prefix_match.h"
#include "tests/cuda/cuda_test.h"
#include "tests/support/prefix_oracle.h"

namespace radixkv::testing {

// Bytes of what nobody has written: no token, and as a block's id out of range.
inline constexpr int poison = 0x80;

// A device table, empty at first.
class device_table {
 public:
  device_table(std::int32_t block_count, std::uint32_t block_tokens)
      : log2_slots_(kernels::table_log2_slots(block_count)),
        block_count_(block_count),
        block_tokens_(block_tokens),
        blocks_(std::size_t{1} << log2_slots_),
        groups_(std::size_t{1} << log2_slots_),
        tokens_(static_cast<std::size_t>(block_count) * block_tokens) {
    blocks_.fill(0xff);
    groups_.fill(0xff);
    tokens_.fill(poison);
  }

  [[nodiscard]] kernels::prefix_table view() const {
    return {blocks_.data(), kernels::uses_groups(block_tokens_) ? groups_.data() : nullptr,
            tokens_.data(), block_count_,
            block_tokens_,  log2_slots_};
  }
  // The same as one launch of the update kernel, which has tests of its own.
  void apply(const detail::index_delta& delta, cudaStream_t stream,
             std::uint32_t* rejected = nullptr) {
    const std::size_t bytes = detail::whole_slot_bytes(delta);
    const detail::pinned_buffer slot = detail::allocate_pinned("a delta", bytes).value();
    detail::delta_cursor cursor;
    auto a = detail::fill_chunk(delta, view(), cursor, {slot.get(), bytes});
    a.rejected = rejected;
    require_cuda(kernels::index_update(stream, a));
    require_cuda(cudaStreamSynchronize(stream));
  }
  [[nodiscard]] std::vector<kernels::block_entry> blocks() const { return blocks_.download(); }
  [[nodiscard]] std::vector<kernels::group_entry> groups() const { return groups_.download(); }

 private:
  std::uint32_t log2_slots_;
  std::int32_t block_count_;
  std::uint32_t block_tokens_;
  device_array<kernels::block_entry> blocks_;
  device_array<kernels::group_entry> groups_;
  device_array<std::uint32_t> tokens_;
};

class device_index {
 public:
  device_index(std::int32_t block_count, std::uint32_t block_tokens,
               std::uint32_t hash_bits = kernels::max_hash_bits, std::uint64_t secret = 1)
      : block_count_(block_count),
        block_tokens_(block_tokens),
        mirror_(std::move(
            detail::index_mirror::create({block_count, block_tokens, secret, hash_bits}).value())),
        oracle_(block_tokens),
        table_(block_count, block_tokens) {
    for (std::int32_t b = block_count; b-- > 0;) free_.push_back(b);
  }

  // Caches the whole blocks of a path; as many as there are free blocks for.
  void insert(std::span<const std::uint32_t> path, std::int32_t namespace_id) {
    std::int32_t parent = kernels::root_parent(namespace_id);
    for (; path.size() >= block_tokens_; path = path.subspan(block_tokens_)) {
      const auto tokens = path.first(block_tokens_);
      std::int32_t block = oracle_.find(parent, tokens);
      if (block < 0) {
        if (free_.empty()) return;
        block = free_.back();
        free_.pop_back();
        const status added = mirror_.add(block, parent, tokens);
        if (!added.ok()) throw std::runtime_error(added.error().message);
        oracle_.add(block, parent, tokens);
      }
      parent = block;
    }
  }
  // Drops the deepest block of a path that is a leaf; false if there is none.
  bool remove_last(std::span<const std::uint32_t> path, std::int32_t namespace_id) {
    const auto blocks = oracle_.match(path, namespace_id);
    if (blocks.empty()) return false;
    if (!mirror_.remove(blocks.back()).ok()) return false;
    const std::int32_t parent =
        blocks.size() > 1 ? blocks[blocks.size() - 2] : kernels::root_parent(namespace_id);
    oracle_.remove(parent, path.subspan((blocks.size() - 1) * block_tokens_, block_tokens_));
    free_.push_back(blocks.back());
    return true;
  }
  void upload(cudaStream_t stream) {
    detail::index_delta delta;
    mirror_.take_delta(delta);
    table_.apply(delta, stream);
  }

  [[nodiscard]] const prefix_oracle& oracle() const { return oracle_; }
  [[nodiscard]] const detail::index_mirror& mirror() const { return mirror_; }
  [[nodiscard]] detail::index_mirror& mirror() { return mirror_; }
  [[nodiscard]] const device_table& table() const { return table_; }
  [[nodiscard]] std::uint32_t block_tokens() const { return block_tokens_; }
  [[nodiscard]] std::size_t free_blocks() const { return free_.size(); }

 private:
  std::int32_t block_count_;
  std::uint32_t block_tokens_;
  detail::index_mirror mirror_;
  prefix_oracle oracle_;
  device_table table_;
  std::vector<std::int32_t> free_;
};

// Prompts as one array of tokens with offsets.
struct prompt_batch {
  std::vector<std::uint32_t> tokens;
  std::vector<std::int64_t> offsets = {0};
  std::vector<std::int32_t> namespaces;

  void add(std::span<const std::uint32_t> prompt, std::int32_t namespace_id) {
    tokens.insert(tokens.end(), prompt.begin(), prompt.end());
    offsets.push_back(static_cast<std::int64_t>(tokens.size()));
    namespaces.push_back(namespace_id);
  }
  [[nodiscard]] std::size_t size() const { return namespaces.size(); }
  [[nodiscard]] std::span<const std::uint32_t> prompt(std::size_t p) const {
    return std::span(tokens).subspan(static_cast<std::size_t>(offsets[p]),
                                     static_cast<std::size_t>(offsets[p + 1] - offsets[p]));
  }
};

// A batch on the device, with room for its results.
struct device_batch {
  // `misalignment` words are left before the first token.
  device_batch(const prompt_batch& batch, std::uint32_t block_tokens,
               std::uint32_t misalignment = 0)
      : tokens(batch.tokens.size() + misalignment),
        offsets(batch.offsets),
        namespaces(batch.namespaces),
        matched(batch.size()),
        block_table(batch.tokens.size() / block_tokens),
        workspace(kernels::prefix_match_workspace_bytes(
            static_cast<std::uint32_t>(batch.size()),
            static_cast<std::int64_t>(batch.tokens.size()), block_tokens)),
        first_token(misalignment),
        token_count(static_cast<std::int64_t>(batch.tokens.size())) {
    if (!batch.tokens.empty()) tokens.upload(batch.tokens, misalignment);
    block_table.fill(poison);
    workspace.fill(0);
  }

  [[nodiscard]] kernels::prefix_match_arguments arguments(const device_index& index) const {
    kernels::prefix_match_arguments a;
    a.table = index.table().view();
    a.hash = index.mirror().hash_key();
    a.tokens = tokens.data() + first_token;
    a.token_offsets = offsets.data();
    a.namespace_ids = namespaces.data();
    a.prompt_count = static_cast<std::uint32_t>(matched.size());
    a.token_count = token_count;
    a.matched_blocks = matched.data();
    a.block_table = block_table.data();
    a.workspace = workspace.data();
    a.workspace_bytes = workspace.size();
    return a;
  }

  device_array<std::uint32_t> tokens;
  device_array<std::int64_t> offsets;
  device_array<std::int32_t> namespaces;
  device_array<std::int32_t> matched;
  device_array<std::int32_t> block_table;
  device_array<std::byte> workspace;
  std::size_t first_token;
  std::int64_t token_count;
};

// Prompts whose results differ from the oracle's, as text of the first few; empty if none does.
inline std::string compare_with_oracle(const device_index& index, const prompt_batch& batch,
                                       const device_batch& results) {
  const auto matched = results.matched.download();
  const auto table = results.block_table.download();
  std::string wrong;
  int count = 0;
  for (std::size_t p = 0; p < batch.size() && count < 5; ++p) {
    const auto expected = index.oracle().match(batch.prompt(p), batch.namespaces[p]);
    const auto row = static_cast<std::size_t>(batch.offsets[p]) / index.block_tokens();
    std::string problem;
    if (matched[p] != static_cast<std::int32_t>(expected.size())) {
      problem = "matched " + std::to_string(matched[p]) + " blocks, must be " +
                std::to_string(expected.size());
    } else {
      for (std::size_t b = 0; b < expected.size() && problem.empty(); ++b) {
        if (table[row + b] != expected[b]) {
          problem = "block " + std::to_string(b) + " is " + std::to_string(table[row + b]) +
                    ", must be " + std::to_string(expected[b]);
        }
      }
    }
    if (!problem.empty()) {
      wrong += "prompt " + std::to_string(p) + " of " + std::to_string(batch.prompt(p).size()) +
               " tokens: " + problem + "\n";
      ++count;
    }
  }
  for (const std::byte b : results.workspace.download()) {
    if (b != std::byte{0}) return wrong + "the workspace is not left zero\n";
  }
  return wrong;
}

// Matches and compares.
inline std::string match_and_compare(const device_index& index, const prompt_batch& batch,
                                     cudaStream_t stream, std::uint32_t misalignment = 0) {
  const device_batch on_device(batch, index.block_tokens(), misalignment);
  require_cuda(kernels::prefix_match(stream, on_device.arguments(index)));
  require_cuda(cudaStreamSynchronize(stream));
  return compare_with_oracle(index, batch, on_device);
}

inline std::vector<std::uint32_t> random_tokens(std::mt19937_64& random, std::size_t count,
                                                std::uint32_t vocabulary = 0x7fffffff) {
  std::vector<std::uint32_t> tokens(count);
  for (auto& t : tokens) t = static_cast<std::uint32_t>(random() % vocabulary);
  return tokens;
}

}  // namespace radixkv::testing
