// What no open sequence uses can be evicted, to the block, whoever else came and went: under every
// policy, against the set of all prefixes that open sequences use.
#include <algorithm>
#include <list>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"
#include "tests/support/sanitized.h"

namespace radixkv {
namespace {

using tokens = std::vector<token_id>;
constexpr std::int64_t b = 4;
constexpr std::int64_t pool_blocks = 96;

struct open_one {
  sequence s;
  tokens prompt;
  std::int64_t kept = 0;  // tokens of whole blocks that the index keeps for it
};

class exact_room : public ::testing::TestWithParam<const char*> {
 protected:
  kv_cache make() const {
    cache_options o;
    o.blocks = pool_blocks;
    o.block_tokens = b;
    o.min_prefix_tokens = 0;
    o.policy = GetParam();
    return std::move(*kv_cache::create(o));
  }
};

std::int64_t kept_blocks(const std::list<open_one>& open) {
  // By length first, since comparing tokens is what takes the time.
  std::set<std::pair<std::int64_t, std::basic_string_view<token_id>>> prefixes;
  for (const open_one& o : open) {
    for (std::int64_t n = b; n <= o.kept; n += b) {
      prefixes.emplace(n, std::basic_string_view(o.prompt.data(), static_cast<std::size_t>(n)));
    }
  }
  return static_cast<std::int64_t>(prefixes.size());
}

TEST_P(exact_room, is_all_that_no_open_sequence_uses) {
  std::int64_t refused = 0;
  for (unsigned seed = 0; seed < (sanitized ? 20 : 60); ++seed) {
    std::mt19937 random(seed);
    kv_cache cache = make();
    std::list<open_one> open;
    std::int64_t emptied = 0;
    // Prefixes of a few long prompts, and what parts from them anywhere.
    const auto prompt = [&] {
      tokens t;
      const std::size_t length = 1 + random() % (20 * b);
      const token_id first = static_cast<token_id>(random() % 2 * 1000);
      for (std::size_t i = 0; i < length; ++i) t.push_back(first + static_cast<token_id>(i));
      if (random() % 2 == 0) t[random() % length] = static_cast<token_id>(5000 + random() % 3);
      return t;
    };
    for (int op = 0; op < 400; ++op) {
      step_plan plan;
      const auto which = random() % 8;
      if (which < 4) {
        tokens t = prompt();
        result<sequence> s = cache.open(t, {}, plan);
        refused += !s;
        if (s) {
          const std::int64_t kept = s->cached_tokens() / b * b;
          open.push_back({std::move(*s), std::move(t), kept});
        }
      } else if (open.empty()) {
        continue;
      } else {
        const auto o = std::next(open.begin(), static_cast<long>(random() % open.size()));
        if (which < 6) {
          const auto n = static_cast<std::int64_t>(o->prompt.size()) / b * b;
          ASSERT_TRUE(o->s.mark_filled(static_cast<std::int64_t>(o->prompt.size())).ok());
          ASSERT_TRUE(o->s.commit(n).ok());
          o->kept = std::max(o->kept, n);
        } else {
          open.erase(o);
        }
      }
      ASSERT_EQ(cache.check_invariants(), "") << "seed " << seed << ", operation " << op;
      const cache_statistics now = cache.statistics();
      const std::int64_t can_go = now.blocks_cached - kept_blocks(open);
      ASSERT_GE(can_go, 0);
      const std::int64_t free = now.blocks_free + can_go;
      ASSERT_TRUE(cache.can_allocate(free)) << "seed " << seed << ", operation " << op;
      ASSERT_FALSE(cache.can_allocate(free + 1)) << "seed " << seed << ", operation " << op;
      if (random() % 16 != 0) continue;
      ASSERT_EQ(random() % 2 == 0 ? cache.clear() : cache.evict(pool_blocks), can_go);
      ASSERT_EQ(cache.statistics().blocks_cached, kept_blocks(open));
      ++emptied;
    }
    ASSERT_GT(emptied, 0);
  }
  EXPECT_GT(refused, 0);
}

TEST_P(exact_room, a_shorter_use_of_a_path_does_not_keep_what_a_longer_one_used) {
  kv_cache cache = make();
  step_plan plan;
  const auto numbers = [](token_id first, std::int64_t n) {
    tokens t;
    for (std::int64_t i = 0; i < n; ++i) t.push_back(first + static_cast<token_id>(i));
    return t;
  };
  const tokens cached = numbers(0, 20 * b);
  {
    sequence s = std::move(*cache.open(cached, {}, plan));
    ASSERT_TRUE(s.mark_filled(20 * b).ok());
    ASSERT_TRUE(s.commit().ok());
  }
  tokens parting = numbers(0, b);
  parting.push_back(9999);
  sequence shorter = std::move(*cache.open(parting, {}, plan));
  ASSERT_EQ(shorter.cached_tokens(), b);
  EXPECT_TRUE(cache.can_allocate(pool_blocks - 2));
  {
    sequence longer = std::move(*cache.open(cached, {}, plan));
    EXPECT_FALSE(cache.can_allocate(pool_blocks - 2));
    sequence fork = std::move(*shorter.fork());  // pins what the one it is made of does
  }
  EXPECT_TRUE(cache.can_allocate(pool_blocks - 2));
  tokens refused = cached;  // matches all of it, and does not fit beside it
  for (const token_id t : numbers(1000, (pool_blocks - 20) * b)) refused.push_back(t);
  EXPECT_FALSE(cache.open(refused, {}, plan));
  EXPECT_TRUE(cache.open(numbers(20'000, (pool_blocks - 2) * b), {}, plan));
}

INSTANTIATE_TEST_SUITE_P(policies, exact_room,
                         ::testing::Values("reuse_index", "lru", "fifo", "lfu", "slru", "s3fifo"));

}  // namespace
}  // namespace radixkv
