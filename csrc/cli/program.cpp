#include "csrc/cli/program.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "csrc/cli/replay_command.h"
#include "csrc/cli/soak_command.h"
#include "csrc/cli/text.h"

namespace radixkv::cli {
namespace {

// An option that may be left out, but not empty: CLI11's own std::optional takes "" for that.
void add_optional(CLI::App& c, const char* name, std::optional<std::string>& value,
                  const char* help) {
  c.add_option_function<std::string>(
      name, [&value](const std::string& typed) { value = typed; }, help);
}

void add_replay(CLI::App& app, replay_arguments& a) {
  CLI::App* const c = app.add_subcommand(
      "replay", "Drive the whole manager with a recorded trace, or a generated workload");
  std::string policies = "all";
  for (const std::string& name : policy_names()) policies += ", " + name;

  add_optional(*c, "TRACE", a.trace,
               "JSON lines with timestamp, input_length, output_length and hash_ids; without it, "
               "conversations are generated");
  c->add_option("--capacity-tokens", a.capacity_tokens,
                "tokens in the pool: a number, 300K, 3M, unlimited, or a list of different ones")
      ->capture_default_str();
  c->add_option("--block-tokens", a.block_tokens, "tokens per block, a power of two up to 4096")
      ->capture_default_str();
  c->add_option("--policy", a.policy, "what to evict: a list, each once, of " + policies)
      ->capture_default_str();
  c->add_option("--lookahead", a.lookahead,
                "announce so many of the next requests to the cache, as a waiting queue would")
      ->capture_default_str();
  c->add_option("--threads", a.threads, "threads that serve requests")->capture_default_str();
  add_optional(*c, "--limit", a.limit, "stop after so many requests");
  c->add_flag("--verify", a.verify,
              "compute bytes for every token and check those that are served");
  c->add_option("--executor", a.executor, "where plans run: host or cuda")->capture_default_str();
  add_optional(*c, "--json", a.json, "write what was measured to a file; an array for lists");
  add_optional(*c, "--csv", a.csv, "write hit rates to a file");
  add_optional(*c, "--plot", a.plot, "draw hit rates against capacity, as SVG");
  c->add_option("--seed", a.seed, "of the generated conversations")->capture_default_str();
  c->add_option("--requests", a.requests, "how many to generate")->capture_default_str();
  c->add_option("--trace-block-tokens", a.trace_block_tokens, "tokens per hash id of the trace")
      ->capture_default_str();
}

void add_soak(CLI::App& app, soak_arguments& a) {
  CLI::App* const c = app.add_subcommand(
      "soak", "Load one cache from several threads, inject faults, and see that nothing breaks");
  c->add_option("--minutes", a.minutes, "how long, fractions allowed")->capture_default_str();
  c->add_flag("--verify", a.verify, "compare every byte that is served");
  c->add_option("--executor", a.executor, "where plans run: host or cuda")->capture_default_str();
  c->add_option("--policy", a.policy, "what to evict")->capture_default_str();
  c->add_option("--threads", a.threads, "threads that serve requests")->capture_default_str();
  c->add_option("--seed", a.seed, "of the load")->capture_default_str();
  add_optional(*c, "--json", a.json, "write what was counted to a file");
}

int no_command(const std::string& name, const char* wanted = "a command") {
  std::fprintf(stderr, "radixkv: %s is not %s (radixkv help)\n", printable(name).c_str(), wanted);
  return 2;
}

// The exit code, if what was printed has arrived.
int finished(int code) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  std::fprintf(stderr, "radixkv: cannot write to standard output: %s\n", std::strerror(errno));
  return code != 0 ? code : 1;
}

}  // namespace

int run_program(int argc, const char* const* argv) {
  CLI::App app("radixkv: the KV-cache manager that GPU serving stacks embed", "radixkv");
  app.set_version_flag("--version", "radixkv " RADIXKV_VERSION);
  app.require_subcommand(1);
  replay_arguments replay;
  add_replay(app, replay);
  soak_arguments soaking;
  add_soak(app, soaking);
  std::string about;
  app.add_subcommand("help", "Print this help, or a command's")->add_option("COMMAND", about);
  // Once parsed, help() would speak of the command that was found.
  const std::string help = app.help("", CLI::AppFormatMode::All);
  const std::string command = argc > 1 ? argv[1] : "";
  const auto commands = app.get_subcommands([](CLI::App*) { return true; });
  const auto find = [&](const std::string& name) -> const CLI::App* {
    const auto at = std::find_if(commands.begin(), commands.end(),
                                 [&](const CLI::App* c) { return c->get_name() == name; });
    return at == commands.end() ? nullptr : *at;
  };
  if (!command.empty() && command[0] != '-' && !find(command)) return no_command(command);
  // Else the parser would say that a command lacks.
  if (!command.empty() && command[0] == '-' && app.get_option_no_throw(command) == nullptr) {
    return no_command(command, "an option of the program itself");
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return finished(app.exit(e));
  } catch (const CLI::ParseError& e) {
    std::fprintf(stderr, "radixkv: %s (radixkv help)\n", one_line(e.what()).c_str());
    return 2;
  }
  if (app.got_subcommand("help")) {
    if (about.empty()) {
      std::fputs(help.c_str(), stdout);
    } else if (const CLI::App* const c = find(about)) {
      std::fputs(c->help("radixkv").c_str(), stdout);
    } else {
      return no_command(about);
    }
    return finished(0);
  }
  try {
    return finished(app.got_subcommand("soak") ? run_soak(soaking) : run_replay(replay));
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "radixkv %s: no memory\n", command.c_str());
    return 1;
  }
}

}  // namespace radixkv::cli
