#include "csrc/cli/soak_command.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>

#include <nlohmann/json.hpp>

#include "csrc/cli/quantity.h"
#include "csrc/cli/report.h"
#include "csrc/cli/text.h"
#include "radixkv/eviction_policy.h"

namespace radixkv::cli {
namespace {

int fail(int code, const error& e) {
  std::fprintf(stderr, "radixkv soak: %s\n", one_line(e.message).c_str());
  return code;
}

std::string to_json(const soak_result& r) {
  nlohmann::ordered_json document;
  document["operations"] = r.operations;
  document["faults_injected"] = r.faults_injected;
  document["wrong_bytes"] = r.wrong_bytes;  // 0 without --verify, too: nobody looked
  document["leaked_blocks"] = r.leaked_blocks;
  document["rss_start_bytes"] = r.rss_start_bytes;
  document["rss_end_bytes"] = r.rss_end_bytes;
  return document.dump(2) + "\n";
}

}  // namespace

result<soak_config> check(const soak_arguments& a) {
  constexpr double most_minutes = 60 * 24 * 365;
  soak_config c;
  char* end = nullptr;
  const double minutes = std::strtod(a.minutes.c_str(), &end);
  if (a.minutes.empty() || *end != '\0' || !(minutes > 0 && minutes <= most_minutes)) {
    return error{errc::invalid_argument, "--minutes: " + printable(a.minutes) +
                                             " is not a number above 0 and up to 525600"};
  }
  c.seconds = minutes * 60;
  if (a.executor != "host" && a.executor != "cuda") {
    return error{errc::invalid_argument,
                 "--executor: " + printable(a.executor) + " is not host or cuda"};
  }
  c.cuda = a.executor == "cuda";
  if (auto policy = make_policy(a.policy); !policy) {
    return error{policy.error().code, "--policy: " + policy.error().message};
  }
  c.policy = a.policy;
  const result<std::uint64_t> threads = whole_number("--threads", a.threads, 1, 256);
  if (!threads) return threads.error();
  c.threads = static_cast<unsigned>(*threads);
  const result<std::uint64_t> seed = whole_number("--seed", a.seed, 0, UINT64_MAX);
  if (!seed) return seed.error();
  c.seed = *seed;
  if (a.json) {
    if (a.json->empty()) {
      return error{errc::invalid_argument, "--json is an empty name of a file"};
    }
    if (status s = check_writable(*a.json); !s) {
      return error{s.error().code, "--json: " + s.error().message};
    }
  }
  c.verify = a.verify;
  return c;
}

int run_soak(const soak_arguments& arguments) {
  const result<soak_config> config = check(arguments);
  if (!config) return fail(config.error().code == errc::io ? 1 : 2, config.error());
  const result<soak_result> r = soak(*config);
  if (!r) return fail(1, r.error());
  const std::string verified =
      config->verify ? human(static_cast<double>(r->checked_bytes)) +
                           " bytes verified: " + std::to_string(r->wrong_bytes) + " wrong, "
                     : "no bytes verified: ";
  std::printf(
      "%s operations, %lld faults injected, %s%lld blocks leaked; "
      "resident %.1f MB after warm-up, %.1f MB at the end\n",
      human(static_cast<double>(r->operations)).c_str(), static_cast<long long>(r->faults_injected),
      verified.c_str(), static_cast<long long>(r->leaked_blocks),
      static_cast<double>(r->rss_start_bytes) / 1e6, static_cast<double>(r->rss_end_bytes) / 1e6);
  std::fflush(stdout);
  if (arguments.json) {
    if (status s = write_file(*arguments.json, to_json(*r)); !s) return fail(1, s.error());
  }
  if (!r->violation.empty()) return fail(1, {errc::corrupt, r->violation});
  if (r->wrong_bytes != 0 || r->leaked_blocks != 0) {
    return fail(1, {errc::corrupt, std::to_string(r->wrong_bytes) + " wrong bytes and " +
                                       std::to_string(r->leaked_blocks) +
                                       " leaked blocks, the limits are 0"});
  }
  if (r->rss_limit_bytes != 0 && r->rss_end_bytes > r->rss_limit_bytes) {
    return fail(
        1, {errc::corrupt, "resident memory grew from " + std::to_string(r->rss_start_bytes) +
                               " bytes to " + std::to_string(r->rss_end_bytes) + ", the limit is " +
                               std::to_string(r->rss_limit_bytes)});
  }
  return 0;
}

}  // namespace radixkv::cli
