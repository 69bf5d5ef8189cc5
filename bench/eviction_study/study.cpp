#include "bench/eviction_study/study.h"

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <utility>

#include "bench/eviction_study/sim_tree.h"
#include "csrc/core/eviction/retention.h"

namespace radixkv::study {

namespace {

// Of this thread: other programs on the machine don't count.
double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// An id stands for its whole prefix, so its hash is the path's.
void path_hashes(const path& p, std::uint32_t chunk_blocks, std::uint32_t chunks,
                 std::vector<std::uint64_t>& out) {
  out.resize(chunks);
  for (std::uint32_t i = 0; i < chunks; ++i) {
    std::uint64_t x = (p.at((i + 1) * chunk_blocks - 1) + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
    out[i] = x ^ (x >> 32);
  }
}

}  // namespace

namespace {

outcome drive(const workload& w, eviction_policy& policy, detail::retention* announce,
              std::uint32_t lookahead, std::int64_t capacity_tokens, std::uint32_t block_tokens) {
  outcome o;
  sim_tree tree(policy, capacity_tokens / block_tokens, block_tokens);
  const std::uint32_t chunk = policy.path_hash_tokens(block_tokens);
  const auto path_of = [&](const study_request& r) {
    return path{w.ids.data() + r.first_id, id_tokens / block_tokens,
                (r.prompt_tokens + block_tokens - 1) / block_tokens};
  };
  std::vector<std::uint64_t> hashes;
  std::deque<detail::mark_id> announced;
  std::size_t next = 0;
  const double start = cpu_seconds();
  for (std::size_t i = 0; i < w.requests.size(); ++i) {
    const study_request& r = w.requests[i];
    const path p = path_of(r);
    if (announce != nullptr) {
      for (; next < w.requests.size() && next <= i + lookahead; ++next) {
        const path q = path_of(w.requests[next]);
        path_hashes(q, chunk / block_tokens, w.requests[next].prompt_tokens / chunk, hashes);
        const auto [node, blocks] = tree.cached_prefix(q);
        announced.push_back(announce->announce(hashes, node, blocks));
      }
    }
    const auto h = tree.open(p);
    if (announce != nullptr) {
      announce->release(announced.front());
      announced.pop_front();
    }
    o.blocks += p.blocks;
    o.hit_blocks += tree.matched(h);
    request_info info;
    info.seconds = r.seconds;
    info.prompt_tokens = r.prompt_tokens;
    info.output_tokens = r.output_tokens;
    if (chunk != 0) {
      path_hashes(p, chunk / block_tokens, r.prompt_tokens / chunk, hashes);
      info.path_hashes = hashes;
    }
    tree.close(h, info);
    if (!tree.failure().empty()) {
      std::fprintf(stderr, "%s: %s\n", std::string(policy.name()).c_str(), tree.failure().c_str());
      std::abort();
    }
  }
  o.microseconds = 1e6 * (cpu_seconds() - start) / static_cast<double>(w.requests.size());
  o.policy_bytes = policy.bytes();
  return o;
}

}  // namespace

outcome run(const workload& w, eviction_policy& policy, std::int64_t capacity_tokens,
            std::uint32_t block_tokens) {
  return drive(w, policy, nullptr, 0, capacity_tokens, block_tokens);
}

outcome run_announced(const workload& w, const std::string& policy, std::int64_t capacity_tokens,
                      std::uint32_t block_tokens, std::uint32_t lookahead) {
  detail::retention announced(std::move(make_policy(policy)).value());
  return drive(w, announced, &announced, lookahead, capacity_tokens, block_tokens);
}

}  // namespace radixkv::study
