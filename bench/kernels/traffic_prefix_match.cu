// Traffic of prefix_match per matched token, at 16-token blocks and a grid that fills an H100.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <random>
#include <span>
#include <string>
#include <utility>

#include "bench/kernels/bench_memory.h"
#include "bench/kernels/traffic_case.h"
#include "csrc/cuda/index_mirror.h"
#include "kernels/prefix_match.h"

namespace radixkv::bench {
namespace {

constexpr std::uint32_t block_tokens = 16;
constexpr std::int32_t h100_multiprocessors = 132;

// A batch of random prompts and how much of each is cached. Prompts follow each other without a
// gap, so that most start unaligned.
struct batch {
  std::vector<std::int64_t> offsets = {0};
  std::vector<std::int64_t> cached;  // tokens per prompt, whole blocks

  void add(std::int64_t tokens, std::int64_t cached_tokens) {
    offsets.push_back(offsets.back() + tokens);
    cached.push_back(cached_tokens / block_tokens * block_tokens);
  }
};

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

// 100 prompts of 2,000 to 40,000 tokens, all of their whole blocks cached.
batch long_prompts() {
  batch b;
  random_lengths lengths;
  for (int i = 0; i < 100; ++i) {
    const std::int64_t n = lengths.uniform(2'000, 40'000);
    b.add(n, n);
  }
  return b;
}

// 1,502 prompts: 16 to 16,384 tokens, one of 300,000 and one of a million among them; all cached.
batch mixed_prompts() {
  batch b;
  random_lengths lengths;
  for (int i = 0; i < 1502; ++i) {
    std::int64_t n = lengths.log_uniform(16, 16'384);
    if (i == 500) n = 1'000'000;
    if (i == 1000) n = 300'000;
    b.add(n, n);
  }
  return b;
}

batch one_prompt() {
  batch b;
  b.add(1'000'000, 1'000'000);
  return b;
}

// 1,000 prompts of 600 to 2,000 tokens, all cached.
batch mid_prompts() {
  batch b;
  random_lengths lengths;
  for (int i = 0; i < 1000; ++i) {
    const std::int64_t n = lengths.uniform(600, 2'000);
    b.add(n, n);
  }
  return b;
}

// 600 turns of conversations of 500 to 16,000 tokens: 2.15 tokens sent per matched one. About half
// continue a conversation, of which 85 to 95 % is cached; the others begin one and find at most a
// system prompt of 512 tokens.
batch chat_prompts() {
  batch b;
  random_lengths lengths;
  for (int i = 0; i < 600; ++i) {
    const std::int64_t n = lengths.log_uniform(500, 16'000);
    const bool continues = lengths.uniform(0, 99) < 50;
    b.add(n,
          continues ? n * lengths.uniform(850, 950) / 1000 : std::min(n, lengths.uniform(0, 512)));
  }
  return b;
}

// The same, but what is cached ends anywhere before 0.94 of the prompt: the worst mix for reading
// ahead.
batch chat_uniform_prompts() {
  batch b;
  random_lengths lengths;
  for (int i = 0; i < 600; ++i) {
    const std::int64_t n = lengths.log_uniform(500, 16'000);
    b.add(n, n * lengths.uniform(0, 940) / 1000);
  }
  return b;
}

// 100,000 prompts of 16 to 40 tokens; every second one is cached.
batch tiny_prompts() {
  batch b;
  random_lengths lengths;
  for (int i = 0; i < 100'000; ++i) {
    const std::int64_t n = lengths.uniform(16, 40);
    b.add(n, i % 2 == 0 ? n : 0);
  }
  return b;
}

// The table as applying the delta leaves it. Set-up: the update kernel is measured elsewhere.
struct host_table {
  host_table(const detail::index_mirror& mirror, const detail::index_delta& delta,
             std::size_t block_count)
      : blocks(std::size_t{1} << mirror.log2_slots(), {~std::uint64_t{0}, -1, -1}),
        groups(blocks.size(), {~std::uint64_t{0}, -1, {-1, -1, -1, -1}, ~0u}),
        tokens(block_count * block_tokens) {
    for (std::size_t i = 0; i < delta.block_slots.size(); ++i) {
      blocks[delta.block_slots[i]] = delta.block_entries[i];
    }
    for (std::size_t i = 0; i < delta.group_slots.size(); ++i) {
      groups[delta.group_slots[i]] = delta.group_entries[i];
    }
    for (std::size_t i = 0; i < delta.token_blocks.size(); ++i) {
      for (std::size_t t = 0; t < block_tokens; ++t) {
        tokens[static_cast<std::size_t>(delta.token_blocks[i]) * block_tokens + t] =
            delta.tokens[i * block_tokens + t];
      }
    }
  }

  std::vector<kernels::block_entry> blocks;
  std::vector<kernels::group_entry> groups;
  std::vector<token_id> tokens;
};

traffic_result run(const batch& b) {
  std::mt19937_64 random(1);
  std::vector<std::uint32_t> tokens(static_cast<std::size_t>(b.offsets.back()));
  for (auto& t : tokens) t = static_cast<std::uint32_t>(random() % 150'000);

  std::int64_t matched = 0;
  for (const std::int64_t cached : b.cached) matched += cached;
  const auto blocks = static_cast<std::int32_t>(matched / block_tokens);
  auto created = detail::index_mirror::create({blocks, block_tokens, 12345});
  if (!created) return {.error = created.error().message};
  detail::index_mirror& mirror = *created;
  std::vector<std::int32_t> ids;  // scattered, as in a pool that has been in use
  for (std::int32_t i = 0; i < blocks; ++i) ids.push_back(i);
  std::shuffle(ids.begin(), ids.end(), random);
  std::size_t used = 0;
  for (std::size_t p = 0; p < b.cached.size(); ++p) {
    std::int32_t parent = kernels::root_parent(0);
    for (std::int64_t at = 0; at < b.cached[p]; at += block_tokens) {
      const auto block =
          std::span(tokens).subspan(static_cast<std::size_t>(b.offsets[p] + at), block_tokens);
      if (const status s = mirror.add(ids[used], parent, block); !s) {
        return {.error = s.error().message};
      }
      parent = ids[used++];
    }
  }
  detail::index_delta delta;
  mirror.take_delta(delta);
  const host_table host(mirror, delta, static_cast<std::size_t>(blocks));
  bench_memory<kernels::block_entry> device_blocks(host.blocks.size());
  bench_memory<kernels::group_entry> device_groups(host.groups.size());
  bench_memory<std::uint32_t> device_kept(host.tokens.size());
  bench_memory<std::uint32_t> device_tokens(tokens.size());
  bench_memory<std::int64_t> device_offsets(b.offsets.size());
  device_blocks.upload(host.blocks.data(), host.blocks.size());
  device_groups.upload(host.groups.data(), host.groups.size());
  device_kept.upload(host.tokens.data(), host.tokens.size());
  device_tokens.upload(tokens.data(), tokens.size());
  device_offsets.upload(b.offsets.data(), b.offsets.size());

  kernels::prefix_match_arguments a;
  a.table = {device_blocks.data(), device_groups.data(), device_kept.data(), blocks,
             block_tokens,         mirror.log2_slots()};
  a.hash = mirror.hash_key();
  a.tokens = device_tokens.data();
  a.token_offsets = device_offsets.data();
  a.prompt_count = static_cast<std::uint32_t>(b.cached.size());
  a.token_count = b.offsets.back();
  a.multiprocessors = h100_multiprocessors;
  a.workspace_bytes =
      kernels::prefix_match_workspace_bytes(a.prompt_count, a.token_count, block_tokens);
  bench_memory<std::int32_t> device_matched(b.cached.size());
  bench_memory<std::int32_t> device_row(tokens.size() / block_tokens);
  bench_memory<std::byte> workspace(a.workspace_bytes);
  require(cudaMemset(workspace.data(), 0, workspace.size()), "cudaMemset");
  a.matched_blocks = device_matched.data();
  a.block_table = device_row.data();
  a.workspace = workspace.data();
  require(kernels::prefix_match(nullptr, a), "prefix_match");
  require(cudaDeviceSynchronize(), "prefix_match");

  const auto found = device_matched.download();
  for (std::size_t p = 0; p < b.cached.size(); ++p) {
    if (found[p] != b.cached[p] / block_tokens) {
      return {.error = "prompt " + std::to_string(p) + ": matched " + std::to_string(found[p]) +
                       " blocks, must be " + std::to_string(b.cached[p] / block_tokens)};
    }
  }
  // Every matched token once from the prompt and once from the index, an id and a key per block.
  traffic_result result;
  result.matched_tokens = static_cast<double>(matched);
  result.bytes_minimal = static_cast<double>(matched) * (4 + 4) +
                         static_cast<double>(matched) / block_tokens * (4 + 8) +
                         static_cast<double>(b.cached.size()) * (8 + 4);
  return result;
}

const traffic_registrar cases([](std::vector<traffic_case>& all) {
  const auto add = [&all](const char* name, batch (*make)()) {
    all.push_back({"prefix_match", name, "prefix_match_kernel", [make] { return run(make()); }});
  };
  add("long", long_prompts);
  add("mixed", mixed_prompts);
  add("one_1m", one_prompt);
  add("mid", mid_prompts);
  add("chat", chat_prompts);
  add("chat_uniform", chat_uniform_prompts);
  add("tiny", tiny_prompts);
});

}  // namespace
}  // namespace radixkv::bench
