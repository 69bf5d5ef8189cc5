#include "csrc/cli/replay_driver.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <new>
#include <optional>
#include <vector>

#include "csrc/cli/belady.h"
#include "csrc/cli/floor_meter.h"
#include "csrc/cli/progress_bar.h"
#include "csrc/cli/replay_worker.h"
#include "csrc/cli/thread_team.h"
#include "csrc/core/stage_timer.h"

namespace radixkv::cli {
namespace {

constexpr std::uint64_t tokens_at_a_time = std::uint64_t{1} << 28;  // 1 GiB

// No prompt is expanded that is longer than all of them together may be.
status check_prompts(const trace& source) {
  for (const trace_request& r : source.requests) {
    if (r.prompt_tokens <= tokens_at_a_time) continue;
    return {errc::invalid_argument,
            "request " + std::to_string(&r - source.requests.data()) + " has a prompt of " +
                std::to_string(r.prompt_tokens) + " tokens, more than the limit of " +
                std::to_string(tokens_at_a_time) + " that are expanded at a time"};
  }
  return {};
}

using wall_clock = std::chrono::steady_clock;

double seconds_since(wall_clock::time_point start) {
  return std::chrono::duration<double>(wall_clock::now() - start).count();
}

// Serves one expanded range with all workers. Errors: the first one's, and where there can be no
// more threads.
status serve_range(replay_shared& shared, std::vector<replay_worker>& workers, progress_bar& bar) {
  thread_team team(shared.stop);
  for (std::size_t w = 1; w < workers.size(); ++w) {
    const auto others = static_cast<unsigned>(workers.size() - 1);
    if (status s =
            team.start([&shared, &worker = workers[w]] { worker.run(shared, nullptr); }, others);
        !s) {
      return s;
    }
  }
  workers[0].run(shared, &bar);
  team.join();
  return shared.failure;
}

result<std::unique_ptr<verify_engine>> make_engine(const replay_config& config,
                                                   std::int64_t blocks) {
  if (!config.verify && config.executor == executor_kind::host) {
    return std::unique_ptr<verify_engine>();
  }
  auto memory = config.executor == executor_kind::host
                    ? make_host_memory(blocks, config.block_tokens)
                    : make_cuda_memory(blocks, config.block_tokens);
  if (!memory) return memory.error();
  return std::make_unique<verify_engine>(std::move(*memory), config.block_tokens, config.verify);
}

}  // namespace

result<std::int64_t> pool_blocks(const trace& source, const replay_config& config) {
  std::uint64_t blocks = config.pool.tokens / config.block_tokens;
  if (config.pool.unlimited) {
    // No request can need more than blocks for all its tokens.
    blocks = 1;
    for (const trace_request& r : source.requests) {
      blocks += (std::uint64_t{r.prompt_tokens} + config.block_tokens - 1) / config.block_tokens;
    }
  }
  if (blocks < 1) {
    return error{errc::invalid_argument, "a capacity of " + config.pool.text +
                                             " tokens is less than one block of " +
                                             std::to_string(config.block_tokens)};
  }
  if (blocks > static_cast<std::uint64_t>(max_blocks)) {
    return error{errc::invalid_argument,
                 "a capacity of " + config.pool.text + " tokens takes " + std::to_string(blocks) +
                     " blocks of " + std::to_string(config.block_tokens) +
                     ", more than the limit of " + std::to_string(max_blocks)};
  }
  return static_cast<std::int64_t>(blocks);
}

// The offline optimum: a calculation over the trace, with no cache and no timings.
static result<replay_result> replay_offline(const trace& source, const replay_config& config,
                                            std::int64_t blocks) try {
  const belady_result best =
      belady(source, blocks, config.block_tokens, cache_options{}.min_prefix_tokens);
  replay_result r;
  r.source = source.source;
  r.policy = config.policy;
  r.capacity = config.pool.text;
  r.capacity_tokens = config.pool.unlimited
                          ? static_cast<std::uint64_t>(blocks) * config.block_tokens
                          : config.pool.tokens;
  r.block_tokens = config.block_tokens;
  r.requests = source.requests.size();
  r.prompt_tokens = source.prompt_tokens();
  r.hit_tokens = best.hit_tokens;
  r.blocks = best.blocks;
  r.hit_blocks = best.hit_blocks;
  r.evicted_blocks = best.evicted_blocks;
  if (config.verify) r.verify = verify_counts{};  // it serves nothing
  return r;
} catch (const std::bad_alloc&) {
  return {errc::out_of_memory, "no memory to look ahead over the whole trace"};
}

result<replay_result> replay(const trace& source, const replay_config& config,
                             prompt_buffer& prompts) {
  result<std::int64_t> blocks = pool_blocks(source, config);
  if (!blocks) return blocks.error();
  if (config.policy == "belady") return replay_offline(source, config, *blocks);
  if (status s = check_prompts(source); !s) return s.error();
  trace_clock clock;
  cache_options options;
  options.blocks = *blocks;
  options.block_tokens = config.block_tokens;
  options.policy = config.policy;
  // Requests are timed, not the system's first touch of memory that all of them together will use.
  options.prefault =
      static_cast<std::uint64_t>(*blocks) * config.block_tokens <= 2 * source.prompt_tokens();
  options.max_announcements =
      std::max(options.max_announcements, std::int64_t{config.lookahead} + config.threads + 1);
  options.clock = [&clock] { return clock.seconds(); };
  result<kv_cache> cache = kv_cache::create(options);
  if (!cache) return cache.error();
  auto engine = make_engine(config, *blocks);
  if (!engine) return engine.error();
  floor_meter floor;
  const std::uint64_t pool_tokens = static_cast<std::uint64_t>(*blocks) * config.block_tokens;
  if (status s = floor.prepare(pool_tokens); !s) return s.error();

  const auto everything = wall_clock::now();
  const std::uint64_t first_tick = detail::ticks_now();
  double serving_seconds = 0;
  std::vector<replay_worker> workers(config.threads);
  std::optional<lookahead_queue> lookahead;
  if (config.lookahead > 0) lookahead.emplace(source, prompts, *cache, config.lookahead);
  {
    progress_bar bar(config.policy + " " + config.pool.text, source.requests.size());
    std::vector<std::uint32_t> matched;
    for (std::size_t first = 0; first < source.requests.size();) {
      result<std::size_t> end = prompts.expand(source, first, tokens_at_a_time);
      if (!end) return end.error();
      matched.assign(*end - first, 0);
      replay_shared shared{source, prompts, *cache, clock, engine->get(), config.block_tokens};
      shared.first = first;
      shared.matched = matched;
      shared.lookahead = lookahead ? &*lookahead : nullptr;
      const auto start = wall_clock::now();
      if (status s = serve_range(shared, workers, bar); !s) return s.error();
      serving_seconds += seconds_since(start);
      if (status s = floor.measure(prompts, first, matched); !s) return s.error();
      first = *end;
    }
  }
  const double us_per_tick =
      seconds_since(everything) * 1e6 / static_cast<double>(detail::ticks_now() - first_tick);

  replay_worker sum = std::move(workers[0]);
  for (std::size_t w = 1; w < workers.size(); ++w) sum.merge(workers[w]);
  const cache_statistics statistics = cache->statistics();

  replay_result r;
  r.source = source.source;
  r.policy = config.policy;
  if (*engine) r.executor = (*engine)->memory().name();
  r.capacity = config.pool.text;
  r.capacity_tokens = config.pool.unlimited ? pool_tokens : config.pool.tokens;
  r.block_tokens = config.block_tokens;
  r.threads = config.threads;
  r.lookahead = config.lookahead;
  r.requests = sum.requests;
  r.refused_requests = sum.refused;
  r.prompt_tokens = sum.prompt_tokens;
  r.hit_tokens = sum.hit_tokens;
  r.blocks = sum.blocks;
  r.hit_blocks = sum.hit_blocks;
  r.evicted_blocks = static_cast<std::uint64_t>(statistics.evicted_blocks);
  r.copied_blocks = static_cast<std::uint64_t>(statistics.copied_blocks);
  r.requests_per_second = static_cast<double>(sum.requests) / std::max(serving_seconds, 1e-9);
  if (statistics.cached_tokens > 0) {
    r.index_bytes_per_token =
        static_cast<double>(statistics.index_bytes) / static_cast<double>(statistics.cached_tokens);
  }
  r.policy_statistics = statistics.policy;
  if (config.verify) r.verify = (*engine)->counts();
  r.us = replay_times{sum.match.summary(us_per_tick),   sum.allocate.summary(us_per_tick),
                      sum.commit.summary(us_per_tick),  sum.evict.summary(us_per_tick),
                      sum.total.summary(us_per_tick),   floor.mean_us(),
                      sum.announce.summary(us_per_tick)};
  return r;
}

}  // namespace radixkv::cli
