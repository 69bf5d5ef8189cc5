// The device index: updates and matches on several streams, against a map walked block by block.
#include "tests/cuda/index_pair.h"

namespace radixkv::testing {
namespace {

TEST(cuda_index, matches_see_the_last_update_whatever_overlaps) {
  for (const std::uint32_t hash_bits : {62u, 10u}) {
    cuda_index_options options = small_options();
    options.hash_bits = hash_bits;
    index_pair pair(options.blocks, options, hash_bits);
    test_stream updates, matches[2];
    match_memory memory[6];
    std::vector<std::unique_ptr<pending_match>> flying;
    std::int64_t hits = 0;
    for (int step = 0; step < 60; ++step) {
      for (std::size_t i = pair.random() % 12; i > 0; --i)
        pair.random() % 3 ? pair.add() : pair.remove();
      if (pair.random() % 2) pair.update(updates);
      flying.push_back(std::make_unique<pending_match>(
          pair, 1 + pair.random() % 6, matches[pair.random() % 2], memory[flying.size()]));
      flying.back()->finish(pair);
      if (flying.size() == 6) {
        for (auto& m : flying) m->check(hits);
        flying.clear();
        RADIXKV_ASSERT_OK(pair.index.synchronize());
      }
    }
    for (auto& m : flying) m->check(hits);
    EXPECT_GT(hits, 300);
    EXPECT_EQ(pair.index.check_invariants(), "");
  }
}

// Each on the stream that comes next, and nobody waits for the one before.
TEST(cuda_index, updates_on_several_streams) {
  for (std::uint32_t seed = 20; seed < 24; ++seed) {
    index_pair pair(300, small_options(), seed);
    test_stream updates[3], stream;
    match_memory memory[2];
    std::int64_t hits = 0;
    for (int i = 0; i < 40; ++i) pair.add();
    for (int round = 0; round < 12; ++round) {
      for (std::size_t u = pair.random() % 7; u > 0; --u) {
        for (std::size_t i = pair.random() % 8; i > 0; --i)
          pair.random() % 2 ? pair.add() : pair.remove();
        pair.update(updates[pair.random() % 3]);
      }
      pending_match first(pair, 8, stream, memory[0]);
      first.finish(pair);
      first.check(hits);
      // What was left behind would show now.
      for (test_stream& s : updates) s.synchronize();
      pending_match second(pair, 8, stream, memory[1]);
      second.finish(pair);
      second.check(hits);
      if (HasFatalFailure()) return;
    }
    EXPECT_GT(hits, 50);
  }
}

TEST(cuda_index, a_removed_block_retires_after_the_matches_before_it) {
  index_pair pair(300, small_options(), 3);
  test_stream updates, stream;
  for (int i = 0; i < 20; ++i) pair.add();
  EXPECT_EQ(pair.index.published(), 0u);
  pair.update(updates);
  EXPECT_EQ(pair.index.published(), 1u);
  EXPECT_EQ(pair.index.retired().value(), 1u);

  std::int64_t hits = 0;
  match_memory memory;
  pending_match match(pair, 4, stream, memory);
  pair.remove();
  pair.update(updates);
  RADIXKV_ASSERT_OK(pair.index.synchronize());
  match.check(hits);
  EXPECT_EQ(pair.index.published(), 2u);
  EXPECT_EQ(pair.index.retired().value(), 1u);  // the match is done, but its result may be in use
  match.finish(pair);
  stream.synchronize();
  EXPECT_EQ(pair.index.retired().value(), 2u);
  pair.update(updates);  // nothing to publish
  EXPECT_EQ(pair.index.published(), 2u);
  expect_refused(pair.index.finish(stream, 1), errc::not_found, "ticket 1");
}

TEST(cuda_index, an_update_larger_than_the_staging_goes_on_where_it_stopped) {
  cuda_index_options options = small_options();
  options.blocks = 40'000;
  index_pair pair(options.blocks, options, 4);
  test_stream updates, stream;
  match_memory memory[3];
  int busy = 0;
  std::int64_t hits = 0;
  for (int round = 0; round < 3; ++round) {
    // Chains and bushes: more than the 128 KiB of staging.
    for (int i = 0; i < 3000; ++i) pair.add();
    for (int i = 0; i < 200; ++i) pair.remove();
    pending_match before(pair, 8, stream, memory[0]);
    for (status s = pair.index.update(updates); !s; s = pair.index.update(updates)) {
      expect_refused(s, errc::busy, "update again");
      if (++busy % 64 != 1) continue;
      pending_match meanwhile(pair, 8, stream, memory[1]);  // still reads the state before
      meanwhile.finish(pair);
      meanwhile.check(hits);
    }
    pair.update(updates);
    pending_match after(pair, 8, stream, memory[2]);
    before.finish(pair);
    after.finish(pair);
    before.check(hits);
    after.check(hits);
  }
  const char* mode = std::getenv("CUDASIM_ASYNC");
  if (mode != nullptr && std::string(mode) == "lazy") {
    EXPECT_GT(busy, 0);
  }
}

// An update that staging cut short goes on, on another stream: what was enqueued on the first one
// is part of it.
TEST(cuda_index, an_update_may_go_on_on_another_stream) {
  cuda_index_options options = small_options();
  options.blocks = 40'000;
  match_memory memory;
  std::int64_t hits = 0;
  int busy = 0;
  for (std::uint32_t round = 0; round < 3; ++round) {
    index_pair pair(options.blocks, options, 20 + round);
    test_stream updates[2], stream;
    for (int turn = 0; turn < 2; ++turn) {  // a table is written for the first time, and again
      for (int i = 0; i < 3000; ++i) pair.add();
      int on = 0;
      for (status s = pair.index.update(updates[0]); !s; s = pair.index.update(updates[on])) {
        ASSERT_EQ(s.error().code, errc::busy) << s.error().message;
        expect_refused(s, errc::busy, "update again");
        ++busy;
        on = 1;
      }
      pair.update(updates[on]);
      pending_match match(pair, 60, stream, memory);
      match.finish(pair);
      match.check(hits);
    }
  }
  EXPECT_GT(hits, 0);
  const char* mode = std::getenv("CUDASIM_ASYNC");
  if (mode != nullptr && std::string(mode) == "lazy") {
    EXPECT_GT(busy, 0);
  }
}

TEST(cuda_index, a_captured_stream_is_refused_and_stays_captured) {
  cuda_index_options options = small_options();
  options.find_shared = true;
  index_pair pair(options.blocks, options, 30);
  test_stream stream, captured;
  match_memory memory;
  for (int i = 0; i < 20; ++i) pair.add();
  pair.update(stream);
  pending_match match(pair, 4, stream, memory);
  RADIXKV_ASSERT_OK(pair.index.synchronize());
  pair.add();
  cuda_match_batch batch = match.batch();
  require_cuda(cudaStreamBeginCapture(captured, cudaStreamCaptureModeThreadLocal));
  const auto refused = [](const auto& r) {
    expect_refused(r, errc::invalid_argument, "the stream is being captured");
  };
  refused(pair.index.update(captured));
  refused(pair.index.match(captured, batch));
  refused(pair.index.find_shared(captured, batch,
                                 {memory.representatives.data(), memory.shared.data()}));
  refused(pair.index.finish(captured, match.ticket()));
  cudaStreamCaptureStatus state = cudaStreamCaptureStatusNone;
  require_cuda(cudaStreamIsCapturing(captured, &state));
  EXPECT_EQ(state, cudaStreamCaptureStatusActive);
  cudaGraph_t graph = nullptr;
  require_cuda(cudaStreamEndCapture(captured, &graph));
  std::size_t nodes = 1;
  require_cuda(cudaGraphGetNodes(graph, nullptr, &nodes));
  EXPECT_EQ(nodes, 0u);
  require_cuda(cudaGraphDestroy(graph));
  match.finish(pair);
  std::int64_t hits = 0;
  match.check(hits);
  pair.update(captured);
  RADIXKV_ASSERT_OK(pair.index.synchronize());
  EXPECT_EQ(pair.index.retired().value(), 2u);
}

TEST(cuda_index, bad_input_changes_nothing) {
  const auto create = [](auto change) {
    cuda_index_options o = small_options();
    change(o);
    return cuda_index::create(o);
  };
  expect_refused(create([](auto& o) { o.blocks = 0; }), errc::invalid_argument, "blocks 0");
  expect_refused(create([](auto& o) { o.blocks = max_blocks + 1; }), errc::invalid_argument,
                 "blocks 1073741825");
  expect_refused(create([](auto& o) { o.block_tokens = 24; }), errc::invalid_argument, "24");
  expect_refused(create([](auto& o) { o.max_prompts = 0; }), errc::invalid_argument, "prompts 0");
  expect_refused(create([](auto& o) { o.max_prompt_tokens = -1; }), errc::invalid_argument,
                 "max_prompt_tokens");
  expect_refused(create([](auto& o) { o.staging_bytes = 1; }), errc::invalid_argument, "131072");
  expect_refused(create([](auto& o) { o.matches_in_flight = 0; }), errc::invalid_argument,
                 "flight");

  cuda_index index = cuda_index::create(small_options()).value();
  test_stream stream;
  const tokens t(block_tokens, 5);
  RADIXKV_ASSERT_OK(index.add(7, no_block, 0, t));
  expect_refused(index.add(7, no_block, 0, t), errc::invalid_argument, "7");
  expect_refused(index.add(300, 7, 0, t), errc::invalid_argument, "300");
  expect_refused(index.add(-1, 7, 0, t), errc::invalid_argument, "-1");
  expect_refused(index.add(8, 9, 0, t), errc::invalid_argument, "9");
  expect_refused(index.add(8, -2, 0, t), errc::invalid_argument, "-2");
  expect_refused(index.add(8, no_block, -1, t), errc::invalid_argument, "namespace id -1");
  expect_refused(index.add(8, 7, 0, std::span(t).first(3)), errc::invalid_argument, "3");
  expect_refused(index.remove(8), errc::not_found, "8");
  RADIXKV_ASSERT_OK(index.add(8, 7, 0, t));
  expect_refused(index.remove(7), errc::invalid_argument, "7");
  EXPECT_EQ(index.size(), 2);
  EXPECT_EQ(index.check_invariants(), "");

  device_array<token_id> prompt(t);
  device_array<std::int64_t> offsets(std::vector<std::int64_t>{0, block_tokens});
  device_array<std::int32_t> matched(1);
  device_array<block_id> table(1);
  const cuda_match_batch good{.tokens = prompt.data(),
                              .offsets = offsets.data(),
                              .prompts = 1,
                              .token_count = block_tokens,
                              .matched_blocks = matched.data(),
                              .block_table = table.data()};
  const auto match = [&](auto change) {
    cuda_match_batch b = good;
    change(b);
    return index.match(stream, b);
  };
  expect_refused(match([](auto& b) { b.tokens = nullptr; }), errc::invalid_argument, "null tokens");
  expect_refused(match([](auto& b) { b.offsets = nullptr; }), errc::invalid_argument, "offsets");
  expect_refused(match([](auto& b) { b.matched_blocks = nullptr; }), errc::invalid_argument,
                 "null");
  expect_refused(match([](auto& b) { b.block_table = nullptr; }), errc::invalid_argument, "null");
  expect_refused(match([](auto& b) { b.prompts = 65; }), errc::invalid_argument, "limit is 64");
  expect_refused(match([](auto& b) { b.token_count = -1; }), errc::invalid_argument, "-1");
  expect_refused(match([](auto& b) { b.token_count = 1 << 15; }), errc::invalid_argument, "16384");
  expect_refused(
      match([](auto& b) { b.matched_blocks = (std::int32_t*)((char*)b.matched_blocks + 1); }),
      errc::invalid_argument, "match: ");
  // As many matches as may be in flight, and one more.
  std::vector<std::uint64_t> tickets;
  for (int i = 0; i < 8; ++i) tickets.push_back(match([](auto&) {}).value());
  expect_refused(match([](auto&) {}), errc::busy, "the limit is 8");
  for (const std::uint64_t ticket : tickets) RADIXKV_ASSERT_OK(index.finish(stream, ticket));
  stream.synchronize();
  EXPECT_EQ(matched.download()[0], 0);  // nothing was published yet
  RADIXKV_ASSERT_OK(index.update(stream));
  const auto ticket = match([](auto&) {});
  ASSERT_TRUE(ticket.ok()) << ticket.error().message;
  RADIXKV_ASSERT_OK(index.finish(stream, *ticket));
  stream.synchronize();
  EXPECT_EQ(matched.download()[0], 1);
  EXPECT_EQ(table.download()[0], 7);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

}  // namespace
}  // namespace radixkv::testing
