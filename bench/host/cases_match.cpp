// Matching fully cached prompts, cold, against memcmp of two cold buffers of the same tokens.
#include <cstring>
#include <memory>

#include "bench/host/time_series.h"
#include "bench/host/workload.h"

namespace radixkv::bench {

namespace {

constexpr std::int64_t at_once = 32 << 10;  // tokens, before the core is looked at again

struct long_runs {
  prompt_set prompts;
  prompt_set mirror;  // what memcmp compares the prompts with
  kv_cache cache;
  random_source random{17};
  std::vector<block_id> table = {};
};

// At every multiple of `edge` tokens a branch of one block makes the path's run end.
void branch_off(long_runs& t, std::span<const token_id> prompt, std::int64_t edge,
                step_plan& plan) {
  std::vector<token_id> branch(prompt.begin(), prompt.end());
  for (std::int64_t at = edge; at < static_cast<std::int64_t>(prompt.size()); at += edge) {
    fill_random(std::span(branch).subspan(static_cast<std::size_t>(at), block_tokens), t.random);
    serve(t.cache, std::span(branch).first(static_cast<std::size_t>(at) + block_tokens), plan);
    std::memcpy(branch.data() + at, prompt.data() + at, block_tokens * sizeof(token_id));
  }
}

// memcmp run by run, each after two lines at random places, as of a node and of the slot that names
// it: but known beforehand, and fetched three runs ahead.
class broken_compare {
 public:
  explicit broken_compare(std::size_t lines) : lines_(lines) {
    require(memory_.reserve(lines * line), "no memory");
    for (std::size_t i = 0; i < lines * line; i += line) memory_[i] = 0;
  }
  // Chooses the lines for so many runs.
  void choose(std::size_t runs, random_source& random) {
    places_.resize(2 * (runs + ahead));
    for (std::size_t& p : places_) p = random.below(lines_) * line;
  }
  // Whether the two are equal.
  [[nodiscard]] bool compare(std::span<const token_id> a, const token_id* b,
                             std::size_t run) const {
    bool equal = true;
    for (std::size_t i = 0; i < ahead; ++i) fetch(i);
    for (std::size_t i = 0; i * run < a.size(); ++i) {
      fetch(i + ahead);
      const std::size_t at = i * run + memory_[places_[2 * i]] + memory_[places_[2 * i + 1]];
      equal &= std::memcmp(a.data() + at, b + at, run * sizeof(token_id)) == 0;
    }
    return equal;
  }

 private:
  static constexpr std::size_t line = 64 / sizeof(std::uint64_t);
  static constexpr std::size_t ahead = 3;
  void fetch(std::size_t i) const {
    for (std::size_t k = 2 * i; k < 2 * i + 2; ++k) __builtin_prefetch(&memory_[places_[k]]);
  }
  detail::stable_array<std::uint64_t> memory_;
  std::size_t lines_;
  std::vector<std::size_t> places_;
};

runner prepare(std::int64_t length, std::int64_t edge, const settings& how) {
  const std::int64_t tokens = how.small() ? 300'000 : 10'000'000;
  const std::int64_t count = std::max<std::int64_t>(2, tokens / length);
  prompt_set prompts(count, length, static_cast<std::uint64_t>(length));
  prompt_set mirror = prompts.copy();
  const std::int64_t branches = edge > 0 ? length / edge * block_tokens : 0;
  auto t = std::make_shared<long_runs>(long_runs{std::move(prompts), std::move(mirror),
                                                 make_cache(count * (length + branches + 64))});
  t->table.resize(static_cast<std::size_t>(length / block_tokens));
  step_plan plan;
  for (std::int64_t i = 0; i < count; ++i) {
    serve(t->cache, t->prompts[i], plan);
    if (edge > 0) branch_off(*t, t->prompts[i], edge, plan);
  }
  const auto broken =
      edge > 0 ? std::make_shared<broken_compare>(how.small() ? 1 << 12 : 1 << 20) : nullptr;
  return [t, broken, count, length, edge] {
    // Nothing is used twice after the caches were flushed: in random order and others every run,
    // some prompts are compared, others matched, in turn.
    const std::vector<std::int64_t> order = shuffled(count, t->random);
    std::span<const std::int64_t> left = order;
    // Times `work` of the next prompts, which says whether it went well.
    const auto time_next = [&](time_series& times, const char* wrong, const auto& work) {
      const auto n = static_cast<std::size_t>(std::max<std::int64_t>(1, at_once / length));
      const auto some = left.first(std::min(n, left.size()));
      left = left.subspan(some.size());
      times.group([&] {
        for (const std::int64_t i : some) {
          bool right = false;
          times.add([&] { right = work(i); });
          require(right, wrong);
        }
      });
    };
    time_series matching;
    time_series comparing;
    time_series breaking;
    flush_caches();
    while (!left.empty()) {
      time_next(comparing, "memcmp found a difference", [&](std::int64_t i) {
        const std::span<const token_id> prompt = t->prompts[i];
        return std::memcmp(prompt.data(), t->mirror[i].data(), prompt.size_bytes()) == 0;
      });
      time_next(matching, "a cached prompt was not found", [&](std::int64_t i) {
        return t->cache.match(t->prompts[i], {}, t->table).tokens == length;
      });
      if (!broken) continue;
      broken->choose(static_cast<std::size_t>(length / edge), t->random);
      time_next(breaking, "memcmp found a difference", [&](std::int64_t i) {
        return broken->compare(t->prompts[i], t->mirror[i].data(), static_cast<std::size_t>(edge));
      });
    }
    const double match = matching.median();
    const double compare = comparing.median();
    const auto per_token = static_cast<double>(length);
    sample s{match / compare,
             {{"match, ns per token", match / per_token},
              {"memcmp, ns per token", compare / per_token}}};
    if (broken) {
      s.parts.emplace_back("the value for memcmp run by run, places known beforehand",
                           breaking.median() / compare);
    }
    return s;
  };
}

host_case make(const char* name, std::int64_t length, std::int64_t edge, double limit) {
  return {name,
          "ratio",
          limit,
          "memcmp of the same tokens, both buffers cold",
          "kv_cache",
          9,
          [=](const settings& how) { return prepare(length, edge, how); }};
}

}  // namespace

void add_match_cases(std::vector<host_case>& cases) {
  cases.push_back(make("match_32k_vs_memcmp", 32 << 10, 0, 1.25));
  cases.push_back(make("match_128k_vs_memcmp", 128 << 10, 0, 1.25));
  cases.push_back(make("match_2k_vs_memcmp", 2 << 10, 0, 1.5));
  cases.push_back(make("match_32k_split512_vs_memcmp", 32 << 10, 512, 1.35));
}

}  // namespace radixkv::bench
