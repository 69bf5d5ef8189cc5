// What prompts whose first blocks begin alike can cost, however they part (hostile_cost.h).
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/mix.h"
#include "tests/core/hostile_cost.h"
#include "tests/support/sanitized.h"

namespace radixkv::testing {
namespace {

#if defined(RADIXKV_DEBUG_CHECKS)

constexpr std::size_t many = sanitized ? 60'000 : 1'000'000;

// Prompts of several lengths that go on where many siblings do, made by `make(first, n, length)`.
template <typename Make>
void compare_siblings(const std::string& name, const Make& make) {
  kv_cache one = make_cache(many + 100'000, "lru"), other = make_cache(many + 100'000, "lru");
  for (const tokens& t : make(0, many, block_tokens)) ASSERT_TRUE(publish(one, t));
  std::mt19937 random(9);
  for (std::size_t i = 0; i < many; ++i) {
    ASSERT_TRUE(publish(other, random_tokens(random, block_tokens)));
  }
  for (const std::size_t length : {16u, 32u, 128u, 512u}) {
    const prompts measured = make(many, 1000, length);
    const cost hostile = cost_of(one, measured);
    const cost normal = cost_of(other, as_long_as(measured));
    expect_within(hostile, normal, name + ", length " + std::to_string(length));
  }
}

// A million children of one node.
TEST(hostile_cost_siblings, a_million) {
  for (const std::size_t parting : {0u, 1u, 15u}) {
    compare_siblings("parting at " + std::to_string(parting),
                     [&](std::size_t first, std::size_t n, std::size_t length) {
                       return siblings(first, n, length, parting);
                     });
  }
}

// There is a fork at every length: a place among them is found in the logarithm of a block's
// length, whatever their number.
TEST(hostile_cost_siblings, a_million_that_part_everywhere) {
  compare_siblings("parting everywhere", [](std::size_t first, std::size_t n, std::size_t length) {
    return siblings_parting_everywhere(first, n, length);
  });
}

// Of one node: `grow_to` adds children of one block, made by `make(first, n, length)`.
class growing_siblings {
 public:
  template <typename Make>
  growing_siblings(std::size_t most, const Make& make)
      : cache_(make_cache(static_cast<std::int64_t>(most + 100'000), "lru")), make_(make) {}
  void grow_to(std::size_t n) {
    for (constexpr std::size_t step = 16'000; size_ < n;) {
      const std::size_t more = std::min(step, n - size_);
      for (const tokens& t : make_(size_, more, block_tokens)) EXPECT_TRUE(publish(cache_, t));
      size_ += more;
    }
  }
  // Of others of this length; the oldest go for them.
  cost cost_of_more(std::size_t n, std::size_t length) {
    others_ += n;
    return cost_of(cache_, make_(others_, n, length));
  }

 private:
  kv_cache cache_;
  std::function<prompts(std::size_t, std::size_t, std::size_t)> make_;
  std::size_t size_ = 0;
  std::size_t others_ = std::size_t{1} << 28;  // nobody's numbers otherwise
};

// In 2, 3, … ways, and as combs: some number of ways is the worst for each number of siblings. How
// full a table is when it has so many decides, too: the sizes lie close between two powers of two.
TEST(hostile_cost_siblings, that_part_in_several_ways) {
  const std::vector<std::size_t> sizes = {10'000,  20'000,  50'000,  65'000,  75'000,
                                          100'000, 120'000, 140'000, 160'000, many};
  constexpr std::size_t lengths[] = {16, 32, 128};
  constexpr std::size_t measured = 500;
  struct shape {
    std::string name;
    std::function<prompts(std::size_t, std::size_t, std::size_t)> make;
  };
  std::vector<shape> shapes;
  for (const std::uint32_t ways : {2u, 3u, 4u, 8u, 16u, 256u}) {
    shapes.push_back({std::to_string(ways) + " ways", [ways](auto first, auto n, auto length) {
                        return siblings_parting_everywhere(first, n, length, ways);
                      }});
  }
  shapes.push_back({"combs inwards", [](auto first, auto n, auto length) {
                      return sibling_combs(first, n, length, false);
                    }});
  shapes.push_back({"combs outwards", [](auto first, auto n, auto length) {
                      return sibling_combs(first, n, length, true);
                    }});
  const auto plain = [](std::size_t first, std::size_t n, std::size_t length) {
    std::mt19937 random(static_cast<std::uint32_t>(first));
    prompts all;
    for (std::size_t i = 0; i < n; ++i) all.push_back(random_tokens(random, length));
    return all;
  };
  const std::uint64_t seeds[] = {1, 2, detail::random_secret()};
  for (const std::uint64_t seed : seeds) {
    const detail::fixed_secrets secrets(seed);
    // The most of them with the fresh secrets only.
    const std::size_t most = seed == seeds[2] ? many : sizes[sizes.size() - 2];
    std::vector<cost> normal;
    growing_siblings none(most, plain);
    for (const std::size_t size : sizes) {
      if (size > most) break;
      none.grow_to(size);
      for (const std::size_t length : lengths) {
        normal.push_back(none.cost_of_more(measured, length));
      }
    }
    for (const shape& s : shapes) {
      growing_siblings grown(most, s.make);
      cost worst;
      auto of = normal.begin();
      for (const std::size_t size : sizes) {
        if (size > most) break;
        grown.grow_to(size);
        for (const std::size_t length : lengths) {
          const cost c = grown.cost_of_more(measured, length);
          const cost times = {c.match / of->match, c.publish / of->publish, c.evict / of->evict};
          ++of;
          const std::string which = s.name + ", " + std::to_string(size) + " siblings, length " +
                                    std::to_string(length) + ", secrets " + std::to_string(seed);
          EXPECT_LE(times.match, most_times) << which;
          EXPECT_LE(times.publish, most_times) << which;
          EXPECT_LE(times.evict, most_times) << which;
          worst = {std::max(worst.match, times.match), std::max(worst.publish, times.publish),
                   std::max(worst.evict, times.evict)};
        }
      }
      std::printf("%-16s at most %.2f times to match, %.2f to publish, %.2f to evict\n",
                  s.name.c_str(), worst.match, worst.publish, worst.evict);
    }
  }
}

// Below blocks that all of them share: there the hash of a prompt's next block alone leads to no
// node (radix_tree.h), and a prompt that ends with it is searched for like others.
TEST(hostile_cost_siblings, below_other_blocks) {
  constexpr std::size_t siblings = 75'000;  // the tables are fullest there
  constexpr std::size_t measured = 500;
  constexpr std::size_t lengths[] = {16, 32, 64, 128};
  for (const std::size_t depth : {1u, 2u, 3u}) {
    const std::vector<token_id> shared(depth * block_tokens, 9);
    kv_cache other = make_cache(static_cast<std::int64_t>(5 * siblings), "lru");
    std::mt19937 random(9);
    for (std::size_t i = 0; i < siblings; ++i) {
      ASSERT_TRUE(publish(other, random_tokens(random, shared.size() + block_tokens)));
    }
    std::vector<cost> normal;
    for (const std::size_t length : lengths) {
      normal.push_back(
          cost_of(other, as_long_as(prompts(measured, tokens(shared.size() + length)))));
    }
    const auto compare = [&](const std::string& name, const auto& make) {
      const auto below = [&](std::size_t first, std::size_t n, std::size_t length) {
        prompts all = make(first, n, length);
        for (tokens& t : all) t.insert(t.begin(), shared.begin(), shared.end());
        return all;
      };
      kv_cache one = make_cache(static_cast<std::int64_t>(2 * siblings), "lru");
      for (const tokens& t : below(0, siblings, block_tokens)) ASSERT_TRUE(publish(one, t));
      double match = 0;
      double publish = 0;
      for (std::size_t i = 0; i < std::size(lengths); ++i) {
        const cost c = cost_of(one, below(std::size_t{1} << 24, measured, lengths[i]));
        match = std::max(match, c.match / normal[i].match);
        publish = std::max(publish, c.publish / normal[i].publish);
      }
      std::printf("%s below %zu blocks: at most %.2f times to match, %.2f to publish\n",
                  name.c_str(), depth, match, publish);
      EXPECT_LE(match, most_times) << name << " below " << depth;
      EXPECT_LE(publish, most_times) << name << " below " << depth;
    };
    for (const std::uint32_t ways : {2u, 4u, 16u, 256u}) {
      compare(std::to_string(ways) + " ways", [&](auto first, auto n, auto length) {
        return siblings_parting_everywhere(first, n, length, ways);
      });
    }
    compare("combs",
            [](auto first, auto n, auto length) { return sibling_combs(first, n, length, true); });
  }
}

// Sixteen requests at a time are opened before any of them commits, so that each commit finds more
// siblings than its request has matched.
TEST(hostile_cost_siblings, of_requests_that_are_opened_together) {
  constexpr std::size_t siblings = 75'000;  // the tables are fullest there
  constexpr std::size_t together = 16;
  const auto publish_lines = [](kv_cache& cache, const prompts& all) {
    std::size_t total = 0;
    const step_counts before = steps_of_thread();
    for (auto at = all.begin(); at != all.end(); at += together) {
      step_plan plan;
      std::vector<sequence> open;
      for (auto t = at; t != at + together; ++t) {
        open.push_back(cache.open(*t, "", plan).value());
        total += t->size();
      }
      for (sequence& s : open) {
        EXPECT_TRUE(s.mark_filled(s.tokens()).ok() && s.commit().ok());
      }
    }
    return lines(before) / static_cast<double>(total);
  };
  using maker = std::function<prompts(std::size_t, std::size_t, std::size_t)>;
  const std::pair<const char*, maker> shapes[] = {
      {"combs inwards", [](auto... of) { return sibling_combs(of..., false); }},
      {"combs outwards", [](auto... of) { return sibling_combs(of..., true); }},
      {"2 ways", [](auto... of) { return siblings_parting_everywhere(of..., 2); }},
      {"8 ways", [](auto... of) { return siblings_parting_everywhere(of..., 8); }}};
  for (const std::uint64_t seed : {std::uint64_t{1}, detail::random_secret()}) {
    const detail::fixed_secrets secrets(seed);
    for (const auto& [name, make] : shapes) {
      kv_cache one = make_cache(siblings + 100'000, "lru");
      kv_cache other = make_cache(siblings + 100'000, "lru");
      for (const tokens& t : make(0, siblings, block_tokens)) ASSERT_TRUE(publish(one, t));
      std::mt19937 random(9);
      for (std::size_t i = 0; i < siblings; ++i) {
        ASSERT_TRUE(publish(other, random_tokens(random, block_tokens)));
      }
      double worst = 0;
      for (const std::size_t length : {16u, 32u, 128u}) {
        const prompts measured = make(std::size_t{1} << 24, 512, length);
        const double times =
            publish_lines(one, measured) / publish_lines(other, as_long_as(measured));
        EXPECT_LE(times, most_times) << name << ", length " << length << ", secrets " << seed;
        worst = std::max(worst, times);
      }
      std::printf("%s opened together: at most %.2f times to publish\n", name, worst);
    }
  }
}

// Prompts that end inside their first block are known by no hash of a whole one: they are searched
// for by their length.
TEST(hostile_cost_siblings, that_prompts_end_among) {
  for (const std::uint32_t length : {16u, 64u, 256u}) {
    const auto parting = [&](std::size_t n, std::uint32_t ways) {
      std::mt19937 random(ways);
      prompts all;
      for (std::size_t i = 0; i < n; ++i) {
        tokens t(length, 7);
        for (std::size_t k = 1; k + 1 < length; ++k) t[k] = random() % ways;
        t[length - 1] = static_cast<token_id>(i);
        all.push_back(std::move(t));
      }
      return all;
    };
    // Lines for a prompt that is so many leading tokens of one of them, by that number.
    const auto lines_of = [&](const prompts& all) {
      kv_cache cache = make_cache(static_cast<std::int64_t>(all.size()) + 100, "lru", length);
      for (const tokens& t : all) EXPECT_TRUE(publish(cache, t));
      std::vector<double> by_cut;
      for (std::uint32_t cut = 2; cut < length; cut += cut < 2 * block_tokens ? 1 : length / 16) {
        constexpr std::size_t measured = 400;
        const step_counts before = steps_of_thread();
        for (std::size_t i = 0; i < measured; ++i) {
          tokens t = all[i * 7919 % all.size()];
          t.resize(cut);
          EXPECT_EQ(cache.match(t).tokens, cut);
        }
        by_cut.push_back(lines(before) / measured);
      }
      return by_cut;
    };
    const std::size_t n = length == 16 ? 75'000 : length == 64 ? 50'000 : 20'000;
    const std::vector<double> normal = lines_of(as_long_as(parting(n, 2)));
    const auto compare = [&](const prompts& all, const std::string& which) {
      const std::vector<double> c = lines_of(all);
      double worst = 0;
      for (std::size_t i = 0; i < c.size(); ++i) worst = std::max(worst, c[i] / normal[i]);
      std::printf("ends in a block of %u, %s: match %.2f times\n", length, which.c_str(), worst);
      EXPECT_LE(worst, most_times) << length << ", " << which;
    };
    for (const std::uint32_t ways : {2u, 3u, 4u, 8u, 16u, 256u}) {
      compare(parting(n, ways), std::to_string(ways) + " ways");
    }
    if (length == block_tokens) compare(sibling_combs(0, n, length, true), "combs");
  }
}

// In long blocks a place among siblings takes more look-ups.
TEST(hostile_cost_siblings, of_long_blocks) {
  for (const std::uint32_t block : {64u, 256u}) {
    const std::size_t n = block == 256 ? 20'000 : 50'000;
    const auto parting = [&](std::size_t first, std::size_t more, std::size_t length,
                             std::uint32_t ways) {
      std::mt19937 random(static_cast<std::uint32_t>(first + ways));
      prompts all;
      for (std::size_t i = first; i < first + more; ++i) {
        tokens t(length, 7);
        for (std::size_t k = 1; k + 1 < block; ++k) {
          t[k] = ways == 0 ? static_cast<token_id>(random()) : random() % ways;
        }
        if (ways == 0) t[0] = static_cast<token_id>(random());
        t[block - 1] = static_cast<token_id>(i);
        for (std::size_t k = block; k < length; ++k) t[k] = static_cast<token_id>(random());
        all.push_back(std::move(t));
      }
      return all;
    };
    const auto costs = [&](std::uint32_t ways) {
      kv_cache cache = make_cache(static_cast<std::int64_t>(n) + 10'000, "lru", block);
      for (const tokens& t : parting(0, n, block, ways)) EXPECT_TRUE(publish(cache, t));
      const cost whole = cost_of(cache, parting(n, 500, block, ways));
      return std::pair(whole, cost_of(cache, parting(2 * n, 500, 2 * block, ways)));
    };
    const auto [normal, normal_longer] = costs(0);
    for (const std::uint32_t ways : {2u, 3u, 4u, 16u}) {
      const auto [c, longer] = costs(ways);
      std::printf(
          "block of %u, %u ways: %.2f, %.2f times to match, %.2f, %.2f to publish, %.2f, "
          "%.2f to evict\n",
          block, ways, c.match / normal.match, longer.match / normal_longer.match,
          c.publish / normal.publish, longer.publish / normal_longer.publish,
          c.evict / normal.evict, longer.evict / normal_longer.evict);
      EXPECT_LE(c.match, most_times * normal.match) << block << ", " << ways;
      EXPECT_LE(c.publish, most_times * normal.publish) << block << ", " << ways;
      EXPECT_LE(c.evict, most_times * normal.evict) << block << ", " << ways;
    }
  }
}

// Prompts of one block that share 1, 2, … tokens with one of them, which every fork knows, and
// leave in the order in which the next to go is the one that all that are left know.
TEST(hostile_cost_siblings, one_that_all_forks_know) {
  constexpr std::uint32_t length = 256;
  std::mt19937 random(10);
  prompts chain;
  const tokens all = random_tokens(random, length);
  for (std::size_t shared = 1; shared < length; ++shared) {
    chain.push_back(all);
    chain.back()[shared] = ~all[shared];
    if (shared == 1) chain.push_back(all);
  }
  const auto evict_lines = [](const prompts& in_order) {
    kv_cache cache = make_cache(1000, "lru", length);
    for (const tokens& t : in_order) EXPECT_TRUE(publish(cache, t));
    std::vector<const tokens*> used = {&in_order[0], &in_order[1]};
    for (std::size_t i = in_order.size(); i-- > 2;) used.push_back(&in_order[i]);
    for (const tokens* t : used) EXPECT_TRUE(publish(cache, *t));
    const step_counts before = steps_of_thread();
    const auto blocks = static_cast<std::int64_t>(in_order.size());
    EXPECT_EQ(cache.evict(blocks), blocks);
    return lines(before) / static_cast<double>(blocks);
  };
  const double hostile = evict_lines(chain);
  const double normal = evict_lines(as_long_as(chain));
  std::printf("evict %.2f/%.2f lines per block\n", hostile, normal);
  EXPECT_LE(hostile, most_times * normal);
}

#else

TEST(hostile_cost_siblings, counts_steps) { GTEST_SKIP() << "built without RADIXKV_DEBUG_CHECKS"; }

#endif

}  // namespace
}  // namespace radixkv::testing
