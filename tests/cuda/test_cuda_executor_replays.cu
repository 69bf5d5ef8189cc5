// Which replay of a graph runs which plan: always the one that the plan was prepared for, however
// far the device is behind, and whatever was refused, skipped or failed.
#include <string>

#include "radixkv/cuda_executor.h"
#include "tests/cuda/executor_test.h"
#include "tests/cuda/fault_injection.h"
#include "tests/cuda/plan_graph.h"

namespace radixkv::testing {
namespace {

constexpr std::uint32_t steps = 80;

// A forward pass: counts itself and fills the block with the count.
__global__ void pass_kernel(std::uint8_t* block, std::uint32_t bytes, std::uint32_t* passes) {
  __shared__ std::uint32_t now;
  if (threadIdx.x == 0) now = *passes += 1;
  __syncthreads();
  for (std::uint32_t i = threadIdx.x; i < bytes; i += blockDim.x) {
    block[i] = static_cast<std::uint8_t>(now);
  }
}

// Graphs whose passes fill block 0; step i copies it to block i before its pass, and so must find
// there what the pass before has written.
class cuda_executor_replays : public ::testing::Test {
 protected:
  static constexpr std::uint32_t block_bytes = 4 * 16;
  const memory_layout layout_ = [] {
    return layout_nhd({.blocks = steps + 3,
                       .block_tokens = 4,
                       .layers = 1,
                       .heads = 1,
                       .head_bytes = 16,
                       .kv = 1});
  }();
  cuda_executor executor_ = cuda_executor::create(layout_).value();
  device_array<std::uint32_t> passes_{std::vector<std::uint32_t>{0}};
  std::vector<std::uint32_t> wanted_ = std::vector<std::uint32_t>(steps + 3, 0);
  std::uint32_t launched_ = 0;
  test_stream stream_;

  plan_graph graph_of(graph_plan& plan) {
    return plan_graph(plan, {}, [&](cudaStream_t s) {
      pass_kernel<<<1, 64, 0, s>>>(reinterpret_cast<std::uint8_t*>(executor_.plane(0)), block_bytes,
                                   passes_.data());
    });
  }
  // The plan of step i, which runs when `launched_` passes have: block 0 to block i, or, with too
  // many waves for the graph, by way of two other blocks.
  step_plan copy_to(std::uint32_t i, bool chain = false) {
    wanted_[i] = launched_;
    const auto to = static_cast<block_id>(i);
    if (!chain) return {.copies = {{0, to, 4}}, .logits = {}};
    const block_id x = steps + 1, y = steps + 2;
    wanted_[steps + 1] = wanted_[steps + 2] = launched_;
    return {.copies = {{0, x, 4}, {x, y, 4}, {y, to, 4}}, .logits = {}};
  }
  void expect_wanted() {
    RADIXKV_ASSERT_OK(executor_.synchronize());
    stream_.synchronize();
    for (std::uint32_t b = 1; b < wanted_.size(); ++b) {
      const bytes got = download(executor_.plane(0) + b * block_bytes, block_bytes);
      ASSERT_EQ(got, bytes(block_bytes, static_cast<std::byte>(wanted_[b]))) << "block " << b;
    }
  }
};

TEST_F(cuda_executor_replays, a_refused_plan_leaves_its_replay_empty) {
  graph_plan plan = executor_.make_graph_plan({.copies = 8, .copy_waves = 1}).value();
  const plan_graph graph = graph_of(plan);
  const step_plan first = copy_to(1, true);
  expect_refused(plan.prepare(first), errc::invalid_argument, "waves");
  RADIXKV_ASSERT_OK(executor_.run(stream_, first));
  RADIXKV_ASSERT_OK(executor_.launch(stream_, graph));
  ++launched_;
  RADIXKV_ASSERT_OK(plan.prepare(copy_to(2)));
  RADIXKV_ASSERT_OK(executor_.launch(stream_, graph));
  expect_wanted();
}

// The ways in which an engine may go through its steps, mixed; it synchronises rarely or never.
TEST_F(cuda_executor_replays, every_step_copies_what_the_pass_before_wrote) {
  for (std::uint32_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const std::uint32_t depth = 1 + random() % 6;
    const bool waits = random() % 2 == 0;
    graph_plan plan =
        executor_.make_graph_plan({.copies = 8, .copy_waves = 2, .depth = depth}).value();
    const plan_graph graph = graph_of(plan);
    launched_ = 0;
    passes_.upload(std::vector<std::uint32_t>{0});
    upload(executor_.plane(0), bytes(block_bytes));
    std::uint32_t ahead = 0;  // numbers whose launch is still to come
    const auto launch = [&] {
      if (random() % 2) {
        RADIXKV_ASSERT_OK(executor_.launch(stream_, graph));
      } else {
        RADIXKV_ASSERT_CUDA(cudaGraphLaunch(graph, stream_));
      }
      ++launched_;
    };
    for (std::uint32_t i = 1; i <= steps; ++i) {
      const bool chain = random() % 8 == 0;
      const std::uint32_t kind = random() % 8;
      if (kind < 2) {  // numbered and launched at once
        for (; ahead > 0; --ahead) launch();
        const step_plan step = kind == 0 ? step_plan{} : copy_to(i, chain);
        RADIXKV_ASSERT_OK(plan.launch(stream_, graph, step));
        ++launched_;
      } else if (kind == 2) {
        plan.skip();
        ++ahead;
      } else {
        // Its pass comes behind those that are still to be launched.
        launched_ += ahead;
        const step_plan step = copy_to(i, chain);
        launched_ -= ahead;
        if (const status s = plan.prepare(step); !s) {
          ASSERT_TRUE(chain || s.error().code == errc::busy) << s.error().message;
          for (; ahead > 0; --ahead) launch();
          RADIXKV_ASSERT_OK(executor_.run(stream_, step));
        }
        ++ahead;
      }
      if (random() % 3 != 0) {
        for (; ahead > 0; --ahead) launch();
      }
      if (waits && random() % 4 == 0) RADIXKV_ASSERT_OK(executor_.synchronize());
    }
    for (; ahead > 0; --ahead) launch();
    expect_wanted();
    if (HasFatalFailure()) return;
    EXPECT_EQ(plan.numbered(), steps);
    EXPECT_EQ(plan.replayed(), steps);
  }
}

TEST_F(cuda_executor_replays, launches_without_a_number_are_found) {
  graph_plan plan = executor_.make_graph_plan({.copies = 8, .copy_waves = 1}).value();
  const plan_graph graph = graph_of(plan);
  RADIXKV_ASSERT_OK(plan.launch(stream_, graph, copy_to(1)));
  for (int i = 0; i < 2; ++i) RADIXKV_ASSERT_CUDA(cudaGraphLaunch(graph, stream_));
  launched_ += 3;
  stream_.synchronize();
  // It says so until the numbers are taken up again, and copies nothing at a wrong time meanwhile.
  for (std::uint32_t i = 2; i < 5; ++i) {
    const step_plan step = copy_to(i);
    expect_refused(plan.prepare(step), errc::invalid_argument, "replays have run, but only 1 were");
    RADIXKV_ASSERT_OK(executor_.run(stream_, step));
    RADIXKV_ASSERT_OK(executor_.launch(stream_, graph));
    ++launched_;
  }
  plan.skip();
  EXPECT_EQ(plan.numbered(), 1u);
  RADIXKV_ASSERT_OK(plan.launch(stream_, graph, copy_to(5)));
  ++launched_;
  RADIXKV_ASSERT_OK(executor_.synchronize());
  plan.realign();
  EXPECT_EQ(plan.numbered(), 7u);
  for (std::uint32_t i = 6; i < 20; ++i) {
    RADIXKV_ASSERT_OK(plan.prepare(copy_to(i)));
    RADIXKV_ASSERT_OK(executor_.launch(stream_, graph));
    ++launched_;
    if (i % 3 == 0) RADIXKV_ASSERT_OK(executor_.synchronize());
  }
  expect_wanted();
}

TEST_F(cuda_executor_replays, numbers_whose_launch_never_came_are_taken_back) {
  graph_plan plan = executor_.make_graph_plan({.copies = 8, .copy_waves = 1, .depth = 3}).value();
  const plan_graph graph = graph_of(plan);
  for (std::uint32_t i = 1; i < 4; ++i) RADIXKV_ASSERT_OK(plan.prepare(copy_to(i)));
  for (std::uint32_t i = 1; i < 4; ++i) wanted_[i] = 0;
  RADIXKV_ASSERT_OK(executor_.launch(stream_, graph));  // of the first of them
  ++launched_;
  RADIXKV_ASSERT_OK(executor_.synchronize());
  plan.realign();
  EXPECT_EQ(plan.numbered(), 1u);
  for (std::uint32_t i = 4; i < 20; ++i) {
    if (i % 3 == 0) plan.skip();
    if (i % 3 != 0) RADIXKV_ASSERT_OK(plan.launch(stream_, graph, copy_to(i)));
    if (i % 3 == 0) RADIXKV_ASSERT_OK(executor_.launch(stream_, graph));
    ++launched_;
  }
  expect_wanted();
}

// A launch that fails at any call: the error tells what runs of it, and later steps are right.
TEST_F(cuda_executor_replays, a_launch_that_fails_takes_no_number) {
  for (const bool chain : {false, true}) {
    graph_plan plan = executor_.make_graph_plan({.copies = 8, .copy_waves = 1}).value();
    const plan_graph graph = graph_of(plan);
    std::int64_t n = 0;
    int plans_alone = 0;
    bool done = false;
    for (std::uint32_t i = 1; !done; ++n, i = i % 30 + 1) {
      ASSERT_LT(n, 100);
      RADIXKV_ASSERT_OK(executor_.synchronize());
      const std::vector<std::uint32_t> before = wanted_;
      const step_plan step = copy_to(i, chain);
      fail_cuda_call(n);
      const status s = plan.launch(stream_, graph, step);
      done = !cuda_call_failed();
      const std::string met = done ? "" : failed_cuda_call();
      fail_cuda_call(-1);
      ASSERT_EQ(s.ok(), done) << met;
      const std::string text = s.ok() ? "" : s.error().message;
      const bool launched = s.ok() || text.find("the graph was launched") != std::string::npos;
      const bool alone = text.find("the plan was enqueued") != std::string::npos;
      if (!launched && !alone) {
        wanted_ = before;
        // A chain is enqueued a copy at a time.
        const std::size_t at = text.find("enqueued: ");
        const int copies = at == std::string::npos ? 0 : std::atoi(text.c_str() + at + 10);
        if (copies > 0) wanted_[steps + 1] = launched_;
        if (copies > 1) wanted_[steps + 2] = launched_;
        if (copies > 2) wanted_[i] = launched_;
      }
      launched_ += launched;
      plans_alone += alone;
      EXPECT_EQ(cudaGetLastError(), cudaSuccess);
      RADIXKV_ASSERT_OK(executor_.synchronize());
      RADIXKV_ASSERT_OK(plan.launch(stream_, graph, copy_to(i + 31)));
      ++launched_;
      expect_wanted();
      if (HasFatalFailure()) return;
      EXPECT_EQ(plan.numbered(), plan.replayed()) << met;
    }
    EXPECT_GT(n, 4);
    EXPECT_EQ(plans_alone > 0, chain);
    launched_ = 0;
    passes_.upload(std::vector<std::uint32_t>{0});
    upload(executor_.plane(0), bytes(block_bytes));
  }
}

}  // namespace
}  // namespace radixkv::testing
