// Matching in trees with a branch every 16 tokens: a node per block, each a cache miss.
#include <algorithm>
#include <memory>

#include "bench/host/core_share.h"
#include "bench/host/stopwatch.h"
#include "bench/host/time_series.h"
#include "bench/host/workload.h"

namespace radixkv::bench {

namespace {

constexpr std::int64_t batch = 64;
constexpr std::int64_t one_at_a_time = 24;  // prompts of a run, each after a flush

struct named_shape {
  const char* name;
  bushy_shape shape;
};

std::vector<named_shape> shapes(const settings& how) {
  if (how.small()) {
    return {{"fan-out 2", {4, 512, 2, false}}, {"hostile", {4, 512, 4, true}}};
  }
  return {{"fan-out 2", {300, 16 << 10, 2, false}},
          {"fan-out 16", {64, 16 << 10, 16, false}},
          {"hostile, fan-out 16", {64, 16 << 10, 16, true}}};
}

double one_by_one(const bushy_tree& t, random_source& random, std::vector<block_id>& table) {
  time_series each;
  const std::vector<std::int64_t> order = shuffled(t.prompts.size(), random);
  const std::int64_t n = std::min<std::int64_t>(one_at_a_time, t.prompts.size());
  for (std::int64_t k = 0; k < n; ++k) {
    const std::span<const token_id> prompt = t.prompts[order[static_cast<std::size_t>(k)]];
    flush_caches();
    prefix_match found;
    each.add_alone([&] { found = t.cache.match(prompt, {}, table); });
    require(found.tokens == t.prompts.length(), "a cached prompt was not found");
  }
  return each.median() / static_cast<double>(t.prompts.length());
}

double batched(const bushy_tree& t, random_source& random, std::vector<block_id>& table) {
  const std::vector<std::int64_t> order = shuffled(t.prompts.size(), random);
  const auto n = static_cast<std::size_t>(std::min<std::int64_t>(batch, t.prompts.size()));
  const std::size_t blocks = static_cast<std::size_t>(t.prompts.length()) / block_tokens;
  table.resize(n * blocks);
  std::vector<open_request> requests(n);
  std::vector<prefix_match> found(n);
  std::vector<std::span<block_id>> tables(n);
  for (std::size_t i = 0; i < n; ++i) {
    requests[i].tokens = t.prompts[order[i]];
    tables[i] = std::span(table).subspan(i * blocks, blocks);
  }
  flush_caches();
  const on_whole_core alone;
  const double time =
      time_of([&] { require(t.cache.match_batch(requests, found, tables).ok(), "no match"); });
  for (const prefix_match& m : found) {
    require(m.tokens == t.prompts.length(), "a cached prompt was not found");
  }
  return time / static_cast<double>(static_cast<std::int64_t>(n) * t.prompts.length());
}

runner prepare(bool batches, const settings& how) {
  struct fixture {
    std::vector<const char*> names;
    std::vector<bushy_tree> trees;
    random_source random{3};
    std::vector<block_id> table;
  };
  auto f = std::make_shared<fixture>();
  for (const named_shape& s : shapes(how)) {
    f->names.push_back(s.name);
    f->trees.push_back(make_bushy(s.shape));
  }
  f->table.resize(static_cast<std::size_t>(f->trees[0].prompts.length()) / block_tokens);
  return [f, batches, how] {
    sample s;
    for (std::size_t i = 0; i < f->trees.size(); ++i) {
      const double ns = batches ? batched(f->trees[i], f->random, f->table)
                                : one_by_one(f->trees[i], f->random, f->table);
      s.parts.emplace_back(std::string(f->names[i]) + ", ns per token", ns);
      s.value = std::max(s.value, ns);
    }
    s.parts.emplace_back("one dependent miss, ns",
                         dependent_miss(how.small() ? 1 << 12 : 1 << 20, 20'000));
    // A block takes three lines in random places: a slot, a node, a row.
    s.parts.emplace_back(
        "three misses at once a block, ns per token",
        parallel_miss(how.small() ? 1 << 12 : 1 << 20, 3 << 10) * 3 / block_tokens);
    return s;
  };
}

}  // namespace

void add_bushy_cases(std::vector<host_case>& cases) {
  cases.push_back({"match_bushy_ns_per_token", "ns/token", 4,
                   "nothing: worst of the shapes, one prompt at a time, caches flushed before each",
                   "kv_cache", 5, [](const settings& how) { return prepare(false, how); }});
  cases.push_back({"match_bushy_batch_ns_per_token", "ns/token", 3,
                   "nothing: worst of the shapes, 64 prompts in one call, caches flushed before it",
                   "kv_cache", 7, [](const settings& how) { return prepare(true, how); }});
}

}  // namespace radixkv::bench
