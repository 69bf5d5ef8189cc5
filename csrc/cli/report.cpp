#include "csrc/cli/report.h"

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "csrc/cli/quantity.h"

namespace radixkv::cli {
namespace {

using json = nlohmann::ordered_json;

json to_object(const latency_summary& l) {
  return {{"mean", l.mean}, {"p50", l.p50},   {"p90", l.p90},
          {"p99", l.p99},   {"p999", l.p999}, {"max", l.max}};
}

json or_null(const std::optional<double>& value) { return value ? json(*value) : json(nullptr); }

json to_object(const replay_result& r) {
  json o;
  o["requests"] = r.requests;
  o["prompt_tokens"] = r.prompt_tokens;
  o["hit_tokens"] = r.hit_tokens;
  o["token_hit_rate"] = r.token_hit_rate();
  o["blocks"] = r.blocks;
  o["hit_blocks"] = r.hit_blocks;
  o["block_hit_rate"] = r.block_hit_rate();
  o["evicted_blocks"] = r.evicted_blocks;
  o["copied_blocks"] = r.copied_blocks;
  o["requests_per_second"] = or_null(r.requests_per_second);
  o["index_bytes_per_token"] = or_null(r.index_bytes_per_token);
  if (r.verify) {
    o["wrong_bytes"] = r.verify->wrong_bytes;
    o["checked_bytes"] = r.verify->checked_bytes;
  }
  o["policy"] = r.policy;
  o["lookahead"] = r.lookahead;
  o["lru_block_hit_rate"] = or_null(r.lru_block_hit_rate());
  o["block_tokens"] = r.block_tokens;
  o["capacity_tokens"] = r.capacity_tokens;
  if (r.us) {
    o["us"] = {{"match", to_object(r.us->match)},   {"allocate", to_object(r.us->allocate)},
               {"commit", to_object(r.us->commit)}, {"evict", to_object(r.us->evict)},
               {"total", to_object(r.us->total)},   {"floor", {{"mean", r.us->floor_mean}}}};
    if (r.lookahead > 0) o["us"]["announce"] = to_object(r.us->announce);
  } else {
    o["us"] = nullptr;
  }
  o["capacity"] = r.capacity;
  o["refused_requests"] = r.refused_requests;
  o["threads"] = r.threads;
  o["executor"] = r.executor.empty() ? json(nullptr) : json(r.executor);
  o["source"] = r.source;
  return o;
}

// Appends a formatted line.
__attribute__((format(printf, 2, 3))) void line(std::string& out, const char* format, ...) {
  char buffer[512];
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(buffer, sizeof buffer, format, arguments);
  va_end(arguments);
  (out += buffer) += '\n';
}

void times(std::string& out, const replay_times& us, bool announces) {
  line(out, "  µs per request      mean      p50      p90      p99    p99.9       max");
  const struct {
    const char* name;
    const latency_summary& values;
  } rows[] = {{"match", us.match},
              {"allocate", us.allocate},
              {"evict", us.evict},
              {"commit", us.commit},
              {"total", us.total}};
  for (const auto& [name, v] : rows) {
    line(out, "    %-12s %9.2f %8.2f %8.2f %8.2f %8.2f %9.2f", name, v.mean, v.p50, v.p90, v.p99,
         v.p999, v.max);
  }
  if (announces) {
    const latency_summary& v = us.announce;
    line(out, "    %-12s %9.2f %8.2f %8.2f %8.2f %8.2f %9.2f   (not in the total)", "announce",
         v.mean, v.p50, v.p90, v.p99, v.p999, v.max);
  }
  line(out, "    %-12s %9.2f   (memcmp of what matched, memcpy of what is new; total is %.2f × it)",
       "floor", us.floor_mean, us.floor_mean > 0 ? us.total.mean / us.floor_mean : 0.0);
}

}  // namespace

std::string summary(const replay_result& r) {
  std::string out = r.source + "\n";
  line(out, "  policy %s, capacity %s tokens in blocks of %u, %u thread%s%s%s", r.policy.c_str(),
       r.capacity.c_str(), r.block_tokens, r.threads, r.threads == 1 ? "" : "s",
       r.executor.empty() ? "" : ", plans run by the executor on ", r.executor.c_str());
  if (r.lookahead > 0) line(out, "  announced   %u requests ahead", r.lookahead);
  line(out, "  requests    %s, %s prompt tokens", human(static_cast<double>(r.requests)).c_str(),
       human(static_cast<double>(r.prompt_tokens)).c_str());
  if (r.refused_requests != 0) {
    line(out, "  refused     %s requests for which the pool was too small",
         human(static_cast<double>(r.refused_requests)).c_str());
  }
  line(out, "  hit tokens  %s, %.2f %% of all", human(static_cast<double>(r.hit_tokens)).c_str(),
       100 * r.token_hit_rate());
  line(out, "  hit blocks  %llu of %llu, %.2f %%", static_cast<unsigned long long>(r.hit_blocks),
       static_cast<unsigned long long>(r.blocks), 100 * r.block_hit_rate());
  if (const std::optional<double> lru = r.lru_block_hit_rate()) {
    line(out, "  lru         would have hit %.2f %% of the blocks", 100 * *lru);
  }
  line(out, "  evicted     %s blocks", human(static_cast<double>(r.evicted_blocks)).c_str());
  line(out, "  copied      %s blocks, where prompts diverge inside one",
       human(static_cast<double>(r.copied_blocks)).c_str());
  if (r.index_bytes_per_token) {
    line(out, "  index       %.2f bytes per cached token, tokens included",
         *r.index_bytes_per_token);
  }
  if (r.us) {
    line(out, "  speed       %s requests per second",
         human(r.requests_per_second.value_or(0)).c_str());
    times(out, *r.us, r.lookahead > 0);
  }
  if (r.verify) {
    line(out, "  verified    %s bytes of served tokens, %llu wrong",
         human(static_cast<double>(r.verify->checked_bytes)).c_str(),
         static_cast<unsigned long long>(r.verify->wrong_bytes));
  }
  return out;
}

std::string to_json(std::span<const replay_result> results, bool as_array) {
  json document = json::array();
  for (const replay_result& r : results) document.push_back(to_object(r));
  if (!as_array && document.size() == 1) document = json(document.front());
  // Names of files and tenants may be any bytes.
  return document.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

// Where a file would be made that is opened by this name: at the end of links, which may dangle.
static std::filesystem::path behind_links(std::filesystem::path path) {
  constexpr int most_links = 40;  // as the system follows
  std::error_code problem;
  for (int i = 0; i < most_links && std::filesystem::is_symlink(path, problem); ++i) {
    const std::filesystem::path to = std::filesystem::read_symlink(path, problem);
    if (problem) break;
    path = path.parent_path() / to;  // or `to` alone, if that is absolute
  }
  return path;
}

status check_writable(const std::string& path) {
  const auto refused = [&](int why) {
    return status(errc::io, "cannot write " + path + ": " + std::strerror(why));
  };
  std::error_code problem;
  if (std::filesystem::is_directory(path, problem)) return refused(EISDIR);
  if (std::filesystem::exists(path, problem)) {
    return ::access(path.c_str(), W_OK) == 0 ? status() : refused(errno);
  }
  const std::filesystem::path folder = behind_links(path).parent_path();
  const std::string in = folder.empty() ? "." : folder.string();
  return ::access(in.c_str(), W_OK | X_OK) == 0 ? status() : refused(errno);
}

bool same_file(const std::string& a, const std::string& b) {
  std::error_code problem;
  if (std::filesystem::exists(a, problem)) {
    return std::filesystem::is_regular_file(a, problem) &&
           std::filesystem::equivalent(a, b, problem);
  }
  const auto full = [&](const std::string& path) {
    return std::filesystem::weakly_canonical(std::filesystem::absolute(behind_links(path), problem),
                                             problem);
  };
  return full(a) == full(b);
}

status write_file(const std::string& path, const std::string& text) {
  const auto io_error = [&] {
    return status(errc::io, "cannot write " + path + ": " + std::strerror(errno));
  };
  std::FILE* const file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return io_error();
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const int write_errno = errno;
  if (std::fclose(file) != 0) return io_error();
  errno = write_errno;
  return written ? status() : io_error();
}

}  // namespace radixkv::cli
