// block_copy against a plain host loop: layouts × alignments × lengths, random and hostile.

#include <random>

#include "tests/cuda/block_copy_pool.h"

namespace radixkv::kernels {
namespace {

TEST(block_copy, layouts_and_alignments) {
  // NHD, HND, MLA, one head, scales; each with every kind of base phase, segment gap and block gap.
  constexpr std::pair<std::uint32_t, std::uint32_t> kinds[] = {
      {1, 2048}, {4, 256}, {1, 656}, {1, 1152}, {8, 4}, {3, 132}, {2, 1}, {1, 7}, {5, 36}};
  constexpr std::size_t phases[] = {0, 16, 32, 8, 4, 2, 1, 13};
  constexpr std::size_t gaps[] = {0, 16, 48, 8, 4, 2, 1, 7};
  std::mt19937 random(11);
  for (const auto& [inner_count, bytes] : kinds) {
    for (const std::size_t phase : phases) {
      const std::size_t gap = gaps[random() % std::size(gaps)];
      const plane_shape shape{inner_count, bytes, phase, gap, gaps[random() % std::size(gaps)]};
      SCOPED_TRACE(::testing::Message()
                   << inner_count << " segments of " << bytes << " B/token, phase " << phase
                   << ", gaps " << shape.segment_gap << " and " << shape.block_gap);
      pool p = make_pool(8, 16, std::span(&shape, 1), static_cast<std::uint32_t>(random()));
      run_and_compare(p, random_items(p, 4, random));
      if (HasFatalFailure()) return;
    }
  }
}

TEST(block_copy, every_length_and_phase_of_a_segment) {
  // One byte per token makes `tokens` a length in bytes; a block stride of 4095 gives every phase.
  std::mt19937 random(12);
  const plane_shape shape{1, 1, 0, 0, 31};
  pool p = make_pool(400, 4096 - 31 - 1, std::span(&shape, 1), 12);
  std::vector<block_copy_item> items = random_items(p, 200, random);
  for (std::size_t i = 0; i < 120; ++i) items[i].tokens = static_cast<std::int32_t>(i + 1);
  run_and_compare(p, items);
}

TEST(block_copy, short_blocks_in_memory_that_ends_with_them) {
  std::mt19937 random(19);
  for (const std::uint32_t bytes : {1u, 3u, 5u, 11u}) {
    for (std::size_t phase = 0; phase < 16; ++phase) {
      SCOPED_TRACE(::testing::Message() << bytes << " B/token, phase " << phase);
      const plane_shape shape{1, bytes, phase, 0, 0};
      pool p = make_pool(4, 8, std::span(&shape, 1), 19);
      run_and_compare(p, random_items(p, 2, random));
      if (HasFatalFailure()) return;
    }
  }
}

// The simulator reports what is read behind the allocation, whether it is used or not.
TEST(block_copy, reads_nothing_behind_a_source_at_the_end_of_memory) {
  for (const std::uint32_t length : {33u, 700u, 5003u}) {
    for (std::size_t phase = 0; phase < 32; ++phase) {
      SCOPED_TRACE(::testing::Message() << length << " bytes, phase " << phase);
      const plane_shape shape{1, 1, phase, 0, 0};
      pool p = make_pool(2, length, std::span(&shape, 1), 20);
      run_and_compare(p, {{1, 0, static_cast<std::int32_t>(length)}});
      if (HasFatalFailure()) return;
    }
  }
}

TEST(block_copy, segments_longer_than_a_tile) {
  std::mt19937 random(13);
  for (const std::size_t phase : {0, 16, 5}) {
    for (const std::size_t gap : {0, 16, 144, 3}) {
      SCOPED_TRACE(::testing::Message() << "phase " << phase << ", gap " << gap);
      const plane_shape shapes[] = {{1, 3000, phase, 0, gap}, {2, 700, phase, gap, 0}};
      pool p = make_pool(6, 32, shapes, 13);
      run_and_compare(p, random_items(p, 3, random));
      if (HasFatalFailure()) return;
    }
  }
}

TEST(block_copy, more_items_than_a_thread_block_stages) {
  std::mt19937 random(15);
  const plane_shape shapes[] = {{1, 20, 0, 0, 0}, {2, 4, 0, 0, 0}};
  for (const std::uint32_t thread_blocks : {0u, 1u, 3u}) {
    pool p = make_pool(1000, 1, shapes, 15);
    run_and_compare(p, random_items(p, 500, random), thread_blocks);
  }
}

TEST(block_copy, random_pools) {
  std::mt19937 random(16);
  for (int round = 0; round < 40; ++round) {
    SCOPED_TRACE(round);
    std::vector<plane_shape> shapes(1 + random() % 5);
    for (plane_shape& s : shapes) {
      s = {static_cast<std::uint32_t>(1 + random() % 5),
           static_cast<std::uint32_t>(1 + random() % 300), random() % 64,
           random() % 2 * (random() % 40), random() % 2 * (random() % 70)};
    }
    constexpr std::uint32_t tokens[] = {1, 2, 8, 16, 64};
    pool p = make_pool(static_cast<std::int32_t>(2 + random() % 20), tokens[random() % 5], shapes,
                       static_cast<std::uint32_t>(random()));
    run_and_compare(p, random_items(p, 10, random));
    if (HasFatalFailure()) return;
  }
}

TEST(block_copy, beyond_4_gib_of_addresses) {
  constexpr std::int64_t stride = 3 << 20;
  constexpr std::int32_t blocks = 5000;  // 14.6 GiB
  constexpr std::uint32_t bytes = 4096;
  test_stream stream;
  std::byte* memory = nullptr;
  if (cudaMalloc(reinterpret_cast<void**>(&memory), std::size_t{stride} * blocks) != cudaSuccess) {
    GTEST_SKIP() << "the device has not 15 GB free";
  }
  const plane p{memory, stride, stride / 2, 2, bytes / 16};
  std::vector<std::byte> wanted(bytes);
  for (std::size_t i = 0; i < wanted.size(); ++i) wanted[i] = static_cast<std::byte>(i * 7 + 1);
  // The destination's low 32 bits are those of a block that must stay as it is.
  constexpr std::int32_t source = 4998, destination = 4321;
  for (std::uint32_t i = 0; i < 2; ++i) {
    RADIXKV_ASSERT_CUDA(
        cudaMemcpy(token_address(p, source, i, 0), wanted.data(), bytes, cudaMemcpyHostToDevice));
  }
  RADIXKV_ASSERT_CUDA(cudaDeviceSynchronize());
  device_array<block_copy_item> items(std::vector<block_copy_item>{{source, destination, 16}});
  block_copy_arguments a;
  a.items = items.data();
  a.item_count = 1;
  RADIXKV_ASSERT_CUDA(block_copy(stream, planes_of(std::span(&p, 1), blocks, 16), a));
  stream.synchronize();
  std::vector<std::byte> got(bytes);
  for (std::uint32_t i = 0; i < 2; ++i) {
    RADIXKV_ASSERT_CUDA(cudaMemcpy(got.data(), memory + destination * stride + i * (stride / 2),
                                   bytes, cudaMemcpyDeviceToHost));
    EXPECT_EQ(got, wanted);
  }
  RADIXKV_ASSERT_CUDA(cudaFree(memory));
}

TEST(block_copy, rejects_items_out_of_range_and_copies_the_others) {
  const plane_shape shape{2, 48, 0, 0, 0};
  pool p = make_pool(8, 4, std::span(&shape, 1), 17);
  const std::vector<block_copy_item> items = {
      {0, 4, 4}, {-1, 5, 4}, {8, 5, 4}, {1, -1, 4},        {1, 8, 4},         {1, 5, 0},
      {1, 5, 5}, {1, 5, -3}, {5, 5, 4}, {INT32_MAX, 5, 4}, {1, INT32_MIN, 4}, {2, 6, 3}};
  test_stream stream;
  device_array<std::byte> memory(p.mirror);
  device_array<block_copy_item> device_items(items);
  device_array<std::uint32_t> rejected(std::vector<std::uint32_t>{0});
  const std::vector<plane> planes = placed(p, memory.data());
  block_copy_arguments a;
  a.items = device_items.data();
  a.item_count = static_cast<std::uint32_t>(items.size());
  a.rejected = rejected.data();
  RADIXKV_ASSERT_CUDA(block_copy(stream, planes_of(planes, p.blocks, p.block_tokens), a));
  stream.synchronize();
  copy_on_host(p, std::vector<block_copy_item>{items.front(), items.back()});
  EXPECT_EQ(memory.download(), p.mirror);
  EXPECT_EQ(rejected.download()[0], 10u);
}

TEST(block_copy, captured_graph_replays_with_other_items_and_counts) {
  std::mt19937 random(18);
  const plane_shape shapes[] = {{1, 160, 0, 0, 0}, {4, 32, 0, 0, 16}};
  pool p = make_pool(64, 8, shapes, 18);
  test_stream stream;
  device_array<std::byte> memory(p.mirror);
  device_array<block_copy_item> items(std::vector<block_copy_item>(32));
  device_array<std::uint32_t> count(std::vector<std::uint32_t>{0});
  const std::vector<plane> planes = placed(p, memory.data());
  block_copy_arguments a;
  a.items = items.data();
  a.item_count = 32;
  a.device_item_count = count.data();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  RADIXKV_ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  RADIXKV_ASSERT_CUDA(block_copy(stream, planes_of(planes, p.blocks, p.block_tokens), a));
  RADIXKV_ASSERT_CUDA(cudaStreamEndCapture(stream, &graph));
  RADIXKV_ASSERT_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  for (const std::size_t n : {5, 0, 32, 1, 17}) {
    SCOPED_TRACE(n);
    const std::vector<block_copy_item> now = random_items(p, n, random);
    items.upload(now);
    count.upload(std::vector<std::uint32_t>{static_cast<std::uint32_t>(n)});
    RADIXKV_ASSERT_CUDA(cudaGraphLaunch(executable, stream));
    stream.synchronize();
    copy_on_host(p, now);
    ASSERT_EQ(memory.download(), p.mirror);
  }
  // A counter beyond the maximum is cut to it.
  const std::vector<block_copy_item> all = random_items(p, 32, random);
  items.upload(all);
  count.upload(std::vector<std::uint32_t>{4000000000u});
  RADIXKV_ASSERT_CUDA(cudaGraphLaunch(executable, stream));
  stream.synchronize();
  copy_on_host(p, all);
  EXPECT_EQ(memory.download(), p.mirror);
  RADIXKV_ASSERT_CUDA(cudaGraphExecDestroy(executable));
  RADIXKV_ASSERT_CUDA(cudaGraphDestroy(graph));
}

TEST(block_copy, bad_planes_are_refused_and_change_nothing) {
  device_array<std::byte> memory(1024);
  const plane good{memory.data(), 512, 512, 1, 32};
  plane p = good;
  block_copy_planes planes;
  EXPECT_EQ(planes.load(), cudaErrorInvalidValue);
  struct arguments {
    std::uint32_t count = 1;
    std::int32_t block_count = 2;
    std::uint32_t block_tokens = 16;
    const plane* device_planes = nullptr;
  };
  const auto set = [&](const arguments& a) {
    return planes.set(std::vector(a.count, p), a.block_count, a.block_tokens, a.device_planes);
  };
  const auto refused = [&](auto change, cudaError_t error) {
    arguments bad{.block_count = 1, .block_tokens = 1};  // others than were set
    p = good;
    change(bad);
    EXPECT_EQ(set(bad), error);
  };
  const auto refuse_all = [&] {
    refused([](auto& b) { b.count = 0; }, cudaErrorInvalidValue);
    refused([](auto& b) { b.block_count = 0; }, cudaErrorInvalidValue);
    refused([](auto& b) { b.block_count = -1; }, cudaErrorInvalidValue);
    refused([](auto& b) { b.block_tokens = 0; }, cudaErrorInvalidValue);
    refused([](auto& b) { b.block_tokens = 1u << 25; }, cudaErrorInvalidValue);
    refused([&](auto&) { p.base = nullptr; }, cudaErrorInvalidValue);
    refused([&](auto&) { p.inner_count = 0; }, cudaErrorInvalidValue);
    refused([&](auto&) { p.bytes_per_token = 0; }, cudaErrorInvalidValue);
    refused([](auto& b) { b.count = max_parameter_planes + 1; }, cudaErrorInvalidValue);
    refused(
        [&](auto& b) {
          b.count = 524'281;
          b.device_planes = &p;
        },
        cudaErrorInvalidValue);
    refused(
        [&](auto& b) {
          b.count = max_parameter_planes + 1;
          b.device_planes = reinterpret_cast<const plane*>(memory.data() + 2);
        },
        cudaErrorMisalignedAddress);
  };
  refuse_all();
  EXPECT_EQ(planes.load(), cudaErrorInvalidValue);  // still not set
  p = good;
  EXPECT_EQ(set({.count = 524'280, .device_planes = &p}), cudaSuccess);
  ASSERT_EQ(set({}), cudaSuccess);
  EXPECT_EQ(planes.load(), cudaSuccess);
  refuse_all();
  std::vector<std::byte> wanted(1024, std::byte{1});
  memory.upload(wanted);
  device_array<block_copy_item> items(std::vector<block_copy_item>{{0, 1, 2}});
  block_copy_arguments a;
  a.items = items.data();
  a.item_count = 1;
  memory.upload(std::vector(64, std::byte{2}));
  test_stream stream;
  RADIXKV_ASSERT_CUDA(block_copy(stream, planes, a));  // as they were set
  stream.synchronize();
  for (const std::size_t at : {0, 512}) std::fill_n(wanted.begin() + at, 64, std::byte{2});
  EXPECT_EQ(memory.download(), wanted);
}

TEST(block_copy, bad_arguments_are_refused_before_launch) {
  test_stream stream;
  device_array<std::byte> memory(1024);
  device_array<block_copy_item> items(std::vector<block_copy_item>{{0, 1, 1}});
  const plane p{memory.data(), 512, 512, 1, 32};
  const block_copy_planes planes = planes_of(std::span(&p, 1), 2, 16);
  block_copy_arguments a;
  a.items = items.data();
  a.item_count = 1;
  EXPECT_EQ(block_copy(stream, {}, a), cudaErrorInvalidValue);
  const auto refused = [&](auto change, cudaError_t error) {
    block_copy_arguments bad = a;
    change(bad);
    EXPECT_EQ(block_copy(stream, planes, bad), error);
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
  };
  refused([](auto& b) { b.items = nullptr; }, cudaErrorInvalidValue);
  refused([](auto& b) { b.item_count = 1u << 31; }, cudaErrorInvalidValue);
  const auto off = [](const void* q) {
    return reinterpret_cast<block_copy_item*>(reinterpret_cast<std::uintptr_t>(q) + 2);
  };
  refused([&](auto& b) { b.items = off(b.items); }, cudaErrorMisalignedAddress);
  refused([&](auto& b) { b.rejected = reinterpret_cast<std::uint32_t*>(off(items.data())); },
          cudaErrorMisalignedAddress);
  refused(
      [&](auto& b) { b.device_item_count = reinterpret_cast<std::uint32_t*>(off(items.data())); },
      cudaErrorMisalignedAddress);
  a.item_count = 0;
  EXPECT_EQ(block_copy(stream, planes, a), cudaSuccess);
}

}  // namespace
}  // namespace radixkv::kernels
