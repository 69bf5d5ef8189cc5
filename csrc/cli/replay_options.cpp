// Checks what was typed after `radixkv replay`.
#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <utility>

#include "csrc/cli/quantity.h"
#include "csrc/cli/replay_command.h"
#include "csrc/cli/report.h"
#include "csrc/cli/text.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::cli {
namespace {

constexpr const char* online_policies[] = {"lru", "fifo", "lfu", "slru", "s3fifo", "reuse_index"};

error named(const char* option, const error& e) {
  return {e.code, std::string(option) + ": " + e.message};
}

result<std::vector<std::string>> policies(const std::string& text) {
  if (text == "all") return policy_names();
  result<std::vector<std::string>> names = split_list(text);
  if (!names) return named("--policy", names.error());
  for (auto at = names->begin(); at != names->end(); ++at) {
    const std::string& name = *at;
    if (std::find(names->begin(), at, name) != at) {
      return error{errc::invalid_argument, "--policy: " + printable(name) + " stands twice"};
    }
    if (name == "belady") continue;  // offline: no policy of a cache
    if (name == "all") {
      return error{errc::invalid_argument, "--policy: all stands alone, not in a list"};
    }
    if (auto policy = make_policy(name); !policy) {
      return error{policy.error().code,
                   "--policy: " + policy.error().message + ", belady; nor is it all"};
    }
  }
  return names;
}

result<std::vector<capacity>> capacities(const std::string& text) {
  result<std::vector<std::string>> parts = split_list(text);
  if (!parts) return named("--capacity-tokens", parts.error());
  std::vector<capacity> all;
  for (const std::string& part : *parts) {
    result<capacity> one = parse_capacity(part);
    if (!one) return named("--capacity-tokens", one.error());
    for (const capacity& other : all) {
      if (one->unlimited != other.unlimited || one->tokens != other.tokens) continue;
      return error{errc::invalid_argument, "--capacity-tokens: " + printable(part) + " is " +
                                               printable(other.text) + " again"};
    }
    all.push_back(*one);
  }
  return all;
}

// Files are written last, after what may have taken hours.
status check_files(const replay_arguments& a) {
  const std::pair<const char*, const std::optional<std::string>&> files[] = {
      {"TRACE", a.trace}, {"--json", a.json}, {"--csv", a.csv}, {"--plot", a.plot}};
  for (std::size_t i = 0; i < std::size(files); ++i) {
    const auto& [option, path] = files[i];
    if (!path) continue;
    if (path->empty()) {
      return {errc::invalid_argument, std::string(option) + " is an empty name of a file"};
    }
    if (i == 0) continue;
    if (status s = check_writable(*path); !s) return named(option, s.error());
    for (std::size_t k = 0; k < i; ++k) {
      const auto& [other, other_path] = files[k];
      if (!other_path || !same_file(*path, *other_path)) continue;
      return {errc::invalid_argument,
              std::string(option) + ": " + printable(*path) + " is the file of " + other};
    }
  }
  return {};
}

}  // namespace

std::vector<std::string> policy_names() {
  std::vector<std::string> names;
  for (const char* name : online_policies) {
    if (make_policy(name).ok()) names.emplace_back(name);
  }
  names.emplace_back("belady");
  return names;
}

result<replay_plan> check(const replay_arguments& arguments) {
  replay_plan plan;
  replay_config config;
  config.verify = arguments.verify;

  const auto set = [](auto& out, result<std::uint64_t> value) {
    if (value) out = static_cast<std::remove_reference_t<decltype(out)>>(*value);
    return value.ok() ? status() : status(value.error());
  };
  if (status s = set(config.block_tokens,
                     whole_number("--block-tokens", arguments.block_tokens, 1, max_block_tokens));
      !s) {
    return s.error();
  }
  if ((config.block_tokens & (config.block_tokens - 1)) != 0) {
    return error{errc::invalid_argument, "--block-tokens is " + arguments.block_tokens +
                                             ", not a power of two of 1 … " +
                                             std::to_string(max_block_tokens)};
  }
  if (status s = set(config.threads, whole_number("--threads", arguments.threads, 1, 256)); !s) {
    return s.error();
  }
  if (status s =
          set(config.lookahead, whole_number("--lookahead", arguments.lookahead, 0, 1'000'000));
      !s) {
    return s.error();
  }
  if (arguments.limit) {
    if (status s = set(plan.limit, whole_number("--limit", *arguments.limit, 1, 1'000'000'000));
        !s) {
      return s.error();
    }
  }
  if (status s = set(plan.generator.seed, whole_number("--seed", arguments.seed, 0, UINT64_MAX));
      !s) {
    return s.error();
  }
  if (status s = set(plan.generator.requests,
                     whole_number("--requests", arguments.requests, 1, 100'000'000));
      !s) {
    return s.error();
  }
  if (status s =
          set(plan.trace_block_tokens,
              whole_number("--trace-block-tokens", arguments.trace_block_tokens, 1, 1u << 20));
      !s) {
    return s.error();
  }
  if (arguments.executor == "cuda") {
    config.executor = executor_kind::cuda;
  } else if (arguments.executor != "host") {
    return error{errc::invalid_argument,
                 "--executor is " + printable(arguments.executor) + ", not host or cuda"};
  }

  result<std::vector<std::string>> names = policies(arguments.policy);
  if (!names) return names.error();
  result<std::vector<capacity>> sizes = capacities(arguments.capacity_tokens);
  if (!sizes) return sizes.error();
  for (const capacity& size : *sizes) {
    for (const std::string& name : *names) {
      config.policy = name;
      config.pool = size;
      plan.runs.push_back(config);
    }
  }
  if (status s = check_files(arguments); !s) return s.error();
  // What does not depend on the workload is refused before it is read.
  for (const replay_config& run : plan.runs) {
    if (run.pool.unlimited) continue;
    if (auto blocks = pool_blocks({}, run); !blocks) {
      return named("--capacity-tokens", blocks.error());
    }
  }
  return plan;
}

}  // namespace radixkv::cli
