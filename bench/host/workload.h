// What the trees of the benchmarks are made of: random tokens in large buffers, and caches filled
// through the public façade as requests fill them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/host/host_case.h"
#include "csrc/cli/random_source.h"
#include "csrc/core/stable_array.h"
#include "radixkv/kv_cache.h"

namespace radixkv::bench {

using cli::random_source;

constexpr std::uint32_t block_tokens = 16;

// Prompts of one length in one buffer (huge pages where the system grants them), random tokens.
class prompt_set {
 public:
  prompt_set(std::int64_t count, std::int64_t length, std::uint64_t seed);
  // The same tokens in other memory.
  prompt_set copy() const;

  [[nodiscard]] std::int64_t size() const noexcept { return count_; }
  [[nodiscard]] std::int64_t length() const noexcept { return length_; }
  [[nodiscard]] std::span<token_id> operator[](std::int64_t i) noexcept {
    return {tokens_.data() + i * length_, static_cast<std::size_t>(length_)};
  }
  [[nodiscard]] std::span<const token_id> operator[](std::int64_t i) const noexcept {
    return {tokens_.data() + i * length_, static_cast<std::size_t>(length_)};
  }

 private:
  prompt_set(std::int64_t count, std::int64_t length);

  detail::stable_array<token_id> tokens_;
  std::int64_t count_;
  std::int64_t length_;
};

void fill_random(std::span<token_id> tokens, random_source& random);

// What the cases use unless they say otherwise, and what the library does.
inline constexpr const char* bench_policy = "lru";
inline const std::string default_policy = cache_options{}.policy;

// A cache of 16-token blocks with room for `tokens`; without a clock, by the system's.
kv_cache make_cache(std::int64_t tokens, const std::string& policy = bench_policy,
                    std::function<double()> clock = {});

// Opens a prompt, fills and commits it; the caller keeps or drops the sequence.
sequence serve(kv_cache& cache, std::span<const token_id> prompt, step_plan& plan);

// Random order of 0 … n−1.
std::vector<std::int64_t> shuffled(std::int64_t n, random_source& random);

// Displaces what is in the processor's caches.
void flush_caches();

// Nanoseconds of an access to one of `lines` cache lines that has to wait for the one before, over
// `accesses` of them after a flush: what a hop costs that nothing hides. The first ones miss what
// the processor keeps of page tables, too.
double dependent_miss(std::size_t lines, int accesses);
// Of accesses in random order whose places are known beforehand, so that as many as the processor
// can wait for are under way at once: nanoseconds each.
[[nodiscard]] double parallel_miss(std::size_t lines, int accesses);

// The bushy tree: base prompts of 16-token blocks, and at every block `fan_out` − 1 branches of one
// block. `hostile`: all branches share 15 tokens with the path's block, and all base prompts are
// alike but for their first block.
struct bushy_shape {
  std::int64_t prompts = 0;
  std::int64_t length = 0;  // tokens
  std::int64_t fan_out = 2;
  bool hostile = false;

  [[nodiscard]] std::int64_t tokens() const noexcept { return prompts * length * fan_out; }
};
struct bushy_tree {
  prompt_set prompts;
  kv_cache cache;
};
bushy_tree make_bushy(const bushy_shape& shape);

}  // namespace radixkv::bench
