// The order of calls on several streams, and what becomes of it when the CUDA runtime fails.
#include <string>

#include "csrc/cuda/call_order.h"
#include "csrc/cuda/device_memory.h"
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

}  // namespace
}  // namespace radixkv::testing
