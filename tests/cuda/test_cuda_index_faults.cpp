// Failures of the CUDA runtime at every single call of the device index: an error value, and a call
// that is repeated goes on to the same result.
#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <string_view>

#include "radixkv/cuda_index_feed.h"
#include "tests/cuda/executor_test.h"
#include "tests/cuda/fault_injection.h"
#include "tests/support/alloc_failure.h"

namespace radixkv::testing {
namespace {

TEST(cuda_index_faults, every_call_of_the_index_may_fail) {
  const cuda_index_options options{.blocks = 600,
                                   .block_tokens = 4,
                                   .max_prompts = 4,
                                   .max_prompt_tokens = 64,
                                   .staging_bytes = 128 << 10,
                                   .matches_in_flight = 2,
                                   .find_shared = true};
  // CUB asks once a process what it runs on, and never gets over a failure in the midst of that.
  ASSERT_TRUE(cuda_index::create(options).ok());
  for (std::int64_t n = 0, done = 0; done == 0; ++n) {
    ASSERT_LT(n, 200);
    fail_cuda_call(n);
    const auto made = cuda_index::create(options);
    done = !cuda_call_failed();
    fail_cuda_call(-1);
    EXPECT_EQ(made.ok(), done != 0) << n;
    if (!made.ok()) {
      EXPECT_NE(made.error().code, errc::invalid_argument) << made.error().message;
    }
  }

  cuda_index index = cuda_index::create(options).value();
  test_stream updates, stream;
  const std::vector<token_id> prompt(8, 3);
  device_array<token_id> tokens(std::vector<token_id>(16, 3));  // the prompt twice
  device_array<std::int64_t> offsets(std::vector<std::int64_t>{0, 8, 16});
  device_array<std::int32_t> matched(2), representatives(2), shared(2);
  device_array<block_id> table(4);
  const cuda_match_batch batch{.tokens = tokens.data(),
                               .offsets = offsets.data(),
                               .prompts = 2,
                               .token_count = 16,
                               .matched_blocks = matched.data(),
                               .block_table = table.data()};
  block_id block = 0;
  std::uint64_t published = 0;
  // The prompt's second block comes and goes; an update that failed is called again.
  RADIXKV_ASSERT_OK(index.add(599, no_block, 0, std::span(prompt).first(4)));
  for (std::int64_t n = 0, clean = 0; clean < 2; ++n) {
    ASSERT_LT(n, 200);
    const bool adds = n % 2 == 0;
    if (adds) {
      RADIXKV_ASSERT_OK(index.add(block, 599, 0, std::span(prompt).last(4)));
    } else {
      const auto removed = index.remove(block++);
      ASSERT_TRUE(removed.ok()) << removed.error().message;
      EXPECT_EQ(*removed, published + 1);
    }
    bool failed = false;
    const auto until_done = [&](auto call) {
      fail_cuda_call(n / 2);
      for (int tries = 0; tries < 3; ++tries) {
        const status s = call();
        if (s.ok()) break;
        ASSERT_TRUE(cuda_call_failed()) << s.error().message;
        ASSERT_EQ(s.error().code, errc::device) << s.error().message;
        fail_cuda_call(-1);
        RADIXKV_ASSERT_OK(index.synchronize());
      }
      failed = failed || cuda_call_failed();
      fail_cuda_call(-1);
    };
    until_done([&] { return index.update(updates); });
    EXPECT_EQ(index.published(), ++published);
    std::uint64_t ticket = 0;
    until_done([&]() -> status {
      const auto t = index.match(stream, batch);
      if (!t.ok()) return t.error();
      ticket = *t;
      return {};
    });
    until_done([&] {
      return index.find_shared(stream, batch, {representatives.data(), shared.data()});
    });
    until_done([&] { return index.finish(stream, ticket); });
    stream.synchronize();
    using numbers = std::vector<std::int32_t>;
    ASSERT_EQ(matched.download(), numbers(2, adds ? 2 : 1)) << n;
    ASSERT_EQ(representatives.download(), (numbers{0, adds ? 1 : 0})) << n;
    ASSERT_EQ(shared.download(), (numbers{0, adds ? 0 : 1})) << n;
    EXPECT_EQ(index.retired().value(), published);
    clean = failed ? 0 : clean + 1;
  }
  EXPECT_EQ(index.check_invariants(), "");
}

TEST(cuda_index_faults, a_feed_that_cannot_ask_says_what_had_retired) {
  const auto index = std::make_shared<cuda_index>(
      cuda_index::create({.blocks = 8, .block_tokens = 4, .max_prompts = 1, .max_prompt_tokens = 8})
          .value());
  cuda_index_feed feed(index, 8);
  test_stream stream;
  ASSERT_TRUE(feed.on_publish(0, no_block, "", std::vector<token_id>(4, 3)));
  RADIXKV_ASSERT_OK(index->update(stream));
  ASSERT_EQ(feed.retired(), 1u);
  for (std::int64_t n = 0, failed = 1; failed != 0; ++n) {
    ASSERT_LT(n, 100);
    fail_cuda_call(n);
    EXPECT_EQ(feed.retired(), 1u) << n;
    failed = cuda_call_failed();
    fail_cuda_call(-1);
  }
}

// A search that fails in the midst has work in flight, on memory that all searches share: the next
// one, on another stream, waits for it without being told to.
TEST(cuda_index_faults, a_search_for_shared_prefixes_waits_for_one_that_failed) {
  constexpr std::int32_t prompts = 40;
  constexpr std::int32_t blocks = 6;
  constexpr std::int32_t size = 4;
  cuda_index index = cuda_index::create({.blocks = 100,
                                         .block_tokens = size,
                                         .max_prompts = prompts,
                                         .max_prompt_tokens = prompts * blocks * size,
                                         .matches_in_flight = 1,
                                         .find_shared = true})
                         .value();
  test_stream failing, good;
  // Two batches: the first half of each prompt is that of a prompt in the other batch, too.
  std::mt19937 random(5);
  std::vector<token_id> text[2];
  std::vector<std::int64_t> offsets;
  for (std::int32_t i = 0; i <= prompts; ++i) offsets.push_back(std::int64_t{i} * blocks * size);
  for (auto& t : text) {
    for (std::int64_t i = 0; i < offsets.back(); ++i) {
      t.push_back(i % (blocks * size) < blocks * size / 2 ? 1 : random());
    }
  }
  device_array<token_id> tokens[2] = {device_array<token_id>(text[0]),
                                      device_array<token_id>(text[1])};
  device_array<std::int64_t> ends(offsets);
  device_array<std::int32_t> matched(std::vector<std::int32_t>(prompts, 0));
  device_array<std::int32_t> representatives[2] = {device_array<std::int32_t>(prompts),
                                                   device_array<std::int32_t>(prompts)};
  device_array<std::int32_t> shared[2] = {device_array<std::int32_t>(prompts),
                                          device_array<std::int32_t>(prompts)};
  device_array<block_id> table(std::vector<block_id>(prompts * blocks, no_block));
  const auto search = [&](int which, cudaStream_t stream) {
    return index.find_shared(stream,
                             {.tokens = tokens[which].data(),
                              .offsets = ends.data(),
                              .prompts = prompts,
                              .token_count = offsets.back(),
                              .matched_blocks = matched.data(),
                              .block_table = table.data()},
                             {representatives[which].data(), shared[which].data()});
  };
  std::vector<std::int32_t> all_first(prompts, 0);
  std::vector<std::int32_t> half(prompts, blocks / 2);
  half[0] = 0;
  int in_the_midst = 0;
  // Each call many times: the two streams' work can meet in many orders.
  for (std::int64_t n = 0, done = 0; done == 0; ++n) {
    ASSERT_LT(n, 40);
    for (int turn = 0; turn < 20; ++turn) {
      fail_cuda_call(n);
      const status s = search(0, failing);
      done = !cuda_call_failed();
      const bool launch = !done && std::string_view(failed_cuda_call()) == "cudaLaunchKernelExC";
      fail_cuda_call(-1);
      EXPECT_EQ(s.ok(), done != 0) << n;
      const status next = search(1, good);
      RADIXKV_ASSERT_OK(index.synchronize());
      if (!launch && !done) continue;
      RADIXKV_ASSERT_OK(next);
      failing.synchronize();
      in_the_midst += launch;
      ASSERT_EQ(representatives[1].download(), all_first) << n;
      ASSERT_EQ(shared[1].download(), half) << n;
    }
  }
  EXPECT_GT(in_the_midst, 1);
  (void)cudaGetLastError();
}

// No memory for the text of an update's error: what is enqueued is recorded all the same, and the
// update goes on when it is called again.
TEST(cuda_index_faults, an_update_may_find_no_memory_for_its_error) {
  static std::optional<alloc_failure> none;
  cuda_index index = cuda_index::create({.blocks = 100,
                                         .block_tokens = 4,
                                         .max_prompts = 1,
                                         .max_prompt_tokens = 4,
                                         .staging_bytes = 128 << 10,
                                         .matches_in_flight = 2})
                         .value();
  const test_stream updates;
  const std::vector<token_id> tokens(4, 3);
  int within = 0;
  for (std::int64_t n = 0, done = 0; done == 0; ++n) {
    ASSERT_LT(n, 40);
    RADIXKV_ASSERT_OK(index.add(5, no_block, static_cast<std::int32_t>(n), tokens));
    at_cuda_failure([] { none.emplace(0); });
    fail_cuda_call(n);
    const status s = index.update(updates);
    done = !cuda_call_failed();
    at_cuda_failure(nullptr);
    fail_cuda_call(-1);
    none.reset();
    EXPECT_EQ(s.ok(), done != 0) << n;
    if (!done) {
      expect_refused(s, errc::device, "CUDA error");
      within += std::string_view(failed_cuda_call()) == "cudaLaunchKernelExC";
    }
    RADIXKV_ASSERT_OK(index.synchronize());
    RADIXKV_ASSERT_OK(index.update(updates));
    EXPECT_EQ(index.published(), static_cast<std::uint64_t>(2 * n + 1));
    ASSERT_TRUE(index.remove(5).ok());
    RADIXKV_ASSERT_OK(index.update(updates));
  }
  EXPECT_GE(within, 1);
  (void)cudaGetLastError();
}

// A path that is replaced as a whole, by ids in another order: several staging slots an update,
// each applied to one table after the other.
TEST(cuda_index_faults, an_update_of_many_pieces_may_fail_anywhere) {
  constexpr std::int64_t path = 300;
  constexpr std::uint32_t size = 16;
  cuda_index index = cuda_index::create({.blocks = path,
                                         .block_tokens = size,
                                         .max_prompts = 1,
                                         .max_prompt_tokens = path * size,
                                         .staging_bytes = 128 << 10,
                                         .matches_in_flight = 2})
                         .value();
  test_stream updates, stream;
  std::mt19937 random(8);
  std::vector<token_id> prompt(path * size);
  std::vector<block_id> blocks(path);
  for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<block_id>(i);
  device_array<token_id> tokens(prompt.size());
  device_array<std::int64_t> offsets(
      std::vector<std::int64_t>{0, static_cast<std::int64_t>(prompt.size())});
  device_array<std::int32_t> matched(1);
  device_array<block_id> table(blocks.size());
  int failures = 0, clean = 0;
  for (std::int64_t n = 0; clean < 2; ++n) {
    ASSERT_LT(n, 400);
    if (index.size() > 0) {
      for (std::size_t i = blocks.size(); i-- > 0;) ASSERT_TRUE(index.remove(blocks[i]).ok());
    }
    std::shuffle(blocks.begin(), blocks.end(), random);
    for (token_id& t : prompt) t = random();
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      RADIXKV_ASSERT_OK(index.add(blocks[i], i == 0 ? no_block : blocks[i - 1], 0,
                                  std::span(prompt).subspan(i * size, size)));
    }
    fail_cuda_call(n);
    status s = index.update(updates);
    const bool failed = cuda_call_failed();
    fail_cuda_call(-1);
    if (failed) {
      expect_refused(s, errc::device, "");
      ++failures;
    }
    for (int tries = 0; !s && tries < 20; ++tries) {
      RADIXKV_ASSERT_OK(index.synchronize());
      s = index.update(updates);
    }
    RADIXKV_ASSERT_OK(s);
    tokens.upload(prompt);
    const auto ticket = index.match(stream, {.tokens = tokens.data(),
                                             .offsets = offsets.data(),
                                             .prompts = 1,
                                             .token_count = path * size,
                                             .matched_blocks = matched.data(),
                                             .block_table = table.data()});
    ASSERT_TRUE(ticket.ok()) << ticket.error().message;
    RADIXKV_ASSERT_OK(index.finish(stream, *ticket));
    stream.synchronize();
    ASSERT_EQ(matched.download()[0], path) << n;
    ASSERT_EQ(table.download(), blocks) << n;
    clean = failed ? 0 : clean + 1;
  }
  EXPECT_GT(failures, 20);
  EXPECT_EQ(index.check_invariants(), "");
}

}  // namespace
}  // namespace radixkv::testing
