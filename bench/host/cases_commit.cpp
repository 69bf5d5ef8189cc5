// Publishing must not cost more the longer the prefix before it is.
#include <algorithm>
#include <memory>

#include "bench/host/time_series.h"
#include "bench/host/workload.h"

namespace radixkv::bench {

namespace {

constexpr std::int64_t fresh_tokens = 1024;

struct fixture {
  prompt_set prefixes;
  kv_cache cache;
  random_source random{11};
  std::vector<token_id> prompt = {};
  step_plan plan = {};
};

// Times the commit of fresh tokens after the first `prefix` tokens of a cached prompt.
void commit_after(fixture& f, std::int64_t prefix, time_series& times) {
  const auto which =
      static_cast<std::int64_t>(f.random.below(static_cast<std::uint64_t>(f.prefixes.size())));
  const auto begin = f.prefixes[which].first(static_cast<std::size_t>(prefix));
  f.prompt.assign(begin.begin(), begin.end());
  f.prompt.resize(begin.size() + fresh_tokens);
  fill_random(std::span(f.prompt).subspan(begin.size()), f.random);
  f.plan.clear();
  sequence s = value_of(f.cache.open(f.prompt, {}, f.plan));
  require(s.cached_tokens() == prefix, "the prefix is not cached");
  require(s.mark_filled(prefix + fresh_tokens).ok(), "a prompt could not be filled");
  flush_caches();
  bool ok = false;
  times.add_alone([&] { ok = s.commit().ok(); });
  require(ok, "a prompt could not be committed");
}

runner prepare(const settings& how) {
  const std::int64_t far = how.small() ? 8 << 10 : 31 << 10;
  constexpr std::int64_t near = 1 << 10;
  const std::int64_t prefixes = how.small() ? 4 : 64;
  const int commits = how.small() ? 5 : 20;
  auto f = std::make_shared<fixture>(
      fixture{prompt_set(prefixes, far, 10),
              make_cache(prefixes * far + 4 * 9 * commits * (fresh_tokens + block_tokens))});
  for (std::int64_t i = 0; i < prefixes; ++i) serve(f->cache, f->prefixes[i], f->plan);
  // Both prefixes end at a branch already, so that no commit has to split.
  for (std::int64_t i = 0; i < prefixes; ++i) {
    for (const std::int64_t end : {near, far}) {
      const auto begin = f->prefixes[i].first(static_cast<std::size_t>(end));
      f->prompt.assign(begin.begin(), begin.end());
      f->prompt.resize(begin.size() + block_tokens, token_id{1});
      serve(f->cache, f->prompt, f->plan);
    }
  }
  return [f, commits, far] {
    time_series after_far;
    time_series after_near;
    for (int i = 0; i < commits; ++i) {
      commit_after(*f, far, after_far);
      commit_after(*f, near, after_near);
    }
    const double a = after_far.median();
    const double b = after_near.median();
    return sample{a / b, {{"after the long prefix, ns", a}, {"after 1,024 tokens, ns", b}}};
  };
}

}  // namespace

void add_commit_cases(std::vector<host_case>& cases) {
  cases.push_back({"commit_after_31k_vs_1k", "ratio", 1.2,
                   "the commit of 1,024 new tokens after a pinned prefix of 1,024", "kv_cache", 7,
                   prepare});
}

}  // namespace radixkv::bench
