// Failures of the CUDA runtime at every single call: an error value, nothing leaked, nothing torn.
#include <cstdlib>
#include <string>

#include "radixkv/cuda_executor.h"
#include "radixkv/cuda_page_tables.h"
#include "tests/cuda/executor_test.h"
#include "tests/cuda/fault_injection.h"

namespace radixkv::testing {
namespace {

// Counted while the program's statics are set up, after those of the libraries that it links.
const std::int64_t calls_before_main = cuda_calls();

TEST(cuda_executor_faults, no_cuda_call_before_main) { EXPECT_EQ(calls_before_main, 0); }

TEST(cuda_executor_faults, creation_fails_at_every_call) {
  memory_layout l = small_layout();
  l.planes.resize(1, l.planes[0]);
  for (int borrowed = 0; borrowed < 2; ++borrowed) {
    device_array<std::byte> memory(l.bytes());
    void* base = memory.data();
    std::int64_t n = 0;
    for (bool done = false; !done; ++n) {
      ASSERT_LT(n, 1000);
      fail_cuda_call(n);
      auto e = borrowed ? cuda_executor::borrow(l, {&base, 1}, {.staging_slots = 3})
                        : cuda_executor::create(l, {.staging_slots = 3});
      const bool failed = cuda_call_failed();
      fail_cuda_call(-1);
      done = !failed;
      if (failed) {
        ASSERT_FALSE(e.ok()) << failed_cuda_call();
        EXPECT_FALSE(e.error().message.empty());
        EXPECT_TRUE(e.error().code == errc::device || e.error().code == errc::out_of_memory)
            << e.error().message;
      } else {
        EXPECT_TRUE(e.ok());
      }
      EXPECT_EQ(cudaGetLastError(), cudaSuccess) << n;
    }
    EXPECT_GT(n, 8);
  }  // the leak check of the test device sees what a failed creation kept
}

// A plan with two waves, two slots and both kinds of logits moves.
step_plan long_plan() {
  step_plan plan;
  for (block_id b = 0; b < 6; ++b) plan.copies.push_back({b, b + 6, 4});
  for (block_id b = 6; b < 9; ++b) plan.copies.push_back({b, b + 10, 2});
  plan.logits = {{logits_direction::store, 1, 0},
                 {logits_direction::store, 2, 1},
                 {logits_direction::load, 1, 2}};
  return plan;
}

TEST(cuda_executor_faults, run_fails_at_every_call_and_may_be_repeated) {
  const memory_layout l = small_layout();
  test_stream streams[2];
  const step_plan plan = long_plan();
  std::int64_t n = 0;
  int enqueued_part = 0;
  for (bool done = false; !done; ++n) {
    ASSERT_LT(n, 1000);
    std::mt19937 random(3);
    executor_pair pair = executor_pair::make(l, random, {.staging_slots = 4, .slot_operations = 6});
    device_array<float> batch(std::vector<float>(3 * 37, 1.5f));
    const logits_rows_view rows{batch.data(), 37 * 4, 3, logits_type::fp32};
    // Something to be ordered after.
    const step_plan first{.copies = {{20, 0, 4}}, .logits = {}};
    RADIXKV_ASSERT_OK(pair.device.run(streams[0], first));
    RADIXKV_ASSERT_OK(pair.host.run(first));

    fail_cuda_call(n);
    status s = pair.device.run(streams[1], plan, rows);
    const bool failed = cuda_call_failed();
    fail_cuda_call(-1);
    done = !failed;
    if (failed) {
      ASSERT_FALSE(s.ok()) << failed_cuda_call();
      EXPECT_EQ(s.error().code, errc::device) << s.error().message;
      enqueued_part += s.error().message.find("enqueued: 6 of 9 copies") != std::string::npos;
    } else {
      RADIXKV_ASSERT_OK(s);
    }
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    // After synchronize the executor serves again; the plan, repeated, gives the host's bytes.
    RADIXKV_ASSERT_OK(pair.device.synchronize());
    RADIXKV_ASSERT_OK(pair.device.run(streams[0], plan, rows));
    RADIXKV_ASSERT_OK(pair.host.run({.copies = plan.copies, .logits = {}}));
    pair.expect_equal_pools();
  }
  EXPECT_GT(n, 12);
  EXPECT_GT(enqueued_part, 0);
}

TEST(cuda_executor_faults, what_was_enqueued_is_the_prefix_of_the_plan) {
  const memory_layout l = small_layout();
  test_stream stream;
  step_plan plan;  // a chain: one launch per copy
  for (block_id b = 0; b < 10; ++b) plan.copies.push_back({b, b + 1, 4});
  for (std::int64_t n = 0; n < 60; ++n) {
    std::mt19937 random(4);
    executor_pair pair = executor_pair::make(l, random, {.staging_slots = 8, .slot_operations = 4});
    fail_cuda_call(n);
    const status s = pair.device.run(stream, plan);
    const bool failed = cuda_call_failed();
    fail_cuda_call(-1);
    step_plan ran = plan;
    if (!s.ok()) {
      const std::string& text = s.error().message;
      const std::size_t at = text.find("enqueued: ");
      const int copies = at == std::string::npos ? 0 : std::atoi(text.c_str() + at + 10);
      ran.copies.resize(static_cast<std::size_t>(copies));
    }
    RADIXKV_ASSERT_OK(pair.host.run(ran));
    RADIXKV_ASSERT_OK(pair.device.synchronize());
    pair.expect_equal_pools();
    if (!failed) return;
  }
  FAIL() << "every call failed";
}

TEST(cuda_executor_faults, an_unrecorded_run_blocks_until_synchronised) {
  std::mt19937 random(5);
  const memory_layout l = small_layout();
  executor_pair pair = executor_pair::make(l, random);
  test_stream stream;
  const step_plan plan = random_copies(l, 3, random);
  RADIXKV_ASSERT_OK(pair.host.run(plan));
  for (std::int64_t n = 0;; ++n) {
    ASSERT_LT(n, 50);
    fail_cuda_call(n);
    const status s = pair.device.run(stream, plan);
    const bool found = cuda_call_failed() && std::string(failed_cuda_call()) == "cudaEventRecord";
    fail_cuda_call(-1);
    if (found) {
      expect_refused(s, errc::device, "recording a part of a plan");
      break;
    }
    RADIXKV_ASSERT_OK(pair.device.synchronize());
    if (s.ok()) {
      RADIXKV_ASSERT_OK(pair.host.run(plan));
    }
  }
  expect_refused(pair.device.run(stream, plan), errc::device, "synchronize() the executor first");
  fail_cuda_call(0);
  EXPECT_FALSE(pair.device.synchronize().ok());
  fail_cuda_call(-1);
  RADIXKV_ASSERT_OK(pair.device.synchronize());
  RADIXKV_ASSERT_OK(pair.device.run(stream, plan));
  RADIXKV_ASSERT_OK(pair.host.run(plan));
  pair.expect_equal_pools();
}

TEST(cuda_executor_faults, moves_that_were_enqueued_are_counted_without_the_rows_between) {
  cuda_executor e = cuda_executor::create(small_layout()).value();
  test_stream stream;
  const device_array<float> rows(std::vector<float>(9 * 37, 1.0f));
  using enum logits_direction;
  const step_plan plan{.copies = {}, .logits = {{store, 0, 0}, {store, 1, 8}, {load, 0, 3}}};
  std::vector<std::string> seen;
  for (std::int64_t n = 0, done = 0; done == 0; ++n) {
    ASSERT_LT(n, 60);
    fail_cuda_call(n);
    const status s = e.run(stream, plan, {rows.data(), 37 * 4, 9, logits_type::fp32});
    done = !cuda_call_failed();
    const bool launch = !done && std::string(failed_cuda_call()) == "cudaLaunchKernelExC";
    fail_cuda_call(-1);
    (void)cudaGetLastError();
    RADIXKV_ASSERT_OK(e.synchronize());
    if (launch) seen.push_back(s.error().message.substr(s.error().message.find("enqueued")));
  }
  EXPECT_EQ(seen, (std::vector<std::string>{"enqueued: 0 of 0 copies, 0 of 3 logits moves",
                                            "enqueued: 0 of 0 copies, 2 of 3 logits moves"}));
}

// A graph that holds the fetch of a plan counts replays, whatever else it lacks: no second one may.
TEST(cuda_executor_faults, a_graph_plan_that_was_captured_in_part_is_captured_no_more) {
  cuda_executor e = cuda_executor::create(small_layout()).value();
  test_stream stream;
  const auto capture = [&](graph_plan& plan) {
    RADIXKV_EXPECT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    status s = plan.capture(stream);
    fail_cuda_call(-1);
    cudaGraph_t graph = nullptr;
    (void)cudaStreamEndCapture(stream, &graph);
    if (graph != nullptr) RADIXKV_EXPECT_CUDA(cudaGraphDestroy(graph));
    (void)cudaGetLastError();
    return s;
  };
  int launches = 0;
  for (std::int64_t n = 0; n < 60; ++n) {
    graph_plan plan = e.make_graph_plan({.copy_waves = 3}).value();
    fail_cuda_call(n);
    const status first = capture(plan);
    if (first.ok()) break;
    launches += std::string(failed_cuda_call()) == "cudaLaunchKernelExC";
    const status again = capture(plan);
    if (launches < 2) {
      EXPECT_TRUE(again.ok()) << n;
    } else {
      expect_refused(again, errc::invalid_argument, "part of a graph already");
    }
  }
  EXPECT_EQ(launches, 4);  // the fetch and the waves
}

TEST(cuda_executor_faults, graph_plans_fail_at_every_call) {
  cuda_executor e = cuda_executor::create(small_layout()).value();
  test_stream stream;
  std::int64_t n = 0;
  for (bool done = false; !done; ++n) {
    ASSERT_LT(n, 100);
    fail_cuda_call(n);
    auto plan = e.make_graph_plan();
    const bool created = plan.ok();
    if (created) {
      (void)cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
      const status s = plan->capture(stream);
      done = !cuda_call_failed();
      EXPECT_EQ(s.ok(), done) << n;
      fail_cuda_call(-1);
      cudaGraph_t graph = nullptr;
      (void)cudaStreamEndCapture(stream, &graph);
      if (graph != nullptr) {
        RADIXKV_EXPECT_CUDA(cudaGraphDestroy(graph));
      }
    } else {
      EXPECT_TRUE(cuda_call_failed());
    }
    fail_cuda_call(-1);
    (void)cudaGetLastError();
    RADIXKV_ASSERT_OK(e.synchronize());
  }
  EXPECT_GT(n, 5);
}

TEST(cuda_page_tables_faults, every_call_of_the_tables_may_fail) {
  const cuda_page_tables_options options{.rows = 3,
                                         .row_blocks = 12,
                                         .block_tokens = 4,
                                         .max_batch = 4,
                                         .staging_slots = 4,
                                         .slot_changes = 5};
  // CUB asks for the device's architecture once a process, and waits for itself for ever if that
  // very call throws (CCCL 3.0): it is asked before calls begin to fail.
  ASSERT_TRUE(cuda_page_tables::create(options).ok());
  for (std::int64_t n = 0, done = 0; done == 0; ++n) {
    ASSERT_LT(n, 200);
    fail_cuda_call(n);
    const auto made = cuda_page_tables::create(options);
    done = !cuda_call_failed();
    fail_cuda_call(-1);
    EXPECT_EQ(made.ok(), done != 0) << n;
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  }

  cuda_page_tables tables = cuda_page_tables::create(options).value();
  test_stream stream;
  device_array<std::int32_t> dense(24), indptr(3), indices(24), last(2);
  const std::vector<std::int32_t> batch{2, 0};
  std::int64_t failures = 0;
  for (std::int64_t n = 0, clean = 0; clean < 2; ++n) {
    ASSERT_LT(n, 300);
    // Every block of the row changes, in more changes than a staging slot holds.
    std::vector<block_id> table(12);
    for (std::size_t i = 0; i < table.size(); ++i) {
      table[i] = static_cast<block_id>(static_cast<std::size_t>(n) * 16 + i);
    }
    RADIXKV_ASSERT_OK(tables.set(2, table, 46));
    bool failed = false;
    const auto until_done = [&](auto call) {
      fail_cuda_call(n / 2);
      for (int tries = 0; tries < 20; ++tries) {
        const status s = call();
        if (s.ok()) {
          failed = failed || cuda_call_failed();
          fail_cuda_call(-1);
          return;
        }
        if (s.error().code == errc::device) {
          ASSERT_TRUE(cuda_call_failed()) << s.error().message;
          failed = true;
          fail_cuda_call(-1);
        } else {
          ASSERT_EQ(s.error().code, errc::busy) << s.error().message;
        }
        RADIXKV_ASSERT_OK(tables.synchronize());
      }
      FAIL() << "the call does not recover from " << failed_cuda_call();
    };
    until_done([&] { return tables.update(stream); });
    until_done([&] { return tables.dense(stream, batch, dense.data(), 12, 12, -7); });
    until_done(
        [&] { return tables.csr(stream, batch, indptr.data(), indices.data(), 24, last.data()); });
    RADIXKV_ASSERT_OK(tables.synchronize());
    stream.synchronize();
    EXPECT_EQ(dense.download(0, 12), table) << n;
    EXPECT_EQ(dense.download(12, 12), std::vector<std::int32_t>(12, -7)) << n;
    EXPECT_EQ(indptr.download(), (std::vector<std::int32_t>{0, 12, 12})) << n;
    EXPECT_EQ(indices.download(0, 12), table) << n;
    EXPECT_EQ(last.download()[0], 2) << n;
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    clean = failed ? 0 : clean + 1;
    failures += failed;
  }
  EXPECT_GT(failures, 4);
}

// A kernel that faults, in a process of its own, for which the device is lost afterwards. Gives the
// process's exit code.
int lose_the_device() {
  memory_layout l{.blocks = 64, .block_tokens = 16, .planes = {}};
  l.planes = {{.offset = 0,
               .block_stride = 4 << 20,
               .inner_stride = 0,
               .inner_count = 1,
               .bytes_per_token = 4096}};
  void* base = nullptr;
  if (cudaMalloc(&base, l.bytes()) != cudaSuccess) return 1;
  cuda_executor e = cuda_executor::borrow(l, {&base, 1}).value();
  cuda_executor other = cuda_executor::create(small_layout()).value();
  if (cudaFree(base) != cudaSuccess) return 2;  // the engine broke its promise
  const step_plan plan{.copies = {{0, 1, 16}}, .logits = {}};
  const status ran = e.run(cudaStreamPerThread, plan);
  const status waited = e.synchronize();
  if (ran.ok() && waited.ok()) return 3;
  if (!waited.ok() && waited.error().code != errc::device) return 4;
  // From now on every call says so; nothing crashes, and destruction is quiet.
  const status again = other.run(cudaStreamPerThread, {.copies = {{0, 1, 4}}, .logits = {}});
  if (again.ok() && other.synchronize().ok()) return 5;
  if (!again.ok() && again.error().code != errc::device) return 6;
  if (cuda_executor::create(small_layout()).ok()) return 7;
  return 0;
}

TEST(cuda_executor_faults, a_faulting_kernel_is_reported_by_every_later_call) {
  ::testing::GTEST_FLAG(death_test_style) =
      "threadsafe";                      // a fresh process, not a fork of this one
  setenv("CUDASIM_ERROR_EXIT", "0", 1);  // the fault is wanted there
  setenv("CUDASIM_LEAKCHECK", "0", 1);
  EXPECT_EXIT(std::_Exit(lose_the_device()), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace radixkv::testing
