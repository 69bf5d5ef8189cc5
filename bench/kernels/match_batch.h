// Batches of random prompts, and the index and arguments to match them with: what the traffic and
// the times of prefix_match are measured on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/kernels/bench_memory.h"
#include "kernels/prefix_match.h"

namespace radixkv::bench {

inline constexpr std::uint32_t match_block_tokens = 16;

// A prompt that begins with the first `tokens` tokens of an earlier one.
struct shared_prefix {
  std::size_t prompt;
  std::size_t of;
  std::int64_t tokens;
};

// How long the prompts are and how much of each is cached. Prompts follow each other without a gap,
// so that most start unaligned.
struct match_batch {
  std::vector<std::int64_t> offsets = {0};
  std::vector<std::int64_t> cached;  // tokens per prompt, whole blocks
  // Cached blocks have consecutive ids in runs of so many, in no order otherwise. 1: the worst pool
  // that there can be; a pool hands out the longest runs that it has.
  std::int32_t id_run = 1;
  // Of prompts of which nothing is cached. All other tokens are random.
  std::vector<shared_prefix> shared;

  void add(std::int64_t tokens, std::int64_t cached_tokens) {
    offsets.push_back(offsets.back() + tokens);
    cached.push_back(cached_tokens / match_block_tokens * match_block_tokens);
  }
};

// 2,000 to 40,000 tokens, all of their whole blocks cached.
match_batch long_prompts(int count = 100);
// 16 to 16,384 tokens, one of 300,000 and one of a million among them; all cached. count > 1,000.
match_batch mixed_prompts(int count = 1502);
match_batch one_prompt(std::int64_t tokens = 1'000'000);
// 600 to 2,000 tokens, all cached.
match_batch mid_prompts(int count = 1000);
// Turns of conversations of 500 to 16,000 tokens: about two tokens sent per matched one. About half
// continue a conversation, of which 85 to 95 % is cached; the others begin one and find at most a
// system prompt of 512 tokens.
match_batch chat_prompts(int count = 600);
// The same, but what is cached ends anywhere before 0.94 of the prompt: the worst mix for reading
// ahead.
match_batch chat_uniform_prompts(int count = 600);
// 16 to 40 tokens; every second prompt is cached.
match_batch tiny_prompts(int count = 100'000);
// Requests that come together and have much in common that nobody has cached: groups of 16, of
// 1,000 to 4,000 tokens, of which those after a group's first share 800 to 1,000 with it.
match_batch burst_prompts(int count = 1'000);

struct host_match;

// The batch's prompts, the index that caches what the batch says, and room for the results, on the
// device. Ends the program with a message where that fails.
class device_match {
 public:
  // multiprocessors: see prefix_match_arguments.
  explicit device_match(const match_batch& batch, std::int32_t multiprocessors = 0);

  [[nodiscard]] const kernels::prefix_match_arguments& arguments() const { return arguments_; }
  // What went wrong with the last match of `arguments`, empty if every prompt matched what is
  // cached of it. Synchronises.
  [[nodiscard]] std::string error() const;

  [[nodiscard]] std::int64_t matched_tokens() const { return matched_tokens_; }
  // Every matched token once from the prompt and once from the index, an id and a key per block.
  [[nodiscard]] double bytes_minimal() const;

 private:
  explicit device_match(const host_match& host);

  std::vector<std::int64_t> cached_;
  std::int64_t matched_tokens_;
  bench_memory<kernels::block_entry> blocks_;
  bench_memory<kernels::group_entry> groups_;
  bench_memory<std::uint32_t> kept_tokens_, tokens_;
  bench_memory<std::int64_t> offsets_;
  bench_memory<std::int32_t> matched_, rows_;
  bench_memory<std::byte> workspace_;
  kernels::prefix_match_arguments arguments_;
};

}  // namespace radixkv::bench
