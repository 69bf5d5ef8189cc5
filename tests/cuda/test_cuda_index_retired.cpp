// When a removed block may be filled anew: not under a match that reads it, and at once when all
// that was finished has run.
#include <atomic>
#include <cstdlib>
#include <string>

#include "tests/cuda/index_pair.h"

namespace radixkv::testing {
namespace {

// The match's stream has come to the match before its epoch retires, whichever stream finishes it.
TEST(cuda_index_retired, nothing_retires_under_a_match_that_has_not_run) {
  index_pair pair(300, small_options(), 11);
  test_stream updates, stream, other;
  match_memory memory;
  std::int64_t hits = 0;
  for (int i = 0; i < 40; ++i) pair.add();
  pair.update(updates);
  RADIXKV_ASSERT_OK(pair.index.synchronize());
  std::atomic<int> come_to = 0;
  for (int round = 0; round < 30; ++round) {
    require_cuda(cudaLaunchHostFunc(
        stream, [](void* count) { ++*static_cast<std::atomic<int>*>(count); }, &come_to));
    pending_match match(pair, 8, stream, memory);
    match.finish(pair, round % 2 ? stream : other);
    pair.remove();
    const std::uint64_t removal = pair.index.published() + 1;
    pair.add();
    pair.update(updates);
    ASSERT_EQ(pair.index.published(), removal);
    for (std::uint64_t retired = 0; retired < removal;) {
      const auto reached = pair.index.retired();
      ASSERT_TRUE(reached.ok()) << reached.error().message;
      retired = *reached;
    }
    ASSERT_EQ(cudaGetLastError(), cudaSuccess);  // that a match was not done is no error
    ASSERT_EQ(come_to, round + 1);
    match.check(hits);
  }
  EXPECT_GT(hits, 10);
}

TEST(cuda_index_retired, all_has_retired_after_synchronize) {
  index_pair pair(300, small_options(), 12);
  test_stream updates, stream, other;
  match_memory memory[3];
  for (int i = 0; i < 40; ++i) pair.add();
  for (int round = 0; round < 10; ++round) {
    pair.update(updates);
    std::vector<std::unique_ptr<pending_match>> matches;
    for (match_memory& m : memory) {
      matches.push_back(std::make_unique<pending_match>(pair, 4, stream, m));
    }
    pair.remove();
    pair.add();
    pair.update(updates);
    for (std::size_t i = 0; i < matches.size(); ++i) {
      matches[i]->finish(pair, i == 0 ? stream : other);
    }
    RADIXKV_ASSERT_OK(pair.index.synchronize());
    EXPECT_EQ(pair.index.retired().value(), pair.index.published());
  }
}

// While an update is enqueued in part, what is removed waits for the one after it.
TEST(cuda_index_retired, a_removal_during_an_update_belongs_to_the_next_one) {
  constexpr block_id count = 6000;
  constexpr std::uint32_t size = 8;
  cuda_index index = cuda_index::create({.blocks = count,
                                         .block_tokens = size,
                                         .max_prompts = 1,
                                         .max_prompt_tokens = size,
                                         .staging_bytes = 128 << 10,
                                         .matches_in_flight = 2})
                         .value();
  test_stream updates, stream;
  device_array<token_id> prompt(tokens(size, 5));
  device_array<std::int64_t> offsets(std::vector<std::int64_t>{0, size});
  device_array<std::int32_t> matched(1);
  device_array<block_id> table(1);
  const auto found = [&]() -> std::int32_t {
    const auto ticket = index.match(stream, {.tokens = prompt.data(),
                                             .offsets = offsets.data(),
                                             .prompts = 1,
                                             .token_count = size,
                                             .matched_blocks = matched.data(),
                                             .block_table = table.data()});
    if (!ticket.ok() || !index.finish(stream, *ticket).ok()) return -1;
    stream.synchronize();
    return matched.download()[0];
  };
  RADIXKV_ASSERT_OK(index.add(5, no_block, 0, tokens(size, 5)));
  RADIXKV_ASSERT_OK(index.update(updates));
  for (block_id b = 0; b < count; ++b) {
    if (b != 5)
      RADIXKV_ASSERT_OK(index.add(b, no_block, 0, tokens(size, static_cast<token_id>(b))));
  }
  bool busy = false;
  std::uint64_t number = 0;
  for (status s = index.update(updates); !s; s = index.update(updates)) {
    expect_refused(s, errc::busy, "update again");
    if (busy) continue;
    busy = true;
    const auto removed = index.remove(5);
    ASSERT_TRUE(removed.ok()) << removed.error().message;
    number = *removed;
  }
  EXPECT_EQ(index.published(), 2u);
  EXPECT_EQ(found(), 1);
  if (busy) {
    EXPECT_EQ(number, 3u);
    while (!index.update(updates)) RADIXKV_ASSERT_OK(index.synchronize());
    EXPECT_EQ(index.published(), number);
    EXPECT_EQ(found(), 0);
  }
  const char* mode = std::getenv("CUDASIM_ASYNC");
  if (mode != nullptr && std::string(mode) == "lazy") {
    EXPECT_TRUE(busy);
  }
}

}  // namespace
}  // namespace radixkv::testing
