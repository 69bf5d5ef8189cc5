// Eviction from trees of many sizes, in bulk and one block at a time. Recency is in random order,
// so that victims lie anywhere in memory.
#include <algorithm>
#include <memory>

#include "bench/host/time_series.h"
#include "bench/host/workload.h"

namespace radixkv::bench {

namespace {

constexpr std::int64_t bulk = 475;     // blocks of an average request of the conversation trace
constexpr std::int64_t at_once = 100;  // blocks, before the core is looked at again

struct leaf_shape {
  std::int64_t leaves;
  std::int64_t blocks_each;

  [[nodiscard]] std::int64_t blocks() const { return leaves * blocks_each; }
  [[nodiscard]] std::string name() const {
    return std::to_string(leaves) + " leaves of " + std::to_string(blocks_each);
  }
};

std::vector<leaf_shape> shapes(const settings& how) {
  if (how.small()) return {{1000, 1}, {500, 12}};
  return {{10'000, 1},    {1'000, 10},   {100'000, 1},    {10'000, 10},
          {1'000'000, 1}, {1'000, 1000}, {1'000'000, 10}, {10'000, 1000}};
}

kv_cache make_leaves(const leaf_shape& shape) {
  const std::int64_t length = shape.blocks_each * block_tokens;
  kv_cache cache = make_cache(shape.blocks() * block_tokens);
  const prompt_set prompts(shape.leaves, length, 77);
  step_plan plan;
  for (std::int64_t i = 0; i < shape.leaves; ++i) serve(cache, prompts[i], plan);
  random_source random(78);
  for (const std::int64_t i : shuffled(shape.leaves, random)) serve(cache, prompts[i], plan);
  require(cache.statistics().blocks_cached == shape.blocks(), "the tree is not what it should be");
  return cache;
}

// Adds the nanoseconds of calls that evict `each` blocks, of at most `calls` of them and a seventh
// of the tree.
void evict(kv_cache& cache, const leaf_shape& shape, std::int64_t each, std::int64_t calls,
           time_series& times) {
  const std::int64_t n = std::clamp<std::int64_t>(shape.blocks() / 7 / each, 1, calls);
  times.groups_of((at_once + each - 1) / each, n, [&] {
    std::int64_t freed = 0;
    times.add([&] { freed = cache.evict(each); });
    require(freed == each, "too little was evicted");
  });
}

// Some others, so that after a flush the code is at hand again but not what is measured.
void warm_up_code() {
  const leaf_shape other{2000, 1};
  kv_cache cache = make_leaves(other);
  for (int i = 0; i < 500; ++i) require(cache.evict(1) == 1, "too little was evicted");
  require(cache.evict(bulk) == bulk, "too little was evicted");
}

struct fixture {
  std::vector<leaf_shape> shapes;
  std::vector<std::vector<kv_cache>> caches;  // of each shape
};

// A seventh of a small tree is three calls, of which no median says much: there are several.
std::shared_ptr<fixture> make_fixture(const settings& how) {
  auto f = std::make_shared<fixture>();
  f->shapes = shapes(how);
  for (const leaf_shape& s : f->shapes) {
    std::vector<kv_cache>& caches = f->caches.emplace_back();
    const int trees = !how.small() && s.blocks() < 100'000 ? 10 : 1;
    for (int i = 0; i < trees; ++i) caches.push_back(make_leaves(s));
  }
  return f;
}

runner prepare(std::int64_t each, std::int64_t calls, const settings& how) {
  return [f = make_fixture(how), each, calls] {
    sample s;
    double worst_long = 0;
    for (std::size_t i = 0; i < f->shapes.size(); ++i) {
      time_series times;
      for (kv_cache& cache : f->caches[i]) {
        flush_caches();
        warm_up_code();
        evict(cache, f->shapes[i], each, calls, times);
      }
      const double ns = times.median() / static_cast<double>(each);
      s.parts.emplace_back(f->shapes[i].name() + " blocks, ns per block", ns);
      s.value = std::max(s.value, ns);
      if (f->shapes[i].blocks_each >= 10) worst_long = std::max(worst_long, ns);
    }
    s.parts.emplace_back("worst where leaves hold 10 or more, ns per block", worst_long);
    return s;
  };
}

}  // namespace

void add_evict_cases(std::vector<host_case>& cases) {
  cases.push_back({"evict_bulk_ns_per_block", "ns/block", 80,
                   "nothing: 475 blocks a call, worst of the trees; to reach where leaves hold 10 "
                   "blocks or more: 40",
                   "kv_cache", 5,
                   [](const settings& how) { return prepare(how.small() ? 50 : bulk, 200, how); }});
  cases.push_back({"evict_single_ns", "ns", 150, "nothing: one block a call, worst of the trees",
                   "kv_cache", 5, [](const settings& how) { return prepare(1, 20'000, how); }});
}

}  // namespace radixkv::bench
