// The CUDA executor's copies, against the host executor: plans, waves, streams, memory.
#include <thread>

#include "radixkv/cuda_executor.h"
#include "tests/cuda/executor_test.h"

namespace radixkv::testing {
namespace {

TEST(cuda_executor, owned_memory_is_zero) {
  const memory_layout l = small_layout();
  cuda_executor e = cuda_executor::create(l).value();
  EXPECT_EQ(download(memory_of(e), l.bytes()), bytes(l.bytes()));
  const logits_rows_view store = e.logits_store();
  EXPECT_EQ(store.rows, 6);
  EXPECT_EQ(store.row_stride_bytes % 256, 0);
  for (logits_slot s = 0; s < store.rows; ++s) {
    EXPECT_EQ(download(e.logits_row(s), l.logits_row_bytes()), bytes(l.logits_row_bytes()));
  }
}

TEST(cuda_executor, random_plans_equal_the_host) {
  std::mt19937 random(1);
  const memory_layout l = small_layout();
  executor_pair pair = executor_pair::make(l, random);
  test_stream stream;
  for (int i = 0; i < 40; ++i) {
    const step_plan plan = random_copies(l, random() % 40, random);
    RADIXKV_ASSERT_OK(pair.host.run(plan));
    RADIXKV_ASSERT_OK(pair.device.run(stream, plan));
    if (i % 8 == 7) pair.expect_equal_pools();
  }
}

TEST(cuda_executor, a_chain_takes_effect_in_list_order) {
  std::mt19937 random(2);
  const memory_layout l = small_layout();
  executor_pair pair = executor_pair::make(l, random);
  test_stream stream;
  step_plan plan;
  for (block_id b = 0; b + 1 < l.blocks; ++b) plan.copies.push_back({b, b + 1, l.block_tokens});
  plan.copies.push_back({5, 0, 2});
  RADIXKV_ASSERT_OK(pair.host.run(plan));
  RADIXKV_ASSERT_OK(pair.device.run(stream, plan));
  pair.expect_equal_pools();
}

TEST(cuda_executor, a_plan_larger_than_a_slot_takes_several) {
  std::mt19937 random(3);
  const memory_layout l = small_layout(200);
  executor_pair pair = executor_pair::make(l, random, {.staging_slots = 8, .slot_operations = 16});
  test_stream stream;
  // Independent copies, so that one wave spans slots; then chains, so that waves end inside slots.
  step_plan plan;
  for (block_id b = 0; b < 100; ++b) plan.copies.push_back({b, b + 100, 3});
  RADIXKV_ASSERT_OK(pair.host.run(plan));
  RADIXKV_ASSERT_OK(pair.device.run(stream, plan));
  pair.expect_equal_pools();
  plan = random_copies(l, 128, random);
  RADIXKV_ASSERT_OK(pair.host.run(plan));
  RADIXKV_ASSERT_OK(pair.device.run(stream, plan));
  pair.expect_equal_pools();
  expect_refused(pair.device.run(stream, random_copies(l, 129, random)), errc::invalid_argument,
                 "9 staging slots, the executor has 8");
  pair.expect_equal_pools();
}

TEST(cuda_executor, a_full_ring_is_busy_and_recovers) {
  std::mt19937 random(4);
  const memory_layout l = small_layout();
  executor_pair pair = executor_pair::make(l, random, {.staging_slots = 2, .slot_operations = 4});
  test_stream stream;
  int busy = 0;
  for (int i = 0; i < 50; ++i) {
    const step_plan plan = random_copies(l, 1 + random() % 8, random);
    RADIXKV_ASSERT_OK(pair.host.run(plan));
    status s = pair.device.run(stream, plan);
    if (!s) {
      expect_refused(s, errc::busy, "staging slots");
      EXPECT_EQ(cudaGetLastError(), cudaSuccess);
      ++busy;
      RADIXKV_ASSERT_OK(pair.device.synchronize());
      RADIXKV_ASSERT_OK(pair.device.run(stream, plan));
    }
  }
  pair.expect_equal_pools();
  const char* mode = std::getenv("CUDASIM_ASYNC");
  if (mode != nullptr && std::string(mode) == "lazy") {
    EXPECT_GT(busy, 0);
  }
}

TEST(cuda_executor, runs_on_several_streams_are_ordered) {
  std::mt19937 random(5);
  const memory_layout l = small_layout();
  executor_pair pair = executor_pair::make(l, random);
  test_stream streams[4];
  for (int i = 0; i < 60; ++i) {
    const step_plan plan = random_copies(l, 1 + random() % 6, random);
    RADIXKV_ASSERT_OK(pair.host.run(plan));
    RADIXKV_ASSERT_OK(pair.device.run(streams[random() % 4], plan));
  }
  pair.expect_equal_pools();
}

TEST(cuda_executor, a_stream_may_go_while_its_work_is_in_flight) {
  std::mt19937 random(6);
  const memory_layout l = small_layout();
  executor_pair pair = executor_pair::make(l, random);
  for (int i = 0; i < 20; ++i) {
    test_stream stream;  // handles are reused by the runtime
    const step_plan plan = random_copies(l, 4, random);
    RADIXKV_ASSERT_OK(pair.host.run(plan));
    RADIXKV_ASSERT_OK(pair.device.run(stream, plan));
  }
  pair.expect_equal_pools();
}

TEST(cuda_executor, threads_share_an_executor) {
  std::mt19937 random(7);
  const memory_layout l = small_layout(4 * 24);
  executor_pair pair = executor_pair::make(l, random);
  std::vector<std::vector<step_plan>> plans(4);  // one region of blocks per thread
  for (std::size_t t = 0; t < plans.size(); ++t) {
    for (int i = 0; i < 20; ++i) {
      step_plan plan = random_copies(small_layout(), 3, random);
      for (block_copy& c : plan.copies) {
        c.source += static_cast<block_id>(t * 24);
        c.destination += static_cast<block_id>(t * 24);
      }
      RADIXKV_ASSERT_OK(pair.host.run(plan));
      plans[t].push_back(plan);
    }
  }
  std::vector<std::string> errors(plans.size());
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < plans.size(); ++t) {
    threads.emplace_back([&, t] {
      test_stream stream;
      for (const step_plan& plan : plans[t]) {
        status s = pair.device.run(stream, plan);
        while (!s && s.error().code == errc::busy) s = pair.device.run(stream, plan);
        if (!s) errors[t] = s.error().message;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(errors, std::vector<std::string>(plans.size()));
  pair.expect_equal_pools();
}

TEST(cuda_executor, borrowed_planes_of_different_kinds) {
  std::mt19937 random(8);
  // K and V of fp16 in HND, fp8 scales, an MLA latent with an odd stride, a plane of single bytes.
  memory_layout l{.blocks = 30, .block_tokens = 8, .planes = {}};
  l.planes = {{.offset = 64,
               .block_stride = 1024,
               .inner_stride = 256,
               .inner_count = 4,
               .bytes_per_token = 32},
              {.offset = 0,
               .block_stride = 640,
               .inner_stride = 0,
               .inner_count = 1,
               .bytes_per_token = 66},
              {.offset = 3,
               .block_stride = 8,
               .inner_stride = 8 * 30,
               .inner_count = 2,
               .bytes_per_token = 1},
              {.offset = 16,
               .block_stride = 656 * 8,
               .inner_stride = 0,
               .inner_count = 1,
               .bytes_per_token = 656}};
  std::vector<bytes> memory;
  std::vector<std::unique_ptr<device_array<std::byte>>> device;
  std::vector<void*> device_bases, host_bases;
  for (const plane_layout& p : l.planes) {
    memory_layout one = l;
    one.planes = {p};
    memory.push_back(random_bytes(one.bytes(), random));
    device.push_back(std::make_unique<device_array<std::byte>>(memory.back()));
    device_bases.push_back(device.back()->data());
  }
  for (bytes& m : memory) host_bases.push_back(m.data());
  host_executor host = host_executor::borrow(l, host_bases).value();
  cuda_executor executor = cuda_executor::borrow(l, device_bases).value();
  EXPECT_EQ(executor.plane(0), device[0]->data() + 64);
  test_stream stream;
  for (int i = 0; i < 10; ++i) {
    const step_plan plan = random_copies(l, 12, random);
    RADIXKV_ASSERT_OK(host.run(plan));
    RADIXKV_ASSERT_OK(executor.run(stream, plan));
  }
  RADIXKV_ASSERT_OK(executor.synchronize());
  for (std::size_t p = 0; p < memory.size(); ++p) EXPECT_EQ(device[p]->download(), memory[p]);
}

TEST(cuda_executor, more_planes_than_launch_parameters_hold) {
  std::mt19937 random(9);
  const memory_layout l = layout_nhd(
      {.blocks = 5, .block_tokens = 2, .layers = 700, .heads = 1, .head_bytes = 8, .kv = 2});
  ASSERT_EQ(l.planes.size(), 1400u);
  executor_pair pair = executor_pair::make(l, random);
  test_stream stream;
  const step_plan plan = random_copies(l, 6, random);
  RADIXKV_ASSERT_OK(pair.host.run(plan));
  RADIXKV_ASSERT_OK(pair.device.run(stream, plan));
  pair.expect_equal_pools();
}

// Offsets beyond 32 bits, of blocks and of heads; memory is committed only where it is touched.
TEST(cuda_executor, a_pool_beyond_4_gib_of_addresses) {
  constexpr std::uint64_t gib = std::uint64_t{1} << 30;
  memory_layout l{.blocks = 5000, .block_tokens = 16, .planes = {}};
  l.planes = {{.offset = 0,
               .block_stride = 1 << 20,
               .inner_stride = 0,
               .inner_count = 1,
               .bytes_per_token = 64},
              {.offset = 5 * gib,
               .block_stride = 1024,
               .inner_stride = gib,
               .inner_count = 2,
               .bytes_per_token = 64}};
  device_array<std::byte> memory(l.bytes());
  ASSERT_GT(l.bytes(), 6 * gib);
  void* base = memory.data();
  cuda_executor e = cuda_executor::borrow(l, {&base, 1}).value();
  std::mt19937 random(10);
  const bytes low = random_bytes(1024, random), high = random_bytes(1024, random);
  const auto at = [&](std::size_t p, std::int64_t block, std::int64_t head) {
    return e.plane(p) + block * l.planes[p].block_stride + head * l.planes[p].inner_stride;
  };
  upload(at(0, 4999, 0), low);
  upload(at(0, 4096 + 7, 0), high);  // 4 GiB behind block 7: what a 32-bit offset would hit
  upload(at(1, 4999, 0), high);
  upload(at(1, 4999, 1), low);
  for (int head = 0; head < 2; ++head) upload(at(1, 4096 + 7, head), random_bytes(1024, random));
  const bytes kept = download(at(0, 4096 + 7, 0), 1024);
  test_stream stream;
  RADIXKV_ASSERT_OK(e.run(stream, {.copies = {{4999, 7, 16}}, .logits = {}}));
  RADIXKV_ASSERT_OK(e.synchronize());
  EXPECT_EQ(download(at(0, 7, 0), 1024), low);
  EXPECT_EQ(download(at(0, 4096 + 7, 0), 1024), kept);
  EXPECT_EQ(download(at(1, 7, 0), 1024), high);
  EXPECT_EQ(download(at(1, 7, 1), 1024), low);
}

TEST(cuda_executor, the_current_device_stays) {
  std::mt19937 random(11);
  int before = -1, after = -1;
  RADIXKV_ASSERT_CUDA(cudaGetDevice(&before));
  executor_pair pair = executor_pair::make(small_layout(), random);
  EXPECT_EQ(pair.device.device(), before);
  RADIXKV_ASSERT_OK(pair.device.run(cudaStreamPerThread, random_copies(small_layout(), 3, random)));
  RADIXKV_ASSERT_OK(pair.device.synchronize());
  RADIXKV_ASSERT_CUDA(cudaGetDevice(&after));
  EXPECT_EQ(after, before);
}

}  // namespace
}  // namespace radixkv::testing
