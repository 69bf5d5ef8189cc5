// Matching when hashes collide on purpose. Linked several times: with the kernel as it is every
// answer must be right; with one of its checks left out (RADIXKV_TEST_DROP_…, and the environment
// says so) some answer must be wrong, or the test would not notice that the check is missing; the
// first wrong one is enough.

#include <cstdlib>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "tests/support/device_index.h"

namespace radixkv::testing {
namespace {

const bool is_broken = std::getenv("RADIXKV_TEST_CHECK_IS_DROPPED") != nullptr;

// Many siblings, and the same blocks again and again under different parents and at every depth.
// The batch begins with `leading` prompts that collide with nothing.
struct colliding_world {
  colliding_world(std::uint32_t block_tokens, std::uint32_t hash_bits, std::size_t depth,
                  std::size_t blocks, std::uint64_t seed, std::size_t leading = 0)
      : index(static_cast<std::int32_t>(blocks + blocks / 4), block_tokens, hash_bits, seed),
        random(seed) {
    const std::size_t bt = block_tokens;
    std::vector<std::vector<std::uint32_t>> words;
    for (int i = 0; i < 3; ++i) words.push_back(random_tokens(random, bt));
    const std::size_t paths = blocks / (depth + 1);
    for (std::size_t i = 0; i < paths; ++i) {
      std::vector<std::uint32_t> path = random_tokens(random, bt);  // a sibling
      path[0] = static_cast<std::uint32_t>(i);
      for (std::size_t d = 1; d < depth; ++d) {
        const auto& word = words[random() % 20 == 0 ? random() % words.size() : 0];
        path.insert(path.end(), word.begin(), word.end());
      }
      cached.push_back(path);
      index.insert(path, static_cast<std::int32_t>(i % 2));
    }
    // So many siblings that any prompt's first block collides with one of them.
    for (std::size_t i = 0; i < blocks / 4; ++i) {
      index.insert(random_tokens(random, bt), static_cast<std::int32_t>(i % 2));
    }
    for (std::size_t p = 0; p < leading; ++p) batch.add(random_tokens(random, 1), 0);
    for (std::size_t p = 0; p < (depth > 100 ? 40 : 100); ++p) {
      const std::size_t which = random() % cached.size();
      auto prompt = cached[which];
      prompt.resize(prompt.size() - random() % (prompt.size() / 2));
      switch (random() % 6) {
        case 0:
          prompt[random() % bt] ^= 0x100;
          break;  // an unknown sibling
        case 1:
          prompt[random() % prompt.size()] ^= 0x100;
          break;  // leaves somewhere
        case 2:
          prompt = random_tokens(random, prompt.size());
          break;
        default:
          break;
      }
      batch.add(prompt, static_cast<std::int32_t>(which % 2 ^ (random() % 8 == 0)));
    }
  }

  device_index index;
  std::mt19937_64 random;
  std::vector<std::vector<std::uint32_t>> cached;
  prompt_batch batch;
};

void check_depth(std::size_t depth, std::initializer_list<std::uint32_t> bits,
                 std::size_t leading = 0) {
  const test_stream stream;
  for (const std::uint32_t hash_bits : bits) {
    colliding_world world(16, hash_bits, depth, 4000, 100 + hash_bits, leading);
    world.index.upload(stream);
    ASSERT_EQ(world.index.mirror().check_invariants(), "");
    const std::string differs = match_and_compare(world.index, world.batch, stream);
    if (is_broken && !differs.empty()) return;
    if (!is_broken) EXPECT_EQ(differs, "") << hash_bits << " bits";
  }
  if (is_broken) ADD_FAILURE() << "a check is missing and nothing shows it";
}

TEST(prefix_match_collisions, prompts_that_share_a_warp) {
  check_depth(10, {4, 6, 8, 10, 11, 12, 13, 14, 16});
}
TEST(prefix_match_collisions, prompts_of_one_tile) { check_depth(50, {4, 8, 10, 12, 14, 16}); }
TEST(prefix_match_collisions, prompts_of_many_tiles) { check_depth(200, {8, 10, 11, 12, 13}); }

// The first warp of the block that resolves has no prompt of its own and is done at once, before
// the others have asked whether any is left.
TEST(prefix_match_collisions, prompts_of_later_warps) { check_depth(200, {8, 10, 11}, 32); }

// Nothing but the namespace tells them apart, and hashes do not: a tenant is given no block of
// another one's, however equal their prompts.
TEST(prefix_match_collisions, equal_prompts_of_other_namespaces) {
  if (is_broken) GTEST_SKIP() << "only the check of parents matters here";
  const test_stream stream;
  constexpr std::int32_t namespaces = 40;
  for (const std::uint32_t block_tokens : {4u, 16u, 32u}) {
    for (const std::size_t depth : {1, 3, 40}) {  // short ones, and one that is matched by tiles
      std::mt19937_64 random(depth);
      const auto prompt = random_tokens(random, block_tokens * depth);
      device_index index(static_cast<std::int32_t>(namespaces * depth), block_tokens, 6);
      prompt_batch batch;
      for (std::int32_t n = 0; n < namespaces; ++n) {
        if (n % 2 == 0) index.insert(prompt, n);
        batch.add(prompt, n);
      }
      index.upload(stream);
      EXPECT_EQ(match_and_compare(index, batch, stream), "")
          << block_tokens << " tokens, " << depth << " blocks";
    }
  }
}

TEST(prefix_match_collisions, every_block_size) {
  const test_stream stream;
  for (const std::uint32_t block_tokens : {1, 4, 32, 256, 512, 1024}) {
    for (const std::uint32_t hash_bits : {10, 13}) {
      colliding_world world(block_tokens, hash_bits, block_tokens > 64 ? 6 : 80, 2000, hash_bits);
      world.index.upload(stream);
      const std::string differs = match_and_compare(world.index, world.batch, stream);
      if (is_broken && !differs.empty()) return;
      if (!is_broken) {
        EXPECT_EQ(differs, "") << block_tokens << " tokens, " << hash_bits << " bits";
      }
    }
  }
  if (is_broken) ADD_FAILURE() << "a check is missing and nothing shows it";
}

}  // namespace
}  // namespace radixkv::testing
