// Which evicted paths are recognised.
#include "csrc/core/eviction/run_history.h"

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

namespace radixkv::detail {
namespace {

constexpr std::uint32_t block = 16, chunk = 256, per_chunk = chunk / block;

run_history history() {
  run_history h;
  h.reset(block, chunk);
  EXPECT_TRUE(h.reserve(16, 16));
  return h;
}

std::vector<std::uint64_t> hashes(std::uint32_t n) {
  std::vector<std::uint64_t> of_chunks;
  for (std::uint32_t i = 0; i < n; ++i) of_chunks.push_back((i + 1) * 0x9e3779b97f4a7c15u);
  return of_chunks;
}

TEST(run_history, recognises_what_follows_an_evicted_run_by_its_first_chunk) {
  run_history h = history();
  const auto path = hashes(4);
  const run_id a = h.add(root_run, per_chunk + 3, path);
  const run_id b = h.add(a, 2 * per_chunk, path);
  std::uint32_t depth = 0;
  EXPECT_EQ(h.follow(root_run, depth, h[b].end(), path), b);
  EXPECT_EQ(depth, h[b].end());
}

// Turns shorter than a chunk have no hash of their own. What follows them is found through them.
TEST(run_history, passes_runs_too_short_for_a_chunk_on_the_way) {
  run_history h = history();
  const auto path = hashes(4);
  const run_id a = h.add(root_run, per_chunk, path);
  const run_id short1 = h.add(a, 5, path);
  const run_id short2 = h.add(short1, 4, path);
  const run_id b = h.add(short2, 2 * per_chunk, path);
  ASSERT_EQ(h.check(), "");
  std::uint32_t depth = 0;
  EXPECT_EQ(h.follow(root_run, depth, h[b].end(), path), b);
  EXPECT_EQ(depth, h[b].end());
}

TEST(run_history, passes_short_runs_that_a_split_has_made) {
  run_history h = history();
  const auto path = hashes(4);
  const run_id a = h.add(root_run, per_chunk, path);
  const run_id b = h.add(a, 2 * per_chunk, path);
  const run_id upper = h.split(b, per_chunk + 6);
  ASSERT_EQ(h[b].parent, upper);
  ASSERT_EQ(h.check(), "");
  std::uint32_t depth = 0;
  EXPECT_EQ(h.follow(root_run, depth, h[b].end(), path), b);
  EXPECT_EQ(depth, h[b].end());
}

// What is cached the cache itself would have found: a prompt that goes on otherwise than it is no
// part of what follows it.
TEST(run_history, passes_no_short_run_that_is_cached) {
  run_history h = history();
  const auto path = hashes(4);
  const run_id a = h.add(root_run, per_chunk, path);
  h.set_cached(a, per_chunk);
  const run_id short1 = h.add(a, 5, path);
  h.set_cached(short1, 5);
  h.add(short1, 2 * per_chunk, path);
  std::uint32_t depth = per_chunk;
  EXPECT_EQ(h.follow(a, depth, 3 * per_chunk, path), a);
  EXPECT_EQ(depth, per_chunk);
}

}  // namespace
}  // namespace radixkv::detail
