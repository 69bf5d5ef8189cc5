#include "csrc/cli/soak_load.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include <unistd.h>

#include "csrc/cli/soak_worker.h"
#include "csrc/cli/thread_team.h"

namespace radixkv::cli {
namespace {

constexpr std::int64_t blocks = 4096;
constexpr std::uint32_t block_tokens = 16;
constexpr std::int32_t logits_rows = 64;
// Growth of the resident memory after the warm-up that is taken for growth: what is not a leak is
// some 2 % (histories of policies, arenas of threads), and the least leak of a call shows in
// minutes.
constexpr double growth_share = 0.05;
constexpr std::int64_t growth_bytes = 8 << 20;

std::int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::int64_t mapped = 0, resident = 0;
  statm >> mapped >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

using clock = std::chrono::steady_clock;

}  // namespace

result<soak_result> soak(const soak_config& config) {
  cache_options options;
  options.blocks = blocks;
  options.block_tokens = block_tokens;
  options.logits_rows = logits_rows;
  options.policy = config.policy;
  result<kv_cache> cache = kv_cache::create(std::move(options));
  if (!cache) return cache.error();
  result<std::unique_ptr<kv_memory>> memory =
      config.cuda ? make_cuda_memory(blocks, block_tokens) : make_host_memory(blocks, block_tokens);
  if (!memory) return memory.error();
  soak_shared shared{*cache, **memory, config.verify, {}, {}, {}, {}, {}, {}};
  shared.logits.resize(logits_rows);

  std::vector<std::unique_ptr<soak_worker>> workers;
  for (unsigned i = 0; i < config.threads; ++i) {
    workers.push_back(std::make_unique<soak_worker>(shared, config.seed * 1000 + i));
  }
  thread_team team(shared.stop);
  for (auto& w : workers) {
    if (status s = team.start([&w] { w->run(); }, config.threads); !s) return s.error();
  }

  soak_result r;
  const auto start = clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(clock::now() - start).count(); };
  while (!shared.stop && seconds() < config.seconds) {
    std::this_thread::sleep_for(std::chrono::duration<double>(
        std::clamp(config.seconds - seconds(), 0.001, std::min(1.0, config.seconds / 10))));
    if (r.rss_start_bytes == 0 && seconds() >= config.seconds / 10) {
      r.rss_start_bytes = resident_bytes();
    }
    if (std::string wrong = cache->check_invariants(); !wrong.empty()) shared.violated(wrong);
  }
  shared.stop = true;
  team.join();
  if (shared.no_memory)
    return error{errc::out_of_memory, "no memory for what a thread keeps in mind"};
  r.rss_end_bytes = resident_bytes();

  for (const auto& w : workers) {
    r.operations += w->operations;
    r.faults_injected += w->faults;
    r.wrong_bytes += w->wrong_bytes;
    r.checked_bytes += w->checked_bytes;
  }
  const cache_statistics closed = cache->statistics();
  r.leaked_blocks = closed.blocks_used - closed.blocks_cached;
  if (std::string wrong = cache->check_invariants(); !wrong.empty()) shared.violated(wrong);
  cache->clear();
  const cache_statistics cleared = cache->statistics();
  r.leaked_blocks = std::max(r.leaked_blocks, cleared.blocks - cleared.blocks_free);
  const std::int64_t hints =
      cleared.announcements + cleared.pinned_prefixes + cleared.sequence_hints;
  if (cleared.sequences != 0 || cleared.nodes != 0 || cleared.logits_used != 0 || hints != 0) {
    shared.violated("after everything was closed and cleared, " +
                    std::to_string(cleared.sequences) + " sequences, " +
                    std::to_string(cleared.nodes) + " nodes, " +
                    std::to_string(cleared.logits_used) + " rows of logits and " +
                    std::to_string(hints) + " hints are left");
  }
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  // Under sanitizers most resident memory is theirs, and grows.
  r.rss_limit_bytes =
      growth_bytes +
      static_cast<std::int64_t>((1 + growth_share) * static_cast<double>(r.rss_start_bytes));
#endif
  r.violation = shared.violation;
  return r;
}

}  // namespace radixkv::cli
