// Announcements beside threads that split, evict and publish what they hold.
#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/kv_cache.h"
#include "tests/support/sanitized.h"

namespace radixkv {
namespace {

using tokens = std::vector<token_id>;

void publish(kv_cache& cache, const tokens& t) {
  step_plan plan;
  sequence s = cache.open(t, "", plan).value();
  EXPECT_TRUE(s.mark_filled(s.tokens()).ok());
  EXPECT_TRUE(s.commit().ok());
}

// The announced prompt ends inside a child of a node that another thread splits at every block.
TEST(hints_threads, announcements_hold_no_more_than_their_prompts) {
  constexpr int rounds = sanitized ? 1500 : 15'000;
  constexpr std::uint32_t block = 4;
  cache_options o;
  o.blocks = 200;
  o.block_tokens = block;
  o.min_prefix_tokens = 1;
  kv_cache cache = kv_cache::create(o).value();
  tokens base(12 * block);
  for (std::size_t i = 0; i < base.size(); ++i) base[i] = static_cast<token_id>(i);
  tokens prompt = base;
  prompt.insert(prompt.end(), {1, 2, 3});
  tokens longer = prompt;
  longer.insert(longer.end(), {4, 5});
  std::atomic<bool> done{false};
  std::thread other([&] {
    for (int i = 0; i < rounds; ++i) {
      publish(cache, base);
      publish(cache, longer);
      for (std::size_t at = 11; at > 0; --at) {
        tokens branch(base.begin(), base.begin() + static_cast<std::ptrdiff_t>(at * block));
        branch.push_back(900);
        publish(cache, branch);
      }
      cache.clear();
    }
    done = true;
  });
  std::atomic<std::int64_t> held{0}, most{0};
  const auto announce = [&] {
    while (!done) {
      announcement a = cache.announce(prompt).value();
      const std::int64_t n = a.held_tokens();
      held += n;
      if (n > most) most = n;
    }
  };
  std::thread more(announce);
  announce();
  more.join();
  other.join();
  EXPECT_GT(held, 0);
  EXPECT_LE(most, static_cast<std::int64_t>(prompt.size()));
  EXPECT_EQ(cache.check_invariants(), "");
}

}  // namespace
}  // namespace radixkv
