// What every policy must keep, whatever it prefers: only evictable tails are named, everything that
// may go can be had, and its own books agree.
#include <gtest/gtest.h>

#include "examples/sampled_lru.h"
#include "radixkv/eviction_policy.h"
#include "tests/core/eviction/random_load.h"

namespace radixkv {
namespace {

using study::hashes_of;
using study::path;
using study::random_paths;
using study::sim_tree;

class every_policy : public ::testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<eviction_policy> make() {
    // An application's own is held to the same.
    if (GetParam() == std::string_view("sampled_lru")) return std::make_unique<sampled_lru>();
    auto made = make_policy(GetParam());
    EXPECT_TRUE(made.ok());
    return std::move(*made);
  }
};

void run_random(eviction_policy& policy, std::uint64_t seed, std::uint32_t alphabet,
                std::uint32_t longest, std::uint32_t most_open, std::int64_t capacity,
                std::uint32_t block_tokens, std::uint64_t hash_mask = ~std::uint64_t{0}) {
  sim_tree tree(policy, capacity, block_tokens);
  random_paths paths(seed, alphabet, longest);
  const std::uint32_t chunk = policy.path_hash_tokens(block_tokens) / block_tokens;
  std::vector<std::pair<sim_tree::handle, path>> open;
  double now = 0;
  for (int step = 0; step < 20'000; ++step) {
    const std::uint64_t what = paths.number() % 100;
    if (what < 45 && open.size() < most_open) {
      const path p = paths.make();
      open.emplace_back(tree.open(p), p);
    } else if (what < 90 && !open.empty()) {
      const std::size_t k = paths.number() % open.size();
      if (paths.number() % 10 == 0) {
        tree.abandon(open[k].first);
      } else {
        auto hashes = hashes_of(open[k].second, chunk);
        for (std::uint64_t& h : hashes) h = h >> 20 & hash_mask;
        request_info info;
        info.seconds = now += 0.25;
        info.prompt_tokens = open[k].second.blocks * block_tokens;
        info.output_tokens = static_cast<std::uint32_t>(paths.number() % 900);
        // Now and then the cache has fewer hashes than chunks.
        info.path_hashes = hashes;
        if (paths.number() % 16 == 0) info.path_hashes = info.path_hashes.first(hashes.size() / 2);
        tree.close(open[k].first, info);
      }
      open[k] = open.back();
      open.pop_back();
    } else if (what < 99) {
      tree.evict(static_cast<std::int64_t>(paths.number() % 6));
    } else if (paths.number() % 50 == 0) {
      tree.clear();
    }
    ASSERT_EQ(tree.failure(), "") << policy.name() << " step " << step;
    if (step % 32 == 0) {
      ASSERT_EQ(policy.check(), "") << policy.name() << " step " << step;
    }
  }
  for (const auto& [handle, p] : open) tree.abandon(handle);
  ASSERT_EQ(policy.check(), "");
  const std::int64_t cached = tree.cached();
  EXPECT_GT(cached, 0);
  EXPECT_EQ(tree.evict(cached + 1), cached);
  EXPECT_EQ(tree.failure(), "");
  EXPECT_EQ(policy.next_victim().node, no_node);
}

TEST_P(every_policy, keeps_its_books_on_bushy_trees) { run_random(*make(), 11, 2, 24, 6, 80, 16); }
TEST_P(every_policy, keeps_its_books_with_many_open) {
  run_random(*make(), 12, 3, 60, 24, 600, 16);
}
TEST_P(every_policy, keeps_its_books_with_large_blocks) {
  run_random(*make(), 13, 5, 8, 3, 40, 512);
}
TEST_P(every_policy, keeps_its_books_with_tiny_blocks) {
  run_random(*make(), 14, 2, 300, 4, 2000, 1);
}
TEST_P(every_policy, starts_anew_when_attached_again) {
  auto policy = make();
  run_random(*policy, 15, 3, 20, 4, 80, 16);
  run_random(*policy, 16, 3, 20, 4, 80, 256);
}

// Colliding hashes cost statistics, never the books.
TEST_P(every_policy, keeps_its_books_when_hashes_of_few_bits_collide) {
  run_random(*make(), 18, 3, 60, 6, 300, 16, 3);
  run_random(*make(), 19, 3, 10, 6, 60, 512, 1);
  run_random(*make(), 20, 3, 10, 6, 60, 512, 0);
}

TEST_P(every_policy, survives_a_capacity_of_one_block) { run_random(*make(), 17, 2, 4, 2, 1, 16); }

TEST_P(every_policy, has_the_name_it_was_made_by) { EXPECT_EQ(make()->name(), GetParam()); }

INSTANTIATE_TEST_SUITE_P(policies, every_policy,
                         ::testing::Values("lru", "fifo", "lfu", "slru", "s3fifo", "reuse_index",
                                           "sampled_lru"));

TEST(make_policy, names_the_known_ones_when_it_knows_no_such) {
  const auto made = make_policy("mru");
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code, errc::not_found);
  EXPECT_NE(made.error().message.find("'mru'"), std::string::npos);
  EXPECT_NE(made.error().message.find("s3fifo"), std::string::npos);
}

}  // namespace
}  // namespace radixkv
