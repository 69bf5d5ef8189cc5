// Fail the nth allocation of each call of the CUDA executor and of plans in graphs: an error value,
// nothing enqueued, nothing kept, and the call repeated works.
#include <string>
#include <utility>

#include "radixkv/cuda_executor.h"
#include "tests/cuda/executor_test.h"
#include "tests/cuda/fault_injection.h"
#include "tests/cuda/plan_graph.h"
#include "tests/support/alloc_failure.h"

namespace radixkv::testing {
namespace {

struct attempt {
  status result;
  bool fired;  // an allocation was refused
};

// Parameter: whether all allocations after the refused one are refused too.
class cuda_alloc_failure_executor : public ::testing::TestWithParam<bool> {
 protected:
  static constexpr std::int32_t rows = 3;
  std::mt19937 random_{41};
  const memory_layout layout_ = small_layout();
  test_stream stream_;
  device_array<float> batch_{std::vector<float>(rows * 37, 1.5f)};
  const logits_rows_view view_{batch_.data(), 37 * 4, rows, logits_type::fp32};

  template <class Call>
  attempt try_with(std::int64_t nth, Call call) const {
    alloc_failure failing(nth, GetParam());
    status s = call();
    failing.stop();
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    return {std::move(s), failing.fired()};
  }
  // `call(nth)` for 0, 1, … until no allocation is refused any more; then it must succeed.
  template <class Call>
  void fail_each(std::int64_t at_least, Call call) const {
    std::int64_t nth = 0;
    for (bool fired = true; fired; ++nth) {
      ASSERT_LT(nth, 1000);
      const attempt a = call(nth);
      fired = a.fired;
      ASSERT_EQ(a.result.ok(), !fired) << nth << (fired ? "" : a.result.error().message);
      if (!fired) continue;
      EXPECT_EQ(a.result.error().code, errc::out_of_memory) << a.result.error().message;
      EXPECT_FALSE(a.result.error().message.empty());
    }
    EXPECT_GT(nth, at_least);
  }
  // The same for calls that are refused with or without memory for saying why.
  template <class Call>
  void refuse_each(Call call) const {
    std::int64_t nth = 0;
    for (bool fired = true; fired; ++nth) {
      ASSERT_LT(nth, 1000);
      const attempt a = try_with(nth, call);
      fired = a.fired;
      ASSERT_FALSE(a.result.ok());
      EXPECT_EQ(a.result.error().code, fired ? errc::out_of_memory : errc::invalid_argument)
          << a.result.error().message;
    }
    EXPECT_GT(nth, 1);
  }

  // With several waves of copies, and logits; or one that fits a small graph.
  static step_plan long_plan() {
    step_plan plan = short_plan();
    for (block_id b = 0; b < 3; ++b) plan.copies.push_back({b + 8, b + 9, 2});
    return plan;
  }
  static step_plan short_plan() {
    step_plan plan;
    for (block_id b = 0; b < 8; ++b) plan.copies.push_back({b, b + 8, 4});
    for (std::int32_t r = 0; r < rows; ++r) plan.logits.push_back({{}, r, r});
    return plan;
  }
  static void run_on_host(executor_pair& pair, const step_plan& plan) {
    RADIXKV_ASSERT_OK(pair.host.run({.copies = plan.copies, .logits = {}}));
  }
};

TEST_P(cuda_alloc_failure_executor, creation) {
  device_array<std::byte> memory(layout_.bytes());
  void* base = memory.data();
  for (const bool borrowed : {false, true}) {
    fail_each(8, [&](std::int64_t nth) {
      const std::int64_t live = live_allocations();
      attempt a = try_with(nth, [&]() -> status {
        result<cuda_executor> made =
            borrowed ? cuda_executor::borrow(layout_, {&base, 1}, {.staging_slots = 3})
                     : cuda_executor::create(layout_, {.staging_slots = 3});
        return made ? status{} : std::move(made).error();
      });
      const std::int64_t text =
          a.result.ok() || a.result.error().message.size() < sizeof(std::string) / 2 ? 0 : 1;
      EXPECT_EQ(live_allocations(), live + text);
      return a;
    });
  }
  memory_layout bad = layout_;
  bad.blocks = 0;
  refuse_each([&]() -> status { return cuda_executor::create(bad).error(); });
}

TEST_P(cuda_alloc_failure_executor, options) {
  const cuda_executor_options executor{.staging_slots = 5000};
  refuse_each([&] { return executor.validate(); });
  const graph_plan_options graph{.depth = 5000};
  refuse_each([&] { return graph.validate(); });
}

TEST_P(cuda_alloc_failure_executor, run) {
  for (const bool grown : {false, true}) {
    executor_pair pair = executor_pair::make(layout_, random_);
    const step_plan plan = long_plan();
    if (grown) {  // a plan as long has been looked at: nothing is allocated any more
      RADIXKV_ASSERT_OK(pair.device.run(stream_, plan, view_));
      run_on_host(pair, plan);
    }
    fail_each(grown ? 0 : 4, [&](std::int64_t nth) {
      // Another executor each time, since what one has grown stays.
      executor_pair fresh = executor_pair::make(layout_, random_);
      executor_pair& used = grown ? pair : fresh;
      attempt a = try_with(nth, [&] { return used.device.run(stream_, plan, view_); });
      if (grown) EXPECT_FALSE(a.fired);
      if (a.fired) {
        used.expect_equal_pools();
        RADIXKV_EXPECT_CUDA(used.device.run(stream_, plan, view_).ok() ? cudaSuccess
                                                                       : cudaErrorUnknown);
      }
      run_on_host(used, plan);
      used.expect_equal_pools();
      return a;
    });
  }
}

TEST_P(cuda_alloc_failure_executor, refusals_of_run_and_launch) {
  executor_pair pair = executor_pair::make(layout_, random_);
  cuda_executor& e = pair.device;
  const step_plan logits{.copies = {{0, 1, 4}}, .logits = {{{}, 0, rows}}};
  const step_plan beyond{.copies = {{0, 24, 4}}, .logits = {}};
  const step_plan store{.copies = {}, .logits = {{{}, 0, 0}}};
  refuse_each([&] { return e.run(stream_, beyond); });
  refuse_each([&] { return e.run(stream_, logits, view_); });
  refuse_each([&] {
    logits_rows_view inside = view_;
    inside.data = e.plane(1);
    return e.run(stream_, store, inside);
  });
  refuse_each([&]() -> status { return e.make_graph_plan({.depth = 0}).error(); });
  graph_plan plan = e.make_graph_plan().value();
  refuse_each([&] { return plan.prepare({}); });
  refuse_each([&] { return plan.capture(stream_); });
  const plan_graph graph(plan);
  refuse_each([&] { return plan.launch(stream_, graph, logits); });
  EXPECT_EQ(plan.numbered(), 0u);
  cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal;
  RADIXKV_ASSERT_CUDA(cudaStreamBeginCapture(stream_, mode));
  refuse_each([&] { return e.launch(stream_, graph); });
  cudaGraph_t captured = nullptr;
  RADIXKV_ASSERT_CUDA(cudaStreamEndCapture(stream_, &captured));
  RADIXKV_ASSERT_CUDA(cudaGraphDestroy(captured));
  pair.expect_equal_pools();
}

TEST_P(cuda_alloc_failure_executor, graph_plans) {
  executor_pair pair = executor_pair::make(layout_, random_);
  fail_each(1, [&](std::int64_t nth) {
    const std::int64_t live = live_allocations();
    const attempt a = try_with(nth, [&]() -> status {
      result<graph_plan> made = pair.device.make_graph_plan();
      return made ? status{} : std::move(made).error();
    });
    EXPECT_LE(live_allocations(), live + 1);  // the error's text
    return a;
  });

  // Refused a capture, it can be captured still, and nothing is in the graph.
  graph_plan captured = pair.device.make_graph_plan().value();
  refuse_each([&]() -> status {
    RADIXKV_EXPECT_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    logits_rows_view far = view_;
    far.row_stride_bytes = 3;
    status s = captured.capture(stream_, far);
    cudaGraph_t graph = nullptr;
    RADIXKV_EXPECT_CUDA(cudaStreamEndCapture(stream_, &graph));
    std::size_t nodes = 1;
    RADIXKV_EXPECT_CUDA(cudaGraphGetNodes(graph, nullptr, &nodes));
    EXPECT_EQ(nodes, 0u);
    RADIXKV_EXPECT_CUDA(cudaGraphDestroy(graph));
    return s;
  });
  const plan_graph graph(captured);
}

// A plan refused memory numbers its replay, which is empty.
TEST_P(cuda_alloc_failure_executor, prepare) {
  const step_plan step = short_plan();
  fail_each(2, [&](std::int64_t nth) {
    executor_pair pair = executor_pair::make(layout_, random_);
    graph_plan plan = pair.device.make_graph_plan({.copies = 8}).value();
    const plan_graph graph(plan, view_);
    const attempt a = try_with(nth, [&] { return plan.prepare(step); });
    EXPECT_EQ(plan.numbered(), 1u);
    EXPECT_TRUE(pair.device.launch(stream_, graph).ok());
    if (!a.fired) run_on_host(pair, step);
    pair.expect_equal_pools();
    EXPECT_TRUE(plan.prepare(step).ok());
    EXPECT_TRUE(pair.device.launch(stream_, graph).ok());
    run_on_host(pair, step);
    pair.expect_equal_pools();
    return a;
  });
}

// Neither the plan runs nor the graph, be it that the plan fits or that it is run before it.
TEST_P(cuda_alloc_failure_executor, launch) {
  for (const bool fits : {true, false}) {
    const step_plan step = fits ? short_plan() : long_plan();
    fail_each(2, [&](std::int64_t nth) {
      executor_pair pair = executor_pair::make(layout_, random_);
      graph_plan plan = pair.device.make_graph_plan({.copies = 8}).value();
      const plan_graph graph(plan, view_);
      const attempt a = try_with(nth, [&] { return plan.launch(stream_, graph, step); });
      if (!a.fired) run_on_host(pair, step);
      pair.expect_equal_pools();
      EXPECT_EQ(plan.replayed(), a.fired ? 0u : 1u);
      EXPECT_EQ(plan.numbered(), plan.replayed());
      EXPECT_TRUE(plan.launch(stream_, graph, step).ok());
      run_on_host(pair, step);
      pair.expect_equal_pools();
      return a;
    });
  }
}

// The runtime fails in the middle of a plan, and there is no memory to say so: it is said that the
// device failed, never that nothing was done.
TEST_P(cuda_alloc_failure_executor, errors_of_the_device_need_no_memory) {
  step_plan plan;  // a chain: one launch per copy
  for (block_id b = 0; b < 10; ++b) plan.copies.push_back({b, b + 1, 4});
  step_plan other = plan;
  for (block_copy& c : other.copies) {
    c.source += 12;
    c.destination += 12;
  }
  int cut = 0;
  for (std::int64_t call = 0, done = 0; done == 0; ++call) {
    ASSERT_LT(call, 100);
    for (std::int64_t nth = 0; nth < 12; ++nth) {
      executor_pair pair =
          executor_pair::make(layout_, random_, {.staging_slots = 8, .slot_operations = 4});
      // Something to be ordered after; and the executor has seen as long a plan.
      RADIXKV_ASSERT_OK(pair.device.run(stream_, other));
      RADIXKV_ASSERT_OK(pair.host.run(other));
      pair.expect_equal_pools();
      fail_cuda_call(call);
      const attempt a = try_with(nth, [&] { return pair.device.run(stream_, plan); });
      done = !cuda_call_failed();
      fail_cuda_call(-1);
      ASSERT_EQ(a.result.ok(), done != 0) << call;
      if (done) break;
      cut += a.result.error().message == "plan cut short";
      RADIXKV_ASSERT_OK(pair.device.synchronize());
      // Some first copies of the chain have run, and no other.
      const bytes got = download(memory_of(pair.device), layout_.bytes());
      const auto same = [&] { return std::equal(got.begin(), got.end(), memory_of(pair.host)); };
      if (a.result.error().code != errc::device) {
        EXPECT_EQ(a.result.error().code, errc::out_of_memory) << a.result.error().message;
        EXPECT_TRUE(same()) << call << " " << nth;
      }
      bool prefix = same();
      for (std::size_t i = 0; i < plan.copies.size() && !prefix; ++i) {
        RADIXKV_ASSERT_OK(pair.host.run({.copies = {plan.copies[i]}, .logits = {}}));
        prefix = same();
      }
      EXPECT_TRUE(prefix) << call << " " << nth;
      RADIXKV_ASSERT_OK(pair.device.run(stream_, plan));
      RADIXKV_ASSERT_OK(pair.host.run(plan));
      pair.expect_equal_pools();
      if (HasFatalFailure()) return;
      if (!a.fired) break;
    }
  }
  EXPECT_GT(cut, 10);
}

TEST_P(cuda_alloc_failure_executor, a_graph_that_was_launched_is_said_to_be) {
  executor_pair pair = executor_pair::make(layout_, random_);
  graph_plan plan = pair.device.make_graph_plan({.copies = 8}).value();
  const plan_graph graph(plan, view_);
  const step_plan step = short_plan();
  RADIXKV_ASSERT_OK(plan.launch(stream_, graph, step));
  run_on_host(pair, step);
  for (std::int64_t call = 0, done = 0; done == 0; ++call) {
    ASSERT_LT(call, 100);
    RADIXKV_ASSERT_OK(pair.device.synchronize());
    fail_cuda_call(call);
    const attempt a = try_with(0, [&] { return plan.launch(stream_, graph, step); });
    done = !cuda_call_failed();
    const std::string met = done ? "" : failed_cuda_call();
    fail_cuda_call(-1);
    ASSERT_EQ(a.result.ok(), done != 0);
    const bool launched = done || met == "cudaEventRecord";
    if (!done && launched) expect_refused(a.result, errc::device, "graph");
    if (launched) run_on_host(pair, step);
    pair.expect_equal_pools();
    EXPECT_EQ(plan.numbered(), plan.replayed()) << met;
  }
}

INSTANTIATE_TEST_SUITE_P(one_or_all, cuda_alloc_failure_executor, ::testing::Bool());

}  // namespace
}  // namespace radixkv::testing
