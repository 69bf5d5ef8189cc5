// Hit rates of eviction policies over the bare tree: a trace, or generated workloads.
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "bench/eviction_study/constants.h"
#include "bench/eviction_study/study.h"
#include "bench/eviction_study/workload.h"
#include "csrc/core/eviction/reuse_index.h"
#include "radixkv/eviction_policy.h"

namespace {

using namespace radixkv;
using namespace radixkv::study;

void table(const workload& w, const std::vector<std::string>& policies,
           const std::vector<double>& capacities, std::uint32_t block_tokens,
           std::uint32_t lookahead, const detail::reuse_index_options& options) {
  std::map<double, double> lru;
  for (const std::string& name : policies) {
    std::printf("%-22s %4u %-12s", w.name.c_str(), block_tokens, name.c_str());
    double logs = 0, least = 1e9, us = 0, bytes = 0;
    for (const double millions : capacities) {
      result<std::unique_ptr<eviction_policy>> policy = make_policy(name);
      if (!policy) {
        std::printf(" %s\n", policy.error().message.c_str());
        return;
      }
      if (name == "reuse_index")
        policy =
            std::unique_ptr<eviction_policy>(std::make_unique<detail::reuse_index_policy>(options));
      const auto capacity = static_cast<std::int64_t>(millions * 1'000'000);
      const outcome o = lookahead == 0 || name == "lru"
                            ? run(w, **policy, capacity, block_tokens)
                            : run_announced(w, name, capacity, block_tokens, lookahead);
      if (name == "lru") lru[millions] = o.hit_rate();
      std::printf("  %.4f", o.hit_rate());
      const double ratio = lru[millions] > 0 ? o.hit_rate() / lru[millions] : 1;
      logs += std::log(std::max(ratio, 1e-9));
      least = std::min(least, ratio);
      us += o.microseconds;
      bytes = std::max(bytes, static_cast<double>(o.policy_bytes) / (millions * 1e6));
    }
    const auto n = static_cast<double>(capacities.size());
    std::printf("  geomean/lru %.3f  least %.3f  %.2f us  %.2f B/token\n", std::exp(logs / n),
                least, us / n, bytes);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::string trace;
  std::vector<std::string> policies{"lru"}, workloads;
  std::vector<double> capacities{0.5, 1, 3, 10};
  std::vector<std::uint32_t> block_tokens{512};
  std::uint32_t requests = 6000, lookahead = 0;
  std::uint64_t seed = 1;
  CLI::App app{"Hit rates of eviction policies, without a cache around them"};
  app.add_option("--trace", trace, "trace file");
  app.add_option("--policy", policies, "policies; lru first gives ratios")->delimiter(',');
  app.add_option("--capacity", capacities, "millions of tokens")->delimiter(',');
  app.add_option("--block-tokens", block_tokens, "a divisor of 512")->delimiter(',');
  app.add_option("--workload", workloads, "generated workloads, or 'all'")->delimiter(',');
  app.add_option("--requests", requests, "of a generated workload");
  app.add_option("--seed", seed, "of a generated workload");
  app.add_option("--lookahead", lookahead, "announce so many requests (not to lru)");
  std::vector<std::string> settings;
  app.add_option("--set", settings, "NAME=VALUE: a constant of reuse_index")->delimiter(',');
  CLI11_PARSE(app, argc, argv);
  detail::reuse_index_options options;
  for (const std::string& s : settings)
    if (const status done = set_constant(options, s); !done) {
      std::fprintf(stderr, "%s\n", done.error().message.c_str());
      return 2;
    }
  for (const std::uint32_t bt : block_tokens)
    if (bt == 0 || id_tokens % bt != 0) {
      std::fprintf(stderr, "--block-tokens %u does not divide %u\n", bt, id_tokens);
      return 2;
    }

  std::vector<workload> all;
  if (!trace.empty()) {
    auto w = read_trace(trace);
    if (!w) {
      std::fprintf(stderr, "%s\n", w.error().message.c_str());
      return 1;
    }
    all.push_back(std::move(*w));
  }
  if (workloads == std::vector<std::string>{"all"}) workloads = generated_workloads();
  for (const std::string& name : workloads) all.push_back(generate(name, requests, seed));
  for (const workload& w : all)
    for (const std::uint32_t bt : block_tokens)
      table(w, policies, capacities, bt, lookahead, options);
  return 0;
}
