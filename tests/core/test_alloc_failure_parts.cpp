// Fail the nth allocation of plans, layouts and host executors.
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/host_executor.h"
#include "tests/core/alloc_failure_world.h"
#include "tests/support/alloc_failure.h"

namespace radixkv::testing {
namespace {

class alloc_failures_of_parts : public ::testing::TestWithParam<bool> {};

TEST_P(alloc_failures_of_parts, plans_and_executors_report_them) {
  step_plan plan;
  plan.copies = {{0, 1, 4}, {2, 3, 2}};
  const std::vector<std::byte> bytes = plan.serialize();
  EXPECT_GT(fail_each(GetParam(),
                      [&](alloc_failure& failing) {
                        result<step_plan> read = step_plan::deserialize(bytes);
                        failing.stop();
                        EXPECT_TRUE(!read || *read == plan);
                        return status_of(std::move(read));
                      }),
            0);
  EXPECT_GT(fail_each(GetParam(),
                      [&](alloc_failure& failing) {
                        const std::vector<std::byte> written = plan.serialize();
                        failing.stop();
                        if (written.empty()) return status(errc::out_of_memory, "empty");
                        EXPECT_EQ(written, bytes);
                        return status();
                      }),
            0);
  const layout_shape shape{.blocks = 8, .block_tokens = 4, .layers = 2, .head_bytes = 8};
  EXPECT_GT(fail_each(GetParam(),
                      [&](alloc_failure&) {
                        memory_layout layout = layout_nhd(shape);
                        if (layout.planes.empty()) return status(errc::out_of_memory, "no planes");
                        result<host_executor> made = host_executor::create(std::move(layout));
                        if (!made) return status(std::move(made).error());
                        return made->run(plan);
                      }),
            0);
  // A refused plan and a failed operation are reported with or without memory for the message.
  host_executor executor = host_executor::create(layout_nhd(shape)).value();
  for (std::int64_t n = 0;; ++n) {
    step_plan wrong = plan;
    wrong.copies[1].source = 99;
    alloc_failure failing(n, GetParam());
    EXPECT_FALSE(executor.run(wrong).ok());
    EXPECT_EQ(executor.operations_run(), 0);
    executor.fail_operation(1);
    EXPECT_FALSE(executor.run(plan).ok());
    EXPECT_EQ(executor.operations_run(), 1);
    executor.fail_operation(-1);
    failing.stop();
    if (!failing.fired()) break;
  }
}

INSTANTIATE_TEST_SUITE_P(one_or_all, alloc_failures_of_parts, ::testing::Bool());

}  // namespace
}  // namespace radixkv::testing
