// Ten times as much cached: match, commit and evict must not notice.
#include <algorithm>
#include <memory>

#include "bench/host/time_series.h"
#include "bench/host/workload.h"

namespace radixkv::bench {

namespace {

// Groups of prompts that share their first half, as requests with a common context do.
constexpr std::int64_t group = 8;
constexpr std::int64_t half = 1024;
constexpr std::int64_t tokens_of_group = half + group * half;
constexpr std::int64_t new_tokens = 1024;

struct sized_cache {
  kv_cache cache;
  prompt_set measured;  // prompts of a random choice of groups, one each
  random_source random{51};
  std::vector<token_id> prompt = std::vector<token_id>(2 * half + new_tokens);
  step_plan plan = {};
};

sized_cache make(std::int64_t tokens, std::int64_t measured) {
  const std::int64_t groups = tokens / tokens_of_group;
  sized_cache c{make_cache(groups * tokens_of_group), prompt_set(measured, 2 * half, 52)};
  prompt_set random_prompts(1, 2 * half, 53);
  const std::span<token_id> prompt = random_prompts[0];
  // Prompts to be measured are spread evenly over the groups, in random order.
  const std::vector<std::int64_t> order = shuffled(groups, c.random);
  require(measured <= groups, "too few groups");
  std::vector<std::vector<token_id>> shared(static_cast<std::size_t>(groups));
  for (std::int64_t member = 0; member < group; ++member) {
    for (std::int64_t k = 0; k < groups; ++k) {
      const std::int64_t g = order[static_cast<std::size_t>(k)];
      std::vector<token_id>& context = shared[static_cast<std::size_t>(g)];
      if (member == 0) {
        context.resize(half);
        fill_random(context, c.random);
      }
      std::copy(context.begin(), context.end(), prompt.begin());
      fill_random(prompt.last(half), c.random);
      if (member == group - 1) context = {};
      if (member == group / 2 && g < measured) {
        std::copy(prompt.begin(), prompt.end(), c.measured[g].begin());
      }
      serve(c.cache, prompt, c.plan);
    }
  }
  require(c.cache.statistics().cached_tokens == groups * tokens_of_group,
          "the tree is not what it should be");
  return c;
}

struct costs {
  double match = 0;
  double commit = 0;
  double evict = 0;
};

// Few enough are evicted in all runs that the measured prompts stay: they are used later than half.
costs measure(sized_cache& c, std::int64_t operations, std::int64_t evicted) {
  time_series match;
  time_series commit;
  time_series evict;
  std::vector<block_id> table(2 * half / block_tokens);
  const std::vector<std::int64_t> order = shuffled(c.measured.size(), c.random);
  flush_caches();
  for (const std::int64_t i : order) {
    prefix_match found;
    match.add_alone([&] { found = c.cache.match(c.measured[i], {}, table); });
    require(found.tokens == 2 * half, "a cached prompt was not found");
  }
  for (std::int64_t k = 0; k < operations; ++k) {
    const std::int64_t i = order[static_cast<std::size_t>(k % c.measured.size())];
    const std::span<const token_id> old = c.measured[i];
    std::copy(old.begin(), old.end(), c.prompt.begin());
    fill_random(std::span(c.prompt).last(new_tokens), c.random);
    c.plan.clear();
    std::int64_t freed = 0;
    // Makes the room for what is committed afterwards.
    evict.add_alone([&] { freed = c.cache.evict(evicted); });
    require(freed == evicted, "too little was evicted");
    sequence s = value_of(c.cache.open(c.prompt, {}, c.plan));
    require(s.mark_filled(s.tokens()).ok(), "a prompt could not be filled");
    flush_caches();
    bool ok = false;
    commit.add_alone([&] { ok = s.commit().ok(); });
    require(ok, "a prompt could not be committed");
  }
  return {match.median(), commit.median(), evict.median()};
}

runner prepare(const settings& how) {
  const std::int64_t tokens = how.small() ? 200'000 : 10'000'000;
  const std::int64_t measured = how.small() ? 16 : 1000;
  const std::int64_t operations = how.small() ? 4 : 30;
  const std::int64_t evicted = how.small() ? 40 : 475;
  struct fixture {
    sized_cache small;
    sized_cache large;
  };
  auto f = std::make_shared<fixture>(fixture{make(tokens, measured), make(10 * tokens, measured)});
  return [f, operations, evicted] {
    const costs a = measure(f->small, operations, evicted);
    const costs b = measure(f->large, operations, evicted);
    sample s;
    s.value = std::max({b.match / a.match, b.commit / a.commit, b.evict / a.evict});
    s.parts = {{"match at 10 M, ns", a.match},   {"match at 100 M, ns", b.match},
               {"commit at 10 M, ns", a.commit}, {"commit at 100 M, ns", b.commit},
               {"evict at 10 M, ns", a.evict},   {"evict at 100 M, ns", b.evict}};
    return s;
  };
}

}  // namespace

void add_scale_cases(std::vector<host_case>& cases) {
  cases.push_back({"scale_100m", "ratio", 1.5,
                   "the same at 10 M cached tokens; worst of match, commit and evict", "kv_cache",
                   5, prepare});
}

}  // namespace radixkv::bench
