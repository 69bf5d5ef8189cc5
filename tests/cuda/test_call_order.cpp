// The order of calls on several streams, and what becomes of it when the CUDA runtime fails.
#include <string>

#include "csrc/cuda/call_order.h"
#include "csrc/cuda/device_memory.h"
#include "radixkv/cuda_topk_cache.h"
#include "tests/cuda/executor_test.h"
#include "tests/cuda/fault_injection.h"
#include "tests/support/alloc_failure.h"

namespace radixkv::testing {
namespace {

struct two_events {
  two_events() {
    for (detail::device_event& e : events) EXPECT_TRUE(e.create().ok());
  }
  cudaEvent_t operator[](std::size_t i) const { return events[i].get(); }
  detail::device_event events[2];
};

// The call fails at the next CUDA call that it makes, and says so.
template <class Call>
void expect_failure(Call call, const std::string& text) {
  fail_cuda_call(0);
  const status s = call();
  EXPECT_TRUE(cuda_call_failed());
  fail_cuda_call(-1);
  expect_refused(s, errc::device, text);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST(call_order, a_call_runs_after_the_one_before_on_another_stream) {
  detail::call_order order("the test");
  const two_events events;
  const test_stream streams[2];
  constexpr std::size_t size = 1 << 20;
  device_array<unsigned char> memory(std::vector<unsigned char>(size, 0));
  const detail::pinned_buffer seen = detail::allocate_pinned("what was seen", size).value();
  EXPECT_EQ(order.last(), nullptr);
  for (int round = 0; round < 8; ++round) {
    const unsigned char value = static_cast<unsigned char>(round + 1);
    RADIXKV_ASSERT_OK(order.enter(streams[0]));
    RADIXKV_ASSERT_CUDA(cudaMemsetAsync(memory.data(), value, size, streams[0]));
    RADIXKV_ASSERT_OK(order.leave(streams[0], events[0], "a write"));
    EXPECT_EQ(order.last(), events[0]);
    RADIXKV_ASSERT_OK(order.enter(streams[1]));
    RADIXKV_ASSERT_CUDA(
        cudaMemcpyAsync(seen.get(), memory.data(), size, cudaMemcpyDeviceToHost, streams[1]));
    RADIXKV_ASSERT_OK(order.leave(streams[1], events[1], "a read"));
    if (round % 2 == 0) {
      streams[1].synchronize();
    } else {
      RADIXKV_ASSERT_OK(order.wait());
    }
    for (const std::size_t at : {std::size_t{0}, size / 2, size - 1}) {
      ASSERT_EQ(static_cast<unsigned char>(seen[at]), value);
    }
  }
}

TEST(call_order, a_wait_that_fails_changes_nothing) {
  detail::call_order order("the test");
  const two_events events;
  const test_stream stream;
  // Nothing was called yet: nothing to wait for, and no call that could fail.
  fail_cuda_call(0);
  RADIXKV_ASSERT_OK(order.enter(stream));
  RADIXKV_ASSERT_OK(order.wait());
  EXPECT_FALSE(order.recover().value());
  EXPECT_FALSE(cuda_call_failed());
  fail_cuda_call(-1);

  RADIXKV_ASSERT_OK(order.leave(stream, events[0], "a call"));
  expect_failure([&] { return order.enter(stream); }, "the previous call of the test");
  expect_failure([&] { return order.wait(); }, "the work of the test");
  EXPECT_EQ(order.last(), events[0]);
  RADIXKV_ASSERT_OK(order.usable());
  RADIXKV_ASSERT_OK(order.enter(stream));
  RADIXKV_ASSERT_OK(order.wait());
}

TEST(call_order, a_lost_event_stops_everything_until_the_device_was_idle) {
  for (const bool in_order : {true, false}) {
    detail::call_order order("the test");
    const two_events events;
    const test_stream stream;
    RADIXKV_ASSERT_OK(order.leave(stream, events[0], "the first call"));
    expect_failure(
        [&] {
          return in_order ? order.leave(stream, events[1], "the second call")
                          : order.record(stream, events[1], "the second call");
        },
        "recording the second call");
    EXPECT_EQ(order.last(), events[0]);
    for (const status& s : {order.usable(), order.enter(stream)}) {
      expect_refused(s, errc::device, "recording the second call");
      expect_refused(s, errc::device, "synchronize() the test first");
    }
    expect_failure(
        [&]() -> status {
          const result<bool> r = order.recover();
          return r ? status{} : r.error();
        },
        "waiting for the device");
    EXPECT_FALSE(order.usable().ok());
    EXPECT_TRUE(order.recover().value());
    EXPECT_EQ(order.last(), nullptr);
    RADIXKV_ASSERT_OK(order.usable());
    EXPECT_FALSE(order.recover().value());
    RADIXKV_ASSERT_OK(order.leave(stream, events[1], "a call"));
    RADIXKV_ASSERT_OK(order.wait());
  }
}

TEST(call_order, a_lost_event_is_known_when_its_error_finds_no_memory) {
  std::int64_t nth = 0;
  for (bool done = false; !done; ++nth) {
    ASSERT_LT(nth, 20);
    detail::call_order order("the test");
    const two_events events;
    const test_stream stream;
    fail_cuda_call(0);
    {
      alloc_failure none(nth);
      const status s = order.leave(stream, events[0], "a call");
      done = !none.fired();
      none.stop();
      expect_refused(s, errc::device, done ? "recording a call" : "CUDA error");
    }
    EXPECT_TRUE(cuda_call_failed());
    fail_cuda_call(-1);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    expect_refused(order.usable(), errc::device, "recording a call");
    EXPECT_TRUE(order.recover().value());
    RADIXKV_ASSERT_OK(order.usable());
  }
  EXPECT_GT(nth, 1);
}

TEST(call_order, what_is_recorded_beside_the_order_is_not_waited_for) {
  detail::call_order order("the test");
  const two_events events;
  const test_stream stream;
  RADIXKV_ASSERT_OK(order.leave(stream, events[0], "a call"));
  RADIXKV_ASSERT_OK(order.record(stream, events[1], "something else"));
  EXPECT_EQ(order.last(), events[0]);
  RADIXKV_ASSERT_OK(order.wait());
  RADIXKV_EXPECT_CUDA(cudaEventSynchronize(events[1]));
}

// Long rows are searched by two launches with memory between them that all stores share: if the
// second one fails, a store on another stream still has to wait for the first.
TEST(call_order, a_store_of_top_logits_waits_for_one_that_failed) {
  constexpr std::int32_t vocabulary = 70000, k = 4;
  test_stream failing, good;
  std::vector<float> text[2] = {std::vector<float>(vocabulary, 5.0f),
                                std::vector<float>(vocabulary, 0.0f)};
  const std::vector<std::int32_t> best{1, 30000, 40000, 69999};
  for (const std::int32_t id : best) text[1][static_cast<std::size_t>(id)] = 1.0f;
  const device_array<float> rows[2] = {device_array<float>(text[0]), device_array<float>(text[1])};
  cuda_topk_cache cache =
      cuda_topk_cache::create({.slots = 2, .k = k, .vocabulary = vocabulary}).value();
  const auto store = [&](int which, cudaStream_t stream) {
    step_plan plan;
    plan.logits.push_back({logits_direction::store, which, 0});
    return cache.store(stream, plan, {rows[which].data(), vocabulary * 4, 1, logits_type::fp32});
  };
  int launches = 0;
  for (std::int64_t n = 0, done = 0; done == 0; ++n) {
    ASSERT_LT(n, 40);
    // A launch many times: the two streams' work can meet in many orders.
    for (int turn = 0, turns = 1; turn < turns; ++turn) {
      fail_cuda_call(n);
      const status s = store(0, failing);
      done = !cuda_call_failed();
      const bool launch = !done && std::string(failed_cuda_call()) == "cudaLaunchKernelExC";
      fail_cuda_call(-1);
      EXPECT_EQ(s.ok(), done != 0) << n;
      const status next = store(1, good);
      RADIXKV_ASSERT_OK(cache.synchronize());
      if (!launch) continue;
      turns = 40;
      EXPECT_NE(s.error().message.find("enqueued: 0 of 1 launches"), std::string::npos);
      RADIXKV_ASSERT_OK(next);
      failing.synchronize();
      ++launches;
      std::vector<std::int32_t> ids(k);
      RADIXKV_ASSERT_CUDA(
          cudaMemcpy(ids.data(), cache.view().ids + k, k * sizeof(ids[0]), cudaMemcpyDeviceToHost));
      ASSERT_EQ(ids, best) << n;
    }
  }
  EXPECT_GE(launches, 80);  // the first, and the second
  (void)cudaGetLastError();
}

}  // namespace
}  // namespace radixkv::testing
