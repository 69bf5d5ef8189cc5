// find_shared of the device index, against comparing every pair of prompts.
#include "csrc/cuda/device_memory.h"
#include "tests/cuda/index_pair.h"

namespace radixkv::testing {
namespace {

TEST(cuda_index_shared, prompts_share_what_nobody_has_cached) {
  cuda_index_options options = small_options();
  options.find_shared = true;
  index_pair pair(options.blocks, options, 7);
  test_stream updates, streams[2];
  match_memory memory[4];
  std::vector<std::unique_ptr<pending_match>> flying;
  std::int64_t found = 0;
  for (int step = 0; step < 40; ++step) {
    for (std::size_t i = pair.random() % 12; i > 0; --i) {
      pair.random() % 3 ? pair.add() : pair.remove();
    }
    if (pair.random() % 3 == 0) pair.update(updates);  // prompts of blocks not published yet
    flying.push_back(std::make_unique<pending_match>(
        pair, 1 + pair.random() % 40, streams[pair.random() % 2], memory[flying.size()]));
    flying.back()->find_shared(pair);
    flying.back()->finish(pair);
    if (flying.size() < 4) continue;
    for (auto& m : flying) m->check_shared(found);
    flying.clear();
    RADIXKV_ASSERT_OK(pair.index.synchronize());
  }
  EXPECT_GT(found, 100);
}

// CUB takes the thread's last error for its own.
TEST(cuda_index_shared, what_others_left_as_last_error_fails_nothing) {
  cuda_index_options options = small_options();
  options.find_shared = true;
  leave_last_error();
  auto made = cuda_index::create(options);
  ASSERT_TRUE(made.ok()) << made.error().message;
  (void)cudaGetLastError();
  device_array<token_id> prompts(tokens(2 * block_tokens, 5));
  device_array<std::int64_t> offsets(std::vector<std::int64_t>{0, block_tokens, 2 * block_tokens});
  device_array<std::int32_t> matched(2), representatives(2), shared(2);
  device_array<block_id> table(2);
  test_stream stream;
  const cuda_match_batch batch{.tokens = prompts.data(),
                               .offsets = offsets.data(),
                               .prompts = 2,
                               .token_count = 2 * block_tokens,
                               .matched_blocks = matched.data(),
                               .block_table = table.data()};
  const auto ticket = made->match(stream, batch);
  ASSERT_TRUE(ticket.ok()) << ticket.error().message;
  leave_last_error();
  RADIXKV_ASSERT_OK(made->find_shared(stream, batch, {representatives.data(), shared.data()}));
  (void)cudaGetLastError();
  RADIXKV_ASSERT_OK(made->finish(stream, *ticket));
  RADIXKV_ASSERT_OK(made->synchronize());
  EXPECT_EQ(representatives.download(), (std::vector<std::int32_t>{0, 0}));
  EXPECT_EQ(shared.download(), (std::vector<std::int32_t>{0, 1}));
}

// A search behind everything else; its results are read where no copy waits for them.
TEST(cuda_index_shared, synchronize_waits_for_a_search) {
  cuda_index_options options = small_options();
  options.find_shared = true;
  index_pair pair(options.blocks, options, 9);
  test_stream stream;
  device_array<token_id> prompts(tokens(2 * block_tokens, 5));
  device_array<std::int64_t> offsets(std::vector<std::int64_t>{0, block_tokens, 2 * block_tokens});
  device_array<std::int32_t> matched(std::vector<std::int32_t>{0, 0});
  device_array<block_id> table(std::vector<block_id>{no_block, no_block});
  const detail::pinned_buffer memory = detail::allocate_pinned("results", 16).value();
  auto* const results = reinterpret_cast<std::int32_t*>(memory.get());
  RADIXKV_ASSERT_OK(pair.index.find_shared(stream,
                                           {.tokens = prompts.data(),
                                            .offsets = offsets.data(),
                                            .prompts = 2,
                                            .token_count = 2 * block_tokens,
                                            .matched_blocks = matched.data(),
                                            .block_table = table.data()},
                                           {results, results + 2}));
  RADIXKV_ASSERT_OK(pair.index.synchronize());
  EXPECT_EQ(std::vector<std::int32_t>(results, results + 4),
            (std::vector<std::int32_t>{0, 0, 0, 1}));
}

TEST(cuda_index_shared, find_shared_refuses_what_it_was_not_made_for) {
  device_array<std::int32_t> results(2);
  device_array<token_id> prompt(tokens(block_tokens, 5));
  device_array<std::int64_t> offsets(std::vector<std::int64_t>{0, block_tokens});
  device_array<block_id> table(1);
  test_stream stream;
  const cuda_shared_prefixes good{results.data(), results.data() + 1};
  cuda_match_batch batch{.tokens = prompt.data(),
                         .offsets = offsets.data(),
                         .prompts = 1,
                         .token_count = block_tokens,
                         .matched_blocks = results.data(),
                         .block_table = table.data()};
  cuda_index_options options = small_options();
  cuda_index without = cuda_index::create(options).value();
  expect_refused(without.find_shared(stream, batch, good), errc::invalid_argument,
                 "options.find_shared");
  options.find_shared = true;
  cuda_index index = cuda_index::create(options).value();
  expect_refused(index.find_shared(stream, batch, {nullptr, good.shared_blocks}),
                 errc::invalid_argument, "null representatives");
  expect_refused(index.find_shared(stream, batch, {good.representatives, nullptr}),
                 errc::invalid_argument, "null shared_blocks");
  expect_refused(
      index.find_shared(stream, batch,
                        {(std::int32_t*)((char*)good.representatives + 1), good.shared_blocks}),
      errc::invalid_argument, "find_shared: ");
  batch.prompts = 65;
  expect_refused(index.find_shared(stream, batch, good), errc::invalid_argument,
                 "find_shared: prompts 65");
  batch.prompts = 0;
  RADIXKV_ASSERT_OK(index.find_shared(stream, batch, {}));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

}  // namespace
}  // namespace radixkv::testing
