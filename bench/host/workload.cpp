#include "bench/host/workload.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <utility>

#include <unistd.h>

#include "bench/host/core_share.h"
#include "bench/host/resident_memory.h"
#include "bench/host/stopwatch.h"

namespace radixkv::bench {

namespace {

// Twice the last-level cache: writing less leaves lines in caches that do not evict strictly the
// least recently used. Where the system does not say, twice the largest that is common.
std::size_t flush_bytes() {
  constexpr long unknown = 64L << 20;
  const long last = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return 2 * static_cast<std::size_t>(last > 0 ? last : unknown);
}

}  // namespace

prompt_set::prompt_set(std::int64_t count, std::int64_t length) : count_(count), length_(length) {
  require(tokens_.reserve(static_cast<std::size_t>(count * length)), "no memory for the prompts");
}

prompt_set::prompt_set(std::int64_t count, std::int64_t length, std::uint64_t seed)
    : prompt_set(count, length) {
  random_source random(seed);
  fill_random({tokens_.data(), static_cast<std::size_t>(count * length)}, random);
}

prompt_set prompt_set::copy() const {
  prompt_set other(count_, length_);
  std::memcpy(other.tokens_.data(), tokens_.data(),
              static_cast<std::size_t>(count_ * length_) * sizeof(token_id));
  return other;
}

void fill_random(std::span<token_id> tokens, random_source& random) {
  for (token_id& t : tokens) t = static_cast<token_id>(random.next() >> 33);
}

kv_cache make_cache(std::int64_t tokens, const std::string& policy, std::function<double()> clock) {
  cache_options o;
  o.blocks = (tokens + block_tokens - 1) / block_tokens;
  o.block_tokens = block_tokens;
  o.max_sequences = 1 << 20;
  o.policy = policy;
  o.clock = std::move(clock);
  return value_of(kv_cache::create(std::move(o)));
}

sequence serve(kv_cache& cache, std::span<const token_id> prompt, step_plan& plan) {
  plan.clear();
  sequence s = value_of(cache.open(prompt, {}, plan));
  const auto tokens = static_cast<std::int64_t>(prompt.size());
  require(s.mark_filled(tokens).ok(), "a prompt could not be filled");
  require(s.commit().ok(), "a prompt could not be committed");
  return s;
}

std::vector<std::int64_t> shuffled(std::int64_t n, random_source& random) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (std::size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[random.below(i)]);
  }
  return order;
}

void flush_caches() {
  static const std::size_t words = flush_bytes() / sizeof(std::uint64_t);
  // In huge pages: what is displaced is data, hardly any address translation.
  static const std::unique_ptr<detail::stable_array<std::uint64_t>> memory = [] {
    auto m = std::make_unique<detail::stable_array<std::uint64_t>>();
    require(m->reserve(words), "no memory to flush the caches with");
    return m;
  }();
  touch_resident_memory();
  constexpr std::size_t line = 64 / sizeof(std::uint64_t);
  // Written, not read: caches may pass lines by that are only read once.
  for (std::size_t i = 0; i < words; i += line) ++(*memory)[i];
}

double dependent_miss(std::size_t lines, int accesses) {
  constexpr std::size_t line = 64 / sizeof(std::uint32_t);
  detail::stable_array<std::uint32_t> memory;
  require(memory.reserve(lines * line), "no memory");
  random_source random(5);
  const std::vector<std::int64_t> order = shuffled(static_cast<std::int64_t>(lines), random);
  for (std::size_t i = 0; i < lines; ++i) {
    memory[static_cast<std::size_t>(order[i]) * line] =
        static_cast<std::uint32_t>(order[(i + 1) % lines]);
  }
  flush_caches();
  std::uint32_t at = 0;
  const on_whole_core alone;
  const double time = time_of([&] {
    for (int i = 0; i < accesses; ++i) at = memory[at * line];
  });
  keep(at);
  return time / accesses;
}

double parallel_miss(std::size_t lines, int accesses) {
  constexpr std::size_t line = 64 / sizeof(std::uint32_t);
  constexpr std::size_t ahead = 64;
  detail::stable_array<std::uint32_t> memory;
  require(memory.reserve(lines * line), "no memory");
  for (std::size_t i = 0; i < lines; ++i) memory[i * line] = 1;
  random_source random(6);
  std::vector<std::uint32_t> places(static_cast<std::size_t>(accesses) + ahead);
  for (std::uint32_t& p : places) p = static_cast<std::uint32_t>(random.below(lines));
  flush_caches();
  std::uint32_t sum = 0;
  const on_whole_core alone;
  const double time = time_of([&] {
    for (std::size_t i = 0; i < static_cast<std::size_t>(accesses); ++i) {
      __builtin_prefetch(&memory[places[i + ahead] * line]);
      sum += memory[places[i] * line];
    }
  });
  keep(sum);
  return time / accesses;
}

bushy_tree make_bushy(const bushy_shape& shape) {
  constexpr std::int64_t b = block_tokens;
  random_source random(0xb05e);
  prompt_set prompts(shape.prompts, shape.length, 0xb05f);
  if (shape.hostile) {
    for (std::int64_t p = 0; p < prompts.size(); ++p) {
      const std::span<token_id> rest = prompts[p].subspan(b);
      std::fill(rest.begin(), rest.end(), token_id{7});
    }
  }
  kv_cache cache = make_cache(shape.tokens() + 2 * shape.length);
  step_plan plan;
  std::vector<token_id> branch(b);
  for (std::int64_t p = 0; p < prompts.size(); ++p) {
    const std::span<const token_id> prompt = prompts[p];
    sequence path = serve(cache, prompt.first(b), plan);
    for (std::int64_t at = b; at < shape.length; at += b) {
      // The path's own block comes at a random place among its siblings.
      const auto own =
          static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(shape.fan_out)));
      sequence stem = value_of(path.fork());
      for (std::int64_t k = 0; k < shape.fan_out; ++k) {
        const std::span<const token_id> block = prompt.subspan(static_cast<std::size_t>(at), b);
        if (k == own) {
          require(path.append(block, plan).ok(), "a path could not grow");
          require(path.mark_filled(at + b).ok() && path.commit().ok(), "a path could not grow");
          continue;
        }
        sequence leaf = value_of(stem.fork());
        fill_random(branch, random);
        if (shape.hostile) std::copy(block.begin(), block.end() - 1, branch.begin());
        require(
            leaf.append(branch, plan).ok() && leaf.mark_filled(at + b).ok() && leaf.commit().ok(),
            "a branch could not be added");
      }
    }
  }
  return {std::move(prompts), std::move(cache)};
}

}  // namespace radixkv::bench
