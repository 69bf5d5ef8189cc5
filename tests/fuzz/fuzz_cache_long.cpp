// Random operations on the façade by the hundred million, against the model, without sanitizers.
//   fuzz_cache_long [--operations N] [--seed S] [--json FILE]
//   fuzz_cache_long --cache SEED     repeats one cache, checked after every step
// Makes one small cache after another until N operations are done. A violation ends the program
// with the seed and step that repeat it.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

#include "tests/support/cache_model.h"

namespace {

using radixkv::testing::cache_model;
using radixkv::testing::model_counts;
using radixkv::testing::model_size;

constexpr int steps_per_cache = 20'000;

// splitmix64 (Steele, Lea, Flood 2014).
class generator {
 public:
  explicit generator(std::uint64_t seed) : state_(seed) {}
  [[nodiscard]] std::uint32_t below(std::uint32_t n) noexcept {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    return static_cast<std::uint32_t>(((z >> 32) * n) >> 32);
  }

 private:
  std::uint64_t state_;
};

void add(model_counts& sum, const model_counts& c) {
  sum.operations += c.operations;
  sum.opened += c.opened;
  sum.refused += c.refused;
  sum.failed_plans += c.failed_plans;
  sum.misuses += c.misuses;
  sum.checked_tokens += c.checked_tokens;
  sum.exact_matches += c.exact_matches;
}

struct arguments {
  std::int64_t operations = 1'000'000;
  std::uint64_t seed = 1;
  std::string json;
  std::uint64_t cache = 0;
};

bool parse(int argc, char** argv, arguments& a) {
  for (int i = 1; i < argc; i += 2) {
    const std::string_view name = argv[i];
    if (i + 1 == argc) return false;
    if (name == "--operations") {
      a.operations = std::atoll(argv[i + 1]);
    } else if (name == "--seed") {
      a.seed = std::strtoull(argv[i + 1], nullptr, 10);
    } else if (name == "--cache") {
      a.cache = std::strtoull(argv[i + 1], nullptr, 10);
    } else if (name == "--json") {
      a.json = argv[i + 1];
    } else {
      return false;
    }
  }
  return a.operations > 0;
}

void report(const arguments& a, const model_counts& c, std::int64_t caches, double seconds) {
  char line[512];
  std::snprintf(line, sizeof(line),
                "{\"operations\": %lld, \"seed\": %llu, \"caches\": %lld, \"opened\": %lld, "
                "\"refused\": %lld, \"failed_plans\": %lld, \"misuses\": %lld, "
                "\"checked_tokens\": %lld, \"exact_matches\": %lld, \"seconds\": %.1f}",
                static_cast<long long>(c.operations), static_cast<unsigned long long>(a.seed),
                static_cast<long long>(caches), static_cast<long long>(c.opened),
                static_cast<long long>(c.refused), static_cast<long long>(c.failed_plans),
                static_cast<long long>(c.misuses), static_cast<long long>(c.checked_tokens),
                static_cast<long long>(c.exact_matches), seconds);
  std::printf("%s\n", line);
  std::fflush(stdout);
  if (!a.json.empty()) std::ofstream(a.json) << line << '\n';
}

// Empty, or what was wrong.
std::string run_cache(std::uint64_t seed, int check_every, model_counts& sum) {
  generator random(seed);
  const std::uint32_t pool = random.below(16);
  const model_size size = pool < 2    ? model_size::mixed
                          : pool == 2 ? model_size::wide
                                      : model_size::tiny;
  const bool watched = random.below(4) == 0;
  cache_model model([&](std::uint32_t n) { return random.below(n); }, size, watched);
  const auto at = [&](int step, const std::string& wrong) {
    return "cache seed " + std::to_string(seed) + ", step " + std::to_string(step) + ": " + wrong;
  };
  for (int i = 0; i < steps_per_cache; ++i) {
    if (const std::string wrong = model.step(); !wrong.empty()) return at(i, wrong);
    if (i % check_every != 0) continue;
    if (const std::string wrong = model.check_contents(); !wrong.empty()) return at(i, wrong);
    const std::string wrong = model.cache().check_invariants();
    if (!wrong.empty()) return at(i, wrong);
  }
  if (const std::string wrong = model.finish(); !wrong.empty()) return at(steps_per_cache, wrong);
  add(sum, model.counts());
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  arguments a;
  if (!parse(argc, argv, a)) {
    std::fprintf(
        stderr,
        "usage: fuzz_cache_long [--operations N] [--seed S] [--json FILE] | --cache SEED\n");
    return 2;
  }
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  model_counts sum;
  if (a.cache != 0) {
    const std::string wrong = run_cache(a.cache, 1, sum);
    std::fprintf(stderr, "%s\n", wrong.c_str());
    return wrong.empty() ? 0 : 1;
  }
  double next_report = 60;
  std::int64_t caches = 0;
  for (; sum.operations < a.operations; ++caches) {
    const std::string wrong =
        run_cache(a.seed * 1'000'000'000 + static_cast<std::uint64_t>(caches), 512, sum);
    if (!wrong.empty()) {
      std::fprintf(stderr, "%s\n", wrong.c_str());
      return 1;
    }
    if (seconds() < next_report) continue;
    next_report = seconds() + 60;
    report(a, sum, caches + 1, seconds());
  }
  report(a, sum, caches, seconds());
  return 0;
}
