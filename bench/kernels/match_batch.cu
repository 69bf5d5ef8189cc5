#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <span>
#include <string>

#include "bench/kernels/bench_result.h"
#include "bench/kernels/match_batch.h"
#include "csrc/cuda/index_mirror.h"

namespace radixkv::bench {
namespace {

class random_lengths {
 public:
  std::int64_t uniform(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random_);
  }
  std::int64_t log_uniform(double low, double high) {
    return static_cast<std::int64_t>(
        std::exp(std::uniform_real_distribution<double>(std::log(low), std::log(high))(random_)));
  }

 private:
  std::mt19937_64 random_{3};
};

struct prompt_lengths {
  std::int64_t tokens;
  std::int64_t cached;
};

// The lengths of prompt i are next(lengths, i).
template <class Next>
match_batch batch_of(int count, Next next) {
  match_batch b;
  random_lengths lengths;
  for (int i = 0; i < count; ++i) {
    const prompt_lengths prompt = next(lengths, i);
    b.add(prompt.tokens, prompt.cached);
  }
  return b;
}

}  // namespace

// The prompts and the table as applying the mirror's delta leaves it. Set-up: the update kernel is
// measured elsewhere.
struct host_match {
  explicit host_match(const match_batch& b)
      : batch(b),
        tokens(static_cast<std::size_t>(b.offsets.back())),
        matched(std::accumulate(b.cached.begin(), b.cached.end(), std::int64_t{0})),
        block_count(std::max(static_cast<std::int32_t>(matched / match_block_tokens), 1)),
        mirror(created(detail::index_mirror::create({block_count, match_block_tokens, 12345}))),
        blocks(std::size_t{1} << mirror.log2_slots(), {~std::uint64_t{0}, -1, -1}),
        groups(blocks.size(), {~std::uint64_t{0}, -1, {-1, -1, -1, -1}, ~0u}),
        kept_tokens(static_cast<std::size_t>(block_count) * match_block_tokens) {
    std::mt19937_64 random(1);
    for (auto& t : tokens) t = static_cast<token_id>(random() % 150'000);
    for (const shared_prefix& s : b.shared) {
      std::copy_n(tokens.begin() + b.offsets[s.of], s.tokens, tokens.begin() + b.offsets[s.prompt]);
    }
    std::vector<std::int32_t> runs((block_count + b.id_run - 1) / b.id_run);
    std::iota(runs.begin(), runs.end(), 0);
    std::shuffle(runs.begin(), runs.end(), random);
    std::vector<std::int32_t> ids;
    for (const std::int32_t run : runs) {
      const std::int32_t end = std::min((run + 1) * b.id_run, block_count);
      for (std::int32_t id = run * b.id_run; id < end; ++id) ids.push_back(id);
    }
    std::size_t used = 0;
    for (std::size_t p = 0; p < b.cached.size(); ++p) {
      std::int32_t parent = kernels::root_parent(0);
      for (std::int64_t at = 0; at < b.cached[p]; at += match_block_tokens) {
        require(mirror.add(ids[used], parent,
                           std::span(tokens).subspan(static_cast<std::size_t>(b.offsets[p] + at),
                                                     match_block_tokens)));
        parent = ids[used++];
      }
    }
    detail::index_delta delta;
    mirror.take_delta(delta);
    for (std::size_t i = 0; i < delta.block_slots.size(); ++i) {
      blocks[delta.block_slots[i]] = delta.block_entries[i];
    }
    for (std::size_t i = 0; i < delta.group_slots.size(); ++i) {
      groups[delta.group_slots[i]] = delta.group_entries[i];
    }
    for (std::size_t i = 0; i < delta.token_blocks.size(); ++i) {
      std::copy_n(delta.tokens.begin() + static_cast<std::ptrdiff_t>(i * match_block_tokens),
                  match_block_tokens,
                  kept_tokens.begin() + std::ptrdiff_t{delta.token_blocks[i]} * match_block_tokens);
    }
  }

  const match_batch& batch;
  std::vector<token_id> tokens;
  std::int64_t matched;
  std::int32_t block_count;
  detail::index_mirror mirror;
  std::vector<kernels::block_entry> blocks;
  std::vector<kernels::group_entry> groups;
  std::vector<token_id> kept_tokens;
};

match_batch long_prompts(int count) {
  return batch_of(count, [](random_lengths& lengths, int) -> prompt_lengths {
    const std::int64_t n = lengths.uniform(2'000, 40'000);
    return {n, n};
  });
}

match_batch mixed_prompts(int count) {
  return batch_of(count, [](random_lengths& lengths, int i) -> prompt_lengths {
    std::int64_t n = lengths.log_uniform(16, 16'384);
    if (i == 500) n = 1'000'000;
    if (i == 1000) n = 300'000;
    return {n, n};
  });
}

match_batch one_prompt(std::int64_t tokens) {
  return batch_of(1, [tokens](random_lengths&, int) { return prompt_lengths{tokens, tokens}; });
}

match_batch mid_prompts(int count) {
  return batch_of(count, [](random_lengths& lengths, int) -> prompt_lengths {
    const std::int64_t n = lengths.uniform(600, 2'000);
    return {n, n};
  });
}

match_batch chat_prompts(int count) {
  return batch_of(count, [](random_lengths& lengths, int) -> prompt_lengths {
    const std::int64_t n = lengths.log_uniform(500, 16'000);
    const bool continues = lengths.uniform(0, 99) < 50;
    return {
        n, continues ? n * lengths.uniform(850, 950) / 1000 : std::min(n, lengths.uniform(0, 512))};
  });
}

match_batch chat_uniform_prompts(int count) {
  return batch_of(count, [](random_lengths& lengths, int) -> prompt_lengths {
    const std::int64_t n = lengths.log_uniform(500, 16'000);
    return {n, n * lengths.uniform(0, 940) / 1000};
  });
}

match_batch tiny_prompts(int count) {
  return batch_of(count, [](random_lengths& lengths, int i) -> prompt_lengths {
    const std::int64_t n = lengths.uniform(16, 40);
    return {n, i % 2 == 0 ? n : 0};
  });
}

match_batch burst_prompts(int count) {
  match_batch b = batch_of(count, [](random_lengths& lengths, int) -> prompt_lengths {
    return {lengths.uniform(1'000, 4'000), 0};
  });
  random_lengths lengths;
  for (std::size_t p = 0; p < b.cached.size(); ++p) {
    if (p % 16 != 0) b.shared.push_back({p, p / 16 * 16, lengths.uniform(800, 1'000)});
  }
  return b;
}

device_match::device_match(const match_batch& batch, std::int32_t multiprocessors)
    : device_match(host_match(batch)) {
  arguments_.multiprocessors = multiprocessors;
}

device_match::device_match(const host_match& host)
    : cached_(host.batch.cached),
      matched_tokens_(host.matched),
      blocks_(host.blocks),
      groups_(host.groups),
      kept_tokens_(host.kept_tokens),
      tokens_(host.tokens),
      offsets_(host.batch.offsets),
      matched_(cached_.size()),
      rows_(host.tokens.size() / match_block_tokens),
      workspace_(kernels::prefix_match_workspace_bytes(static_cast<std::uint32_t>(cached_.size()),
                                                       host.batch.offsets.back(),
                                                       match_block_tokens)) {
  require(cudaMemset(workspace_.data(), 0, workspace_.size()), "cudaMemset");
  require(cudaDeviceSynchronize(), "cudaMemset");  // streams that do not wait for it follow
  arguments_.table = {blocks_.data(),   groups_.data(),     kept_tokens_.data(),
                      host.block_count, match_block_tokens, host.mirror.log2_slots()};
  arguments_.hash = host.mirror.hash_key();
  arguments_.tokens = tokens_.data();
  arguments_.token_offsets = offsets_.data();
  arguments_.prompt_count = static_cast<std::uint32_t>(cached_.size());
  arguments_.token_count = host.batch.offsets.back();
  arguments_.matched_blocks = matched_.data();
  arguments_.block_table = rows_.data();
  arguments_.workspace = workspace_.data();
  arguments_.workspace_bytes = workspace_.size();
}

std::string device_match::error() const {
  require(cudaDeviceSynchronize(), "prefix_match");
  const auto found = matched_.download();
  for (std::size_t p = 0; p < cached_.size(); ++p) {
    if (found[p] != cached_[p] / match_block_tokens) {
      return "prompt " + std::to_string(p) + ": matched " + std::to_string(found[p]) +
             " blocks, must be " + std::to_string(cached_[p] / match_block_tokens);
    }
  }
  return {};
}

double device_match::bytes_minimal() const {
  const auto matched = static_cast<double>(matched_tokens_);
  return matched * (4 + 4) + matched / match_block_tokens * (4 + 8) +
         static_cast<double>(cached_.size()) * (8 + 4);
}

}  // namespace radixkv::bench
