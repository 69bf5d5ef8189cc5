// Plans in CUDA graphs: captured once, replayed with other contents.
#include "radixkv/cuda_executor.h"
#include "tests/cuda/executor_test.h"
#include "tests/cuda/plan_graph.h"

namespace radixkv::testing {
namespace {

std::size_t waves_of(const step_plan& plan) {
  copy_waves waves;
  return waves.split(plan.copies).size();
}

class cuda_executor_graph : public ::testing::Test {
 protected:
  std::mt19937 random_{21};
  const memory_layout layout_ = small_layout();
  executor_pair pair_ = executor_pair::make(layout_, random_);

  step_plan fitting_plan(std::size_t waves = 2) {
    for (;;) {
      step_plan plan = random_copies(layout_, random_() % 7, random_);
      if (waves_of(plan) <= waves) return plan;
    }
  }
};

TEST_F(cuda_executor_graph, every_replay_runs_its_own_plan) {
  graph_plan plan = pair_.device.make_graph_plan({.copies = 8}).value();
  const plan_graph graph(plan);
  test_stream stream;
  for (int i = 0; i < 30; ++i) {
    const step_plan step = fitting_plan();
    RADIXKV_ASSERT_OK(pair_.host.run(step));
    RADIXKV_ASSERT_OK(plan.prepare(step));
    RADIXKV_ASSERT_OK(pair_.device.launch(stream, graph));
    if (i % 3 == 2) pair_.expect_equal_pools();
  }
  pair_.expect_equal_pools();
  EXPECT_EQ(plan.numbered(), 30u);
  EXPECT_EQ(plan.replayed(), 30u);
}

TEST_F(cuda_executor_graph, plans_may_be_prepared_ahead) {
  graph_plan plan = pair_.device.make_graph_plan({.copies = 8, .depth = 3}).value();
  const plan_graph graph(plan);
  test_stream stream;
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 3; ++i) {
      const step_plan step = fitting_plan();
      RADIXKV_ASSERT_OK(pair_.host.run(step));
      RADIXKV_ASSERT_OK(plan.prepare(step));
    }
    expect_refused(plan.prepare({}), errc::busy,
                   "the plan of replay " + std::to_string(4 * round) +
                       " is still in the slot of replay " + std::to_string(4 * round + 3));
    for (int i = 0; i < 4; ++i) RADIXKV_ASSERT_OK(pair_.device.launch(stream, graph));
    RADIXKV_ASSERT_OK(pair_.device.synchronize());
  }
  pair_.expect_equal_pools();
}

TEST_F(cuda_executor_graph, a_replay_without_a_plan_copies_nothing) {
  graph_plan plan = pair_.device.make_graph_plan().value();
  const plan_graph graph(plan);
  test_stream stream;
  plan.skip();
  RADIXKV_ASSERT_OK(pair_.device.launch(stream, graph));
  pair_.expect_equal_pools();
  const step_plan step{.copies = {{1, 2, 4}, {3, 1, 4}}, .logits = {}};
  RADIXKV_ASSERT_OK(pair_.host.run(step));
  RADIXKV_ASSERT_OK(plan.prepare(step));
  // A second run of this plan would copy block 3 on to block 2.
  RADIXKV_ASSERT_OK(pair_.device.launch(stream, graph));
  for (int i = 0; i < 2; ++i) {
    plan.skip();
    RADIXKV_ASSERT_OK(pair_.device.launch(stream, graph));
  }
  pair_.expect_equal_pools();
  EXPECT_EQ(plan.replayed(), 4u);
}

TEST_F(cuda_executor_graph, replays_and_runs_on_several_streams_are_ordered) {
  graph_plan plan = pair_.device.make_graph_plan({.copies = 8}).value();
  const plan_graph graph(plan);
  test_stream streams[3];
  for (int i = 0; i < 60; ++i) {
    const step_plan step = fitting_plan();
    RADIXKV_ASSERT_OK(pair_.host.run(step));
    const cudaStream_t stream = streams[random_() % 3];
    if (random_() % 2) {
      RADIXKV_ASSERT_OK(pair_.device.run(stream, step));
      continue;
    }
    if (random_() % 2) {
      RADIXKV_ASSERT_OK(plan.launch(stream, graph, step));
      continue;
    }
    if (const status s = plan.prepare(step); !s) {
      expect_refused(s, errc::busy, "is still in the slot");
      RADIXKV_ASSERT_OK(pair_.device.run(stream, step));
    }
    RADIXKV_ASSERT_OK(pair_.device.launch(stream, graph));
  }
  pair_.expect_equal_pools();
}

// Engines launch their whole graph themselves; on one stream that is in order.
TEST_F(cuda_executor_graph, the_engine_may_launch_the_graph_itself) {
  graph_plan plan = pair_.device.make_graph_plan({.copies = 8}).value();
  const plan_graph graph(plan);
  test_stream stream;
  for (int i = 0; i < 4; ++i) {
    const step_plan step = fitting_plan();
    RADIXKV_ASSERT_OK(pair_.host.run(step));
    RADIXKV_ASSERT_OK(plan.prepare(step));
    RADIXKV_ASSERT_CUDA(cudaGraphLaunch(graph, stream));
  }
  stream.synchronize();
  pair_.expect_equal_pools();
}

TEST_F(cuda_executor_graph, what_does_not_fit_is_refused) {
  graph_plan plan = pair_.device.make_graph_plan({.copies = 4, .copy_waves = 2}).value();
  expect_refused(plan.prepare({}), errc::invalid_argument, "not captured");
  test_stream stream;
  expect_refused(plan.capture(stream), errc::invalid_argument, "not being captured");
  const plan_graph graph(plan);
  RADIXKV_ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  expect_refused(plan.capture(stream), errc::invalid_argument, "part of a graph already");
  cudaGraph_t empty = nullptr;
  RADIXKV_ASSERT_CUDA(cudaStreamEndCapture(stream, &empty));
  RADIXKV_ASSERT_CUDA(cudaGraphDestroy(empty));

  expect_refused(plan.prepare({.copies = {{0, 24, 1}}, .logits = {}}), errc::invalid_argument,
                 "24");
  const std::vector<block_copy> five{{0, 10, 1}, {1, 11, 1}, {2, 12, 1}, {3, 13, 1}, {4, 14, 1}};
  expect_refused(plan.prepare({.copies = five, .logits = {}}), errc::invalid_argument,
                 "number of copies 5, the limit is 4");
  expect_refused(plan.prepare({.copies = {{0, 1, 1}, {1, 2, 1}, {2, 3, 1}}, .logits = {}}),
                 errc::invalid_argument, "waves of independent copies 3, the limit is 2");
  expect_refused(plan.prepare({.copies = {}, .logits = {{logits_direction::store, 0, 0}}}),
                 errc::invalid_argument, "none were captured");
  EXPECT_EQ(plan.numbered(), 4u);  // of those after the capture
  // What was refused left no trace in the ring.
  RADIXKV_ASSERT_OK(pair_.device.launch(stream, graph));
  pair_.expect_equal_pools();
}

TEST_F(cuda_executor_graph, another_thread_may_run_plans_during_a_global_capture) {
  executor_pair pair = executor_pair::make(layout_, random_, {.staging_slots = 2});
  graph_plan plan = pair.device.make_graph_plan().value();
  test_stream capturing, stream;
  // The ring has gone round: whether a slot is free has to be asked, which ends other captures.
  for (int i = 0; i < 2; ++i) {
    RADIXKV_ASSERT_OK(pair.host.run({.copies = {{0, 1, 1}}, .logits = {}}));
    RADIXKV_ASSERT_OK(pair.device.run(stream, {.copies = {{0, 1, 1}}, .logits = {}}));
  }
  RADIXKV_ASSERT_OK(pair.device.synchronize());
  RADIXKV_ASSERT_CUDA(cudaStreamBeginCapture(capturing, cudaStreamCaptureModeGlobal));
  for (int i = 0; i < 2; ++i) {
    const step_plan step = random_copies(layout_, 3, random_);
    RADIXKV_ASSERT_OK(pair.host.run(step));
    RADIXKV_ASSERT_OK(pair.device.run(stream, step));
  }
  RADIXKV_ASSERT_OK(plan.capture(capturing));
  cudaGraph_t graph = nullptr;
  RADIXKV_ASSERT_CUDA(cudaStreamEndCapture(capturing, &graph));
  RADIXKV_ASSERT_CUDA(cudaGraphDestroy(graph));
  pair.expect_equal_pools();
}

TEST_F(cuda_executor_graph, the_row_behind_the_captured_ones_is_refused) {
  graph_plan plan = pair_.device.make_graph_plan().value();
  const device_array<float> rows(std::vector<float>(3 * 37, 1.0f));
  const plan_graph graph(plan, {rows.data(), 37 * 4, 3, logits_type::fp32});
  const auto store = [](std::int32_t row) {
    return step_plan{.copies = {}, .logits = {{logits_direction::store, 0, row}}};
  };
  expect_refused(plan.prepare(store(3)), errc::invalid_argument, "logits row 3, the limit is 2");
  RADIXKV_ASSERT_OK(plan.prepare(store(2)));
}

TEST_F(cuda_executor_graph, nothing_is_numbered_before_the_capture) {
  graph_plan plan = pair_.device.make_graph_plan().value();
  test_stream stream;
  plan.skip();
  EXPECT_EQ(plan.numbered(), 0u);
  const plan_graph graph(plan);
  const step_plan step = random_copies(layout_, 3, random_);
  RADIXKV_ASSERT_OK(pair_.host.run(step));
  RADIXKV_ASSERT_OK(plan.prepare(step));
  RADIXKV_ASSERT_OK(pair_.device.launch(stream, graph));
  pair_.expect_equal_pools();
}

TEST_F(cuda_executor_graph, a_graph_plan_outlives_its_executor) {
  graph_plan plan = pair_.device.make_graph_plan().value();
  const plan_graph graph(plan);
  test_stream stream;
  RADIXKV_ASSERT_OK(plan.prepare({.copies = {{1, 2, 4}}, .logits = {}}));
  RADIXKV_ASSERT_OK(pair_.device.launch(stream, graph));
  const cuda_executor gone = std::move(pair_.device);
  RADIXKV_ASSERT_OK(plan.prepare({.copies = {{1, 2, 4}}, .logits = {}}));
}

}  // namespace
}  // namespace radixkv::testing
