#include "csrc/cli/report_table.h"

#include <algorithm>
#include <cstdio>
#include <vector>

namespace radixkv::cli {
namespace {

const replay_result* find(std::span<const replay_result> results, const std::string& policy,
                          const std::string& capacity) {
  const auto at = std::find_if(results.begin(), results.end(), [&](const replay_result& r) {
    return r.policy == policy && r.capacity == capacity;
  });
  return at == results.end() ? nullptr : &*at;
}

void add_new(std::vector<std::string>& names, const std::string& name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
}

std::string text(const char* format, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}

std::string padded(std::string s, std::size_t width) {
  if (s.size() < width) s.insert(0, width - s.size(), ' ');
  return s;
}

}  // namespace

std::optional<double> gap_closed(const replay_result& result, std::span<const replay_result> all) {
  const replay_result* const lru = find(all, "lru", result.capacity);
  const replay_result* const best = find(all, "belady", result.capacity);
  if (lru == nullptr || best == nullptr) return {};
  const double gap = best->block_hit_rate() - lru->block_hit_rate();
  if (!(gap > 0)) return {};
  return (result.block_hit_rate() - lru->block_hit_rate()) / gap;
}

std::string table(std::span<const replay_result> results) {
  constexpr std::size_t width = 19;
  std::vector<std::string> policies;
  std::vector<std::string> capacities;
  for (const replay_result& r : results) {
    add_new(policies, r.policy);
    add_new(capacities, r.capacity);
  }
  std::string out = "block hit rate (share of the way from lru to belady), by capacity in tokens\n";
  out += std::string(12, ' ');
  for (const std::string& c : capacities) out += padded(c, width);
  for (const std::string& p : policies) {
    out += "\n" + p + std::string(p.size() < 12 ? 12 - p.size() : 1, ' ');
    for (const std::string& c : capacities) {
      const replay_result* const r = find(results, p, c);
      if (r == nullptr) {
        out += padded("-", width);
        continue;
      }
      std::string cell = text("%.2f %%", 100 * r->block_hit_rate());
      const std::optional<double> gap = gap_closed(*r, results);
      if (gap) cell += padded(text("(%.1f %%)", 100 * *gap), 11);
      out += padded(cell, width);
    }
  }
  return out + "\n";
}

std::string to_csv(std::span<const replay_result> results) {
  std::string out =
      "policy,capacity,capacity_tokens,block_tokens,requests,blocks,hit_blocks,block_hit_rate,"
      "token_hit_rate,evicted_blocks,gap_closed,total_mean_us\n";
  for (const replay_result& r : results) {
    const std::optional<double> gap = gap_closed(r, results);
    out += r.policy + "," + r.capacity + "," + std::to_string(r.capacity_tokens) + "," +
           std::to_string(r.block_tokens) + "," + std::to_string(r.requests) + "," +
           std::to_string(r.blocks) + "," + std::to_string(r.hit_blocks) + "," +
           text("%.6f", r.block_hit_rate()) + "," + text("%.6f", r.token_hit_rate()) + "," +
           std::to_string(r.evicted_blocks) + "," + (gap ? text("%.6f", *gap) : "") + "," +
           (r.us ? text("%.3f", r.us->total.mean) : "") + "\n";
  }
  return out;
}

}  // namespace radixkv::cli
