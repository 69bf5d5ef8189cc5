// Matching in several threads, and beside a writer that commits and evicts all the time.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <thread>

#include <time.h>

#include "bench/host/second_reader.h"
#include "bench/host/time_series.h"
#include "bench/host/workload.h"

namespace radixkv::bench {

namespace {

constexpr std::int64_t length = 2048;

// Prompts that stay cached because open sequences use them, and room in which a writer churns.
struct fixture {
  prompt_set prompts;
  kv_cache cache;
  std::vector<sequence> pins;
  prompt_set others;  // what the writer publishes
};

std::shared_ptr<fixture> make_fixture(const settings& how) {
  const std::int64_t count = how.small() ? 64 : 4096;
  const std::int64_t churn = how.small() ? 100'000 : 2'000'000;
  auto f = std::make_shared<fixture>(fixture{prompt_set(count, length, 41),
                                             make_cache(count * length + churn),
                                             {},
                                             prompt_set(count, length, 42)});
  step_plan plan;
  for (std::int64_t i = 0; i < count; ++i) f->pins.push_back(serve(f->cache, f->prompts[i], plan));
  return f;
}

std::int64_t choose(const fixture& f, random_source& random) {
  return static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(f.prompts.size())));
}

double processor_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

// Matches a random prompt.
void match_one(const fixture& f, random_source& random, std::vector<block_id>& table) {
  const std::int64_t which = choose(f, random);
  require(f.cache.match(f.prompts[which], {}, table).tokens == length,
          "a pinned prompt was not found");
}

// Matches random prompts `matches` times. Returns the processor time in seconds.
double read(const fixture& f, int matches, std::uint64_t seed) {
  random_source random(seed);
  std::vector<block_id> table(length / block_tokens);
  const double begin = processor_seconds();
  for (int i = 0; i < matches; ++i) match_one(f, random, table);
  return processor_seconds() - begin;
}

// Commits and evicts until told to stop: new prompts, half of them continuing one that is cached.
class writer {
 public:
  explicit writer(fixture& f) : f_(f), thread_([this] { run(); }) {
    while (written_.load() < 100 && !failed_.load()) std::this_thread::yield();
  }
  writer(const writer&) = delete;
  writer& operator=(const writer&) = delete;
  ~writer() { stop(); }
  // Requests written.
  std::int64_t stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    require(!failed_.load(), "the writer failed");
    return written_.load();
  }

 private:
  void run() try {
    random_source random(43);
    step_plan plan;
    std::vector<token_id> prompt;
    while (!stop_.load(std::memory_order_relaxed)) {
      const std::int64_t which = choose(f_, random);
      const bool goes_on = random.chance(0.5);
      const auto from = goes_on ? f_.prompts[which] : f_.others[which];
      prompt.assign(from.begin(), from.end());
      fill_random(std::span(prompt).last(length / 4), random);
      serve(f_.cache, prompt, plan);
      if (written_.fetch_add(1, std::memory_order_relaxed) % 8 == 7) f_.cache.evict(256);
    }
  } catch (const std::exception&) {
    failed_ = true;
  }

  fixture& f_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> failed_{false};
  std::atomic<std::int64_t> written_{0};
  std::thread thread_;
};

// Times of one thing, in one thread and in two at once, in either order: the caches hold what both
// threads left that did the same before, untimed.
struct both_times {
  time_series one;
  time_series two;

  void add(const reading& work, second_reader& other, random_source& random, bool two_first) {
    const auto both = [&](time_series& times) {
      const std::uint64_t others_seed = random.next();
      other.add_to(times, work, random.next(), others_seed);
    };
    time_series untold;
    both(untold);
    if (two_first) both(two);
    const std::uint64_t seed = random.next();
    one.add_alone([&] { work(seed); });
    if (!two_first) both(two);
  }
};

runner prepare_two(const settings& how) {
  const int turns = how.small() ? 4 : 40;
  const int matches = how.small() ? 50 : 1500;  // a turn
  auto f = make_fixture(how);
  auto mirror = std::make_shared<prompt_set>(f->prompts.copy());
  return [f, mirror, turns, matches] {
    const reading match = [&](std::uint64_t seed) { read(*f, matches, seed); };
    const reading compare = [&](std::uint64_t seed) {
      random_source random(seed);
      bool equal = true;
      for (int i = 0; i < matches; ++i) {
        const std::int64_t k = choose(*f, random);
        equal &=
            std::memcmp(f->prompts[k].data(), (*mirror)[k].data(), f->prompts[k].size_bytes()) == 0;
      }
      require(equal, "memcmp found a difference");
    };
    random_source random(1);
    second_reader other;
    both_times matching;
    both_times comparing;
    for (int turn = 0; turn < turns; ++turn) {
      matching.add(match, other, random, turn % 2 != 0);
      comparing.add(compare, other, random, turn % 2 != 0);
    }
    const double one = matching.one.median();
    const double two = matching.two.median();
    // Throughputs: matches ÷ one, and 2 × matches ÷ two.
    return sample{two / (2 * one),
                  {{"1 thread, ns per match", one / matches},
                   {"2 threads, ns per match and thread", two / matches},
                   {"throughput of 2 threads / 1", 2 * one / two},
                   {"the value for memcmp of as many tokens",
                    comparing.two.median() / (2 * comparing.one.median())}}};
  };
}

runner prepare_beside_writer(const settings& how) {
  const int matches = how.small() ? 200 : 100'000;
  return [f = make_fixture(how), matches] {
    const double alone = read(*f, matches, 1);
    writer w(*f);
    const double beside = read(*f, matches, 1);
    const std::int64_t written = w.stop();
    return sample{beside / alone,
                  {{"alone, ns per match", alone * 1e9 / matches},
                   {"beside the writer, ns per match", beside * 1e9 / matches},
                   {"requests written meanwhile", static_cast<double>(written)}}};
  };
}

runner prepare_tail(const settings& how) {
  const int matches = how.small() ? 500 : 200'000;
  constexpr int at_once = 100;  // matches, before the core is looked at again
  return [f = make_fixture(how), matches] {
    random_source random(1);
    std::vector<block_id> table(length / block_tokens);
    time_series each;
    writer w(*f);
    each.groups_of(at_once, matches, [&] { each.add([&] { match_one(*f, random, table); }); });
    w.stop();
    const double p50 = each.quantile(0.5);
    const double p999 = each.quantile(0.999);
    return sample{p999 / p50,
                  {{"p50, ns", p50}, {"p99.9, ns", p999}, {"worst, ns", each.quantile(1)}}};
  };
}

}  // namespace

void add_reader_cases(std::vector<host_case>& cases) {
  cases.push_back({"readers_2_vs_1", "ratio", 0.56,
                   "throughput of 1 thread ÷ that of 2: prompts of 2,048 tokens, 8 M tokens",
                   "kv_cache", 7, prepare_two});
  cases.push_back({"readers_under_writer", "ratio", 1.25,
                   "matches per second of the reader's processor time, alone ÷ beside a writer",
                   "kv_cache", 7, prepare_beside_writer});
  cases.push_back({"match_p999_vs_p50_under_writer", "ratio", 10,
                   "the median match, all prompts of 2,048 tokens", "kv_cache", 7, prepare_tail});
}

}  // namespace radixkv::bench
