#include "csrc/cli/replay_command.h"

#include <algorithm>
#include <cstdio>

#include "csrc/cli/plot.h"
#include "csrc/cli/report.h"
#include "csrc/cli/report_table.h"
#include "csrc/cli/text.h"
#include "csrc/cli/trace_reader.h"

namespace radixkv::cli {
namespace {

int fail(int code, const error& e) {
  std::fprintf(stderr, "radixkv replay: %s\n", one_line(e.message).c_str());
  return code;
}

result<trace> workload(const replay_arguments& arguments, const replay_plan& plan) {
  if (arguments.trace) {
    trace_options options;
    options.block_tokens = plan.trace_block_tokens;
    options.limit = static_cast<std::size_t>(plan.limit);
    return read_trace(*arguments.trace, options);
  }
  generator_options options = plan.generator;
  options.requests = std::min<std::size_t>(options.requests, plan.limit);
  return generate_trace(options);
}

status write_files(const replay_arguments& arguments, std::span<const replay_result> results) {
  if (arguments.json) {
    // Lists were asked for, or --policy all: an array, even of one.
    const bool list = results.size() > 1 || arguments.policy == "all" ||
                      arguments.policy.find(',') != std::string::npos ||
                      arguments.capacity_tokens.find(',') != std::string::npos;
    if (status s = write_file(*arguments.json, to_json(results, list)); !s) return s;
  }
  if (arguments.csv) {
    if (status s = write_file(*arguments.csv, to_csv(results)); !s) return s;
  }
  if (arguments.plot) return write_file(*arguments.plot, to_svg(results));
  return {};
}

}  // namespace

int run_replay(const replay_arguments& arguments) {
  result<replay_plan> plan = check(arguments);
  if (!plan) return fail(plan.error().code == errc::io ? 1 : 2, plan.error());
  result<trace> source = workload(arguments, *plan);
  if (!source) return fail(1, source.error());

  std::vector<replay_result> results;
  prompt_buffer prompts;
  std::uint64_t wrong = 0;
  for (const replay_config& run : plan->runs) {
    result<replay_result> r = replay(*source, run, prompts);
    if (!r) return fail(1, r.error());
    std::fputs(summary(*r).c_str(), stdout);
    std::fflush(stdout);
    if (r->verify) wrong += r->verify->wrong_bytes;
    results.push_back(std::move(*r));
  }
  if (results.size() > 1) std::fputs(("\n" + table(results)).c_str(), stdout);
  if (status s = write_files(arguments, results); !s) return fail(1, s.error());
  if (wrong != 0) {
    return fail(
        1, {errc::corrupt, std::to_string(wrong) + " wrong bytes were served, the limit is 0"});
  }
  return 0;
}

}  // namespace radixkv::cli
