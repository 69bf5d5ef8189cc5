// What hints can make others' requests cost, however many there are (hostile_cost.h).
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/core/hostile_cost.h"

namespace radixkv::testing {
namespace {

#if defined(RADIXKV_DEBUG_CHECKS)

class hostile_cost_hints : public ::testing::TestWithParam<const char*> {
 protected:
  static constexpr std::size_t length = 14 * block_tokens;

  kv_cache make() {
    cache_options o;
    o.blocks = 100'000;
    o.block_tokens = block_tokens;
    o.policy = GetParam();
    o.clock = [this] { return now_; };
    return kv_cache::create(std::move(o)).value();
  }
  // Lines of one request that shares nothing.
  double cost_of_other(kv_cache& cache) {
    const tokens t = random_tokens(random_, length);
    const step_counts before = steps_of_thread();
    EXPECT_TRUE(publish(cache, t));
    return lines(before);
  }

  detail::fixed_secrets secrets_{7};  // what is counted is not to depend on chance
  double now_ = 0;
  std::mt19937 random_{7};
};

// So many hints end at the same moment, or have ended one after another since the last request:
// the requests that follow end some of them each.
TEST_P(hostile_cost_hints, that_end_at_once) {
  constexpr int many = 20'000;
  constexpr int requests = many / 8;
  enum class hint { none, time_to_live, expected_return };
  double normal_mean = 0, normal_worst = 0;
  for (const hint of : {hint::none, hint::time_to_live, hint::expected_return}) {
    now_ = 0;
    kv_cache cache = make();
    for (int i = 0; i < many; ++i) {
      step_plan plan;
      sequence s = cache.open(random_tokens(random_, block_tokens), "", plan).value();
      ASSERT_TRUE(s.mark_filled(s.tokens()).ok() && s.commit().ok());
      if (of == hint::time_to_live) {
        ASSERT_TRUE(s.set_ttl(10).ok());
      } else if (of == hint::expected_return) {
        ASSERT_TRUE(s.expect_return(0.9, 1 + 1e-4 * i).ok());
      }
    }
    now_ = 100;
    double mean = 0, worst = 0;
    for (int i = 0; i < requests; ++i) {
      const double lines = cost_of_other(cache);
      mean += lines / requests;
      worst = std::max(worst, lines);
    }
    if (of == hint::none) {
      normal_mean = mean;
      normal_worst = worst;
    }
    std::printf("hints of kind %d over at once, %s: %.1f/%.1f lines, at most %.1f/%.1f\n",
                static_cast<int>(of), GetParam(), mean, normal_mean, worst, normal_worst);
    EXPECT_LE(mean, most_times * normal_mean);
    EXPECT_LE(worst, most_times * normal_worst);
    EXPECT_EQ(cache.check_invariants(), "");
    if (of != hint::time_to_live) continue;
    // All of them have come up by now: they go before anything else.
    EXPECT_EQ(cache.evict(many), many);
    EXPECT_EQ(cache.statistics().cached_prefixes, requests);
  }
}

// Requests of a path that so many announced ones have, or begin with, and others.
// Where nothing else is left: each is weighed once, not against all the others.
TEST_P(hostile_cost_hints, announcements_give_way_at_a_cost_that_grows_with_their_number) {
  const auto of = [this](std::size_t many) {
    kv_cache cache = make();
    const tokens path = random_tokens(random_, length);
    EXPECT_TRUE(publish(cache, path));
    std::vector<announcement> announced;
    for (std::size_t i = 0; i < many; ++i) announced.push_back(cache.announce(path).value());
    const step_counts before = steps_of_thread();
    EXPECT_EQ(cache.evict(1), 1);
    const double all = lines(before);
    EXPECT_EQ(cache.check_invariants(), "");
    return all;
  };
  const double some = of(500), more = of(1000);
  std::printf("%s: %.0f lines for 500, %.0f for 1,000\n", GetParam(), some, more);
  EXPECT_LE(more, 2.5 * some);
}

TEST_P(hostile_cost_hints, many_announcements_of_one_path) {
  struct costs {
    double of_the_path = 0, goes_on = 0, other = 0, evict = 0;
  };
  const auto of = [this](std::size_t many, bool the_same) {
    kv_cache cache = make();
    const tokens path = random_tokens(random_, length);
    EXPECT_TRUE(publish(cache, path));
    std::vector<announcement> announced;
    for (std::size_t i = 0; i < many; ++i) {
      tokens t = path;
      const tokens own = random_tokens(random_, length);
      if (!the_same) t.insert(t.end(), own.begin(), own.end());
      announced.push_back(cache.announce(t).value());
    }
    constexpr int requests = 200;
    costs c;
    const auto add = [&](double& to, auto&& operation) {
      const step_counts before = steps_of_thread();
      operation();
      to += lines(before) / requests;
    };
    for (int i = 0; i < requests; ++i) {
      add(c.of_the_path, [&] { EXPECT_TRUE(publish(cache, path)); });
      tokens more = path;
      const tokens own = random_tokens(random_, length);
      more.insert(more.end(), own.begin(), own.end());
      add(c.goes_on, [&] { EXPECT_TRUE(publish(cache, more)); });
      c.other += cost_of_other(cache) / requests;
      add(c.evict, [&] { EXPECT_EQ(cache.evict(10), 10); });
    }
    EXPECT_EQ(announced.front().held_tokens(), static_cast<std::int64_t>(length));
    EXPECT_EQ(cache.check_invariants(), "");
    announced.clear();
    EXPECT_EQ(cache.check_invariants(), "");
    return c;
  };
  constexpr std::size_t many = 3000;
  for (const bool the_same : {true, false}) {
    const costs normal = of(1, the_same), c = of(many, the_same);
    std::printf(
        "%zu announced, %s: %.1f/%.1f, goes on %.1f/%.1f, other %.1f/%.1f, "
        "evict %.1f/%.1f lines\n",
        many, GetParam(), c.of_the_path, normal.of_the_path, c.goes_on, normal.goes_on, c.other,
        normal.other, c.evict, normal.evict);
    EXPECT_LE(c.of_the_path, most_times * normal.of_the_path);
    EXPECT_LE(c.goes_on, most_times * normal.goes_on);
    EXPECT_LE(c.other, most_times * normal.other);
    EXPECT_LE(c.evict, most_times * normal.evict);
  }
}

// Where all that a namespace holds under its quota has a priority, what gives way is found among
// its own.
TEST_P(hostile_cost_hints, all_of_a_quota_is_held_beside_holds_of_others) {
  const auto of = [this](int others) {
    kv_cache cache = make();
    EXPECT_TRUE(cache.set_quota("mine", 10 * length / block_tokens).ok());
    const auto hold = [&](std::string_view space, std::size_t tokens_of_prompt) {
      step_plan plan;
      sequence s = cache.open(random_tokens(random_, tokens_of_prompt), space, plan).value();
      EXPECT_TRUE(s.mark_filled(s.tokens()).ok() && s.commit().ok() &&
                  s.set_priority(0, s.tokens(), 1).ok());
    };
    for (int i = 0; i < others; ++i) hold("theirs", block_tokens);
    for (int i = 0; i < 20; ++i) hold("mine", length);
    constexpr int requests = 50;
    const std::int64_t evicted = cache.statistics().evicted_blocks;
    const step_counts before = steps_of_thread();
    for (int i = 0; i < requests; ++i) hold("mine", length);
    const double cost = lines(before) / requests;
    EXPECT_EQ(cache.statistics().evicted_blocks - evicted, requests * 14);
    EXPECT_EQ(cache.check_invariants(), "");
    // A quota that is set anew, or goes, takes what is held with it.
    EXPECT_TRUE(cache.set_quota("theirs", others + 100).ok());
    EXPECT_EQ(cache.check_invariants(), "");
    EXPECT_TRUE(cache.set_quota("mine", 0).ok());
    EXPECT_EQ(cache.check_invariants(), "");
    return cost;
  };
  const double normal = of(1), beside = of(20'000);
  std::printf("all held, %s: %.1f/%.1f lines\n", GetParam(), beside, normal);
  EXPECT_LE(beside, most_times * normal);
}

// The same among its own: a namespace that holds ten or a thousand times as much.
TEST_P(hostile_cost_hints, all_of_a_large_quota_is_held) {
  const auto of = [this](int held) {
    kv_cache cache = make();
    EXPECT_TRUE(cache.set_quota("mine", held).ok());
    const auto hold = [&] {
      step_plan plan;
      sequence s = cache.open(random_tokens(random_, block_tokens), "mine", plan).value();
      EXPECT_TRUE(s.mark_filled(s.tokens()).ok() && s.commit().ok() &&
                  s.set_priority(0, s.tokens(), 1 + static_cast<int>(random_() % 100)).ok());
    };
    // The first one that has to evict drops what was queued before it was held.
    for (int i = 0; i <= held; ++i) hold();
    constexpr int requests = 200;
    const std::int64_t evicted = cache.statistics().evicted_blocks;
    const step_counts before = steps_of_thread();
    for (int i = 0; i < requests; ++i) hold();
    const double cost = lines(before) / requests;
    EXPECT_EQ(cache.statistics().evicted_blocks - evicted, requests);
    EXPECT_EQ(cache.check_invariants(), "");
    return cost;
  };
  const double normal = of(20), many = of(20'000);
  std::printf("20,000 held under a quota, %s: %.1f/%.1f lines\n", GetParam(), many, normal);
  EXPECT_LE(many, most_times * normal);
}

// Sequences have left priorities for as many different ranges of one path, each shorter than the
// ones before, or beginning behind them: it costs what 64 of them do, which one sequence may leave.
TEST_P(hostile_cost_hints, priorities_of_many_ranges_of_one_path) {
  const auto of = [this](int sequences, bool lets_go) {
    kv_cache cache = make();
    constexpr int path_blocks = 20'000;
    const tokens path = random_tokens(random_, path_blocks * block_tokens);
    EXPECT_TRUE(publish(cache, path));
    int nth = 0;
    for (int i = 0; i < sequences; ++i) {
      step_plan plan;
      sequence s = cache.open(path, "", plan).value();
      for (int k = 0; k < 64; ++k, ++nth) {
        const std::int64_t n = std::int64_t{path_blocks - nth} * block_tokens;
        EXPECT_TRUE(lets_go
                        ? s.set_priority(std::int64_t{nth} * block_tokens, n, -1 - nth % 100).ok()
                        : s.set_priority(0, n, 1 + nth % 100).ok());
      }
    }
    EXPECT_LE(cache.statistics().sequence_hints, 65);
    constexpr int requests = 50;
    const step_counts before = steps_of_thread();
    for (int i = 0; i < requests; ++i) {
      EXPECT_TRUE(publish(cache, {path.begin(), path.begin() + 10 * block_tokens}));
      (void)cost_of_other(cache);
      EXPECT_EQ(cache.evict(1), 1);
    }
    const double cost = lines(before) / requests;
    EXPECT_EQ(cache.check_invariants(), "");
    return cost;
  };
  for (const bool lets_go : {false, true}) {
    const double none = of(0, lets_go), normal = of(1, lets_go), many = of(200, lets_go);
    std::printf("12,800 ranges, %s: %.1f, of one sequence %.1f, of none %.1f lines\n", GetParam(),
                many, normal, none);
    EXPECT_LE(many, 1.1 * normal);
  }
}

// Nothing but a path is left, which many announced requests have in common, and so it gives way:
// whoever uses it then does not look through them.
TEST_P(hostile_cost_hints, requests_of_a_path_that_has_begun_to_give_way) {
  const auto of = [this](std::size_t many, bool in_part) {
    kv_cache cache = make();
    const tokens path = random_tokens(random_, 100 * block_tokens);
    EXPECT_TRUE(publish(cache, path));
    std::vector<announcement> announced;
    for (std::size_t i = 0; i < many; ++i) {
      tokens t = path;
      if (in_part) t.resize((1 + i % 90) * block_tokens);
      announced.push_back(cache.announce(t).value());
    }
    // What is in use is no victim; all announcements have their turn in vain.
    step_plan plan;
    tokens ahead = path;
    ahead.push_back(1);
    double cost = 0;
    constexpr int requests = 20;
    for (int i = 0; i < requests; ++i) {
      if (in_part) {
        const sequence uses = cache.open(ahead, "", plan).value();
        EXPECT_EQ(cache.evict(1), 0);
      } else {
        EXPECT_EQ(cache.evict(1), 1);
      }
      const step_counts before = steps_of_thread();
      for (int k = 0; k < 10; ++k) EXPECT_TRUE(cache.open(path, "", plan).ok());
      cost += lines(before) / requests / 10;
      EXPECT_EQ(cache.check_invariants(), "");
      EXPECT_TRUE(publish(cache, path));
    }
    while (!announced.empty()) {
      announced.erase(announced.begin() + static_cast<std::ptrdiff_t>(announced.size() / 2));
      if (announced.size() % 100 == 0) {
        EXPECT_EQ(cache.check_invariants(), "");
      }
    }
    return cost;
  };
  for (const bool in_part : {false, true}) {
    const double normal = of(90, in_part), c = of(1000, in_part);
    std::printf("gives way%s, %s: %.1f/%.1f lines\n", in_part ? " in part" : "", GetParam(), c,
                normal);
    EXPECT_LE(c, most_times * normal);
  }
}

// So many pinned prefixes go on from a path, each otherwise, by a block or less, and nobody has
// published any of it: requests of the path, that go on as none of them does, or as one does, that
// publish what one lacks, and others.
TEST_P(hostile_cost_hints, pinned_prefixes_of_which_not_all_is_cached) {
  static constexpr std::size_t requests = 50;
  struct costs {
    double of_the_path = 0, goes_on = 0, begins_alike = 0, completes = 0, other = 0;
  };
  const auto of = [this](std::size_t many, bool shorter) {
    kv_cache cache = make();
    const tokens path = random_tokens(random_, length);
    EXPECT_TRUE(publish(cache, path));
    std::vector<pinned_prefix> pinned;
    prompts wanted;
    for (std::size_t i = 0; i < std::max(many, requests); ++i) {
      tokens t = path;
      t.resize(length + (shorter ? 2 + i % (block_tokens - 2) : block_tokens), 7);
      t.back() = static_cast<token_id>(i);
      wanted.push_back(t);
      if (i < many) pinned.push_back(cache.pin_prefix(t).value());
    }
    costs c;
    const auto add = [&](double& to, auto&& operation) {
      const step_counts before = steps_of_thread();
      operation();
      to += lines(before) / requests;
    };
    for (std::size_t i = 0; i < requests; ++i) {
      add(c.of_the_path, [&] { EXPECT_TRUE(publish(cache, path)); });
      tokens t = path;
      const tokens own = random_tokens(random_, block_tokens);
      t.insert(t.end(), own.begin(), own.end());
      add(c.goes_on, [&] { EXPECT_TRUE(publish(cache, t)); });
      std::fill(t.begin() + length, t.end() - 1, 7);
      t.back() = static_cast<token_id>((1 << 20) + i);
      add(c.begins_alike, [&] { EXPECT_TRUE(publish(cache, t)); });
      add(c.completes, [&] { EXPECT_TRUE(publish(cache, wanted[i])); });
      if (i < pinned.size()) {
        EXPECT_EQ(pinned[i].held_tokens(), static_cast<std::int64_t>(wanted[i].size()));
      }
      c.other += cost_of_other(cache) / requests;
    }
    EXPECT_EQ(cache.check_invariants(), "");
    return c;
  };
  for (const bool shorter : {false, true}) {
    const costs normal = of(0, shorter), c = of(1000, shorter);
    std::printf(
        "1,000 pinned, %s: %.1f/%.1f, goes on %.1f/%.1f, alike %.1f/%.1f, completes %.1f/%.1f, "
        "other %.1f/%.1f lines\n",
        GetParam(), c.of_the_path, normal.of_the_path, c.goes_on, normal.goes_on, c.begins_alike,
        normal.begins_alike, c.completes, normal.completes, c.other, normal.other);
    EXPECT_LE(c.of_the_path, most_times * normal.of_the_path);
    EXPECT_LE(c.goes_on, most_times * normal.goes_on);
    EXPECT_LE(c.begins_alike, most_times * normal.begins_alike);
    EXPECT_LE(c.completes, most_times * normal.completes);
    EXPECT_LE(c.other, most_times * normal.other);
  }
}

// They lack something at every depth of a path, by a block, by rests of all lengths, or by rests
// that go along with the path as far as each can, and then come before it: each lies between what
// the path goes on with and those that are shorter.
TEST_P(hostile_cost_hints, pinned_prefixes_that_lack_something_at_every_depth) {
  enum class lack { block, rest, comb };
  struct costs {
    double of_the_path = 0, other = 0, other_space = 0;
  };
  const auto of = [this](std::uint32_t b, lack kind, std::size_t many) {
    cache_options o;
    o.blocks = 100'000 / (b / 16);
    o.block_tokens = b;
    o.policy = GetParam();
    kv_cache cache = kv_cache::create(std::move(o)).value();
    const std::size_t depths = 16'000 / b;
    const tokens path = random_tokens(random_, depths * b);
    EXPECT_TRUE(publish(cache, path));
    std::vector<pinned_prefix> pinned;
    for (std::size_t i = 0; i < many; ++i) {
      // Combs are few, with all of their teeth.
      const std::size_t depth = kind == lack::comb ? i / b : i % depths;
      const std::size_t n = kind == lack::block  ? b
                            : kind == lack::rest ? 1 + (i * 7 + i / depths) % (b - 1)
                                                 : 1 + i % b;
      tokens t(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(depth * b));
      if (kind == lack::comb) {
        t.insert(t.end(), path.begin() + static_cast<std::ptrdiff_t>(depth * b),
                 path.begin() + static_cast<std::ptrdiff_t>(depth * b + n));
        t.back() -= std::min<token_id>(t.back(), 1 + i % 5);
      } else {
        const tokens own = random_tokens(random_, n);
        t.insert(t.end(), own.begin(), own.end());
      }
      pinned.push_back(cache.pin_prefix(t).value());
    }
    constexpr int requests = 10;
    costs c;
    const auto add = [&](double& to, const tokens& t, std::string_view space) {
      const step_counts before = steps_of_thread();
      EXPECT_TRUE(publish(cache, t, space));
      to += lines(before) / requests;
    };
    for (int i = 0; i < requests; ++i) {
      add(c.of_the_path, path, "");
      add(c.other, random_tokens(random_, path.size()), "");
      add(c.other_space, random_tokens(random_, path.size()), "other");
    }
    EXPECT_EQ(cache.check_invariants(), "");
    return c;
  };
  for (const std::uint32_t b : {16u, 256u}) {
    for (const lack kind : {lack::block, lack::rest, lack::comb}) {
      const costs normal = of(b, kind, 0), c = of(b, kind, 1000);
      std::printf(
          "at every depth, blocks of %u, kind %d, %s: path %.0f/%.0f, other %.0f/%.0f, "
          "other namespace %.0f/%.0f lines\n",
          b, static_cast<int>(kind), GetParam(), c.of_the_path, normal.of_the_path, c.other,
          normal.other, c.other_space, normal.other_space);
      EXPECT_LE(c.of_the_path, most_times * normal.of_the_path);
      EXPECT_LE(c.other, 1.2 * normal.other);
      EXPECT_LE(c.other_space, 1.2 * normal.other_space);
    }
  }
}

// A namespace with a quota and nothing cached is made anew by each request that then publishes
// nothing, or is refused.
TEST_P(hostile_cost_hints, empty_namespaces_with_a_quota_beside_holds_of_others) {
  const auto of = [this](int others) {
    kv_cache cache = make();
    EXPECT_TRUE(cache.set_quota("mine", 10).ok());
    for (int i = 0; i < others; ++i) {
      step_plan plan;
      sequence s = cache.open(random_tokens(random_, block_tokens), "theirs", plan).value();
      EXPECT_TRUE(s.mark_filled(s.tokens()).ok() && s.commit().ok() &&
                  s.set_priority(0, s.tokens(), 1).ok());
    }
    constexpr int requests = 50;
    const step_counts before = steps_of_thread();
    for (int i = 0; i < requests; ++i) {
      step_plan plan;
      EXPECT_TRUE(cache.open(random_tokens(random_, 2 * block_tokens), "mine", plan).ok());
      EXPECT_FALSE(cache.open(random_tokens(random_, 11 * block_tokens), "mine", plan).ok());
    }
    return lines(before) / requests;
  };
  const double normal = of(1), beside = of(20'000);
  std::printf("nothing held, %s: %.1f/%.1f lines\n", GetParam(), beside, normal);
  EXPECT_LE(beside, most_times * normal);
}

INSTANTIATE_TEST_SUITE_P(policies, hostile_cost_hints,
                         ::testing::Values("lru", "fifo", "lfu", "slru", "s3fifo", "reuse_index"));

#else

TEST(hostile_cost_hints, counts_steps) { GTEST_SKIP() << "built without RADIXKV_DEBUG_CHECKS"; }

#endif

}  // namespace
}  // namespace radixkv::testing
