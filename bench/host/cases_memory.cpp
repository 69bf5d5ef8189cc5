// Host bytes of the index per cached token, everything that grows counted.
#include <algorithm>
#include <memory>
#include <optional>

#include "bench/host/workload.h"
#include "csrc/cli/token_expander.h"
#include "csrc/cli/trace_generator.h"
#include "csrc/cli/trace_reader.h"

namespace radixkv::bench {

namespace {

cli::trace read(const settings& how) {
  if (!how.trace.empty()) {
    cli::trace_options o;
    if (how.small()) o.limit = 200;
    return value_of(cli::read_trace(how.trace, o));
  }
  cli::generator_options o;
  o.requests = how.small() ? 300 : 12'000;
  return value_of(cli::generate_trace(o));
}

// Serves every request of the trace in order, at its time: what a policy remembers depends on it.
kv_cache replay(const cli::trace& trace, std::int64_t capacity_tokens, const std::string& policy) {
  const auto now = std::make_shared<double>(0);
  kv_cache cache = make_cache(capacity_tokens, policy, [now] { return *now; });
  cli::prompt_buffer prompts;
  step_plan plan;
  std::size_t end = 0;
  for (std::size_t r = 0; r < trace.requests.size(); ++r) {
    if (r == end) end = value_of(prompts.expand(trace, r, 1u << 24));
    const std::span<const token_id> prompt = prompts.prompt(r);
    if (static_cast<std::int64_t>(prompt.size()) > capacity_tokens) continue;
    const cli::trace_request& request = trace.requests[r];
    *now = request.seconds;
    plan.clear();
    sequence s = value_of(cache.open(prompt, trace.name_spaces[request.name_space], plan));
    require(s.mark_filled(s.tokens()).ok() && s.commit().ok(), "a request could not be committed");
    s.note_output(request.output_tokens);
  }
  return cache;
}

double bytes_per_token(const kv_cache& cache, sample& s, const std::string& what) {
  const cache_statistics now = cache.statistics();
  require(now.cached_tokens > 0, "nothing is cached");
  const double bytes =
      static_cast<double>(now.index_bytes) / static_cast<double>(now.cached_tokens);
  s.parts.emplace_back(what + ", bytes per token", bytes);
  s.parts.emplace_back(what + ", million tokens", static_cast<double>(now.cached_tokens) * 1e-6);
  s.parts.emplace_back(what + ", thousand nodes", static_cast<double>(now.nodes) * 1e-3);
  return bytes;
}

// The same prefixes in a cache that has never evicted.
kv_cache fresh_copy(const kv_cache& cache, const std::string& policy) {
  const cache_statistics now = cache.statistics();
  kv_cache fresh = make_cache(now.blocks * block_tokens, policy);
  // Visiting holds the lock of `cache` only.
  step_plan plan;
  cache.for_each_prefix([&](std::string_view space, std::span<const token_id> tokens) {
    plan.clear();
    sequence s = value_of(fresh.open(tokens, space, plan));
    require(s.mark_filled(s.tokens()).ok() && s.commit().ok(), "a prefix could not be committed");
    return true;
  });
  require(fresh.statistics().cached_tokens == now.cached_tokens,
          "the fresh cache holds something else");
  return fresh;
}

// Both policies are measured after the same trace: lru gives the case's value, the default one a
// part, since what it remembers beside the tree is its own matter.
runner prepare(std::int64_t capacity_tokens, bool against_fresh, const settings& how) {
  auto trace = std::make_shared<cli::trace>(read(how));
  return [trace, capacity_tokens, against_fresh] {
    sample s;
    const auto measure = [&](const std::string& policy) {
      const kv_cache cache = replay(*trace, capacity_tokens, policy);
      const std::string name = "after the trace, " + policy;
      const double after = bytes_per_token(cache, s, name);
      if (!against_fresh) return after;
      return after / bytes_per_token(fresh_copy(cache, policy), s, "fresh, " + policy);
    };
    s.value = measure(bench_policy);
    s.parts.emplace_back("the value with " + default_policy, measure(default_policy));
    return s;
  };
}

runner prepare_trace(const settings& how) {
  return prepare(how.small() ? 300'000 : 3'000'000, false, how);
}

runner prepare_churn(const settings& how) {
  return prepare(how.small() ? 200'000 : 1'000'000, true, how);
}

runner prepare_bushy(const settings& how) {
  return [how] {
    bushy_shape shape{40, 16 << 10, 2, false};
    if (how.small()) shape = {2, 1024, 2, false};
    sample s;
    s.value = bytes_per_token(make_bushy(shape).cache, s, "cached");
    return s;
  };
}

}  // namespace

// One run each: bytes are the same every time.
void add_memory_cases(std::vector<host_case>& cases) {
  cases.push_back({"index_bytes_per_token", "bytes/token", 5.5,
                   "nothing: index_bytes ÷ cached_tokens after the trace at 3 M tokens", "kv_cache",
                   1, prepare_trace});
  cases.push_back({"index_bytes_per_token_bushy", "bytes/token", 11,
                   "nothing: the same for a branch every 16 tokens", "kv_cache", 1, prepare_bushy});
  cases.push_back({"index_bytes_after_churn", "ratio", 1.3,
                   "a fresh cache with the same prefixes, after the whole trace at 1 M tokens",
                   "kv_cache", 1, prepare_churn});
}

}  // namespace radixkv::bench
