// The conformance suite on the host executor, and what only the host executor has.
#include <optional>

#include <sys/mman.h>

#include "radixkv/host_executor.h"
#include "tests/conformance/executor_suite.h"

namespace radixkv::conformance {
namespace {

// Lends memory of its own, reserved but not committed: its addresses may pass 4 GiB on any machine.
class host_under_test {
 public:
  static constexpr int plans = 40;
  static constexpr std::int64_t large_stride = std::int64_t{3} << 30;

  explicit host_under_test(const memory_layout& layout) : bytes_(layout.bytes()) {
    memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory_ == MAP_FAILED) throw std::runtime_error("mmap");
    auto made = host_executor::borrow(layout, {&memory_, 1});
    if (!made) throw std::runtime_error(made.error().message);
    executor_.emplace(std::move(made).value());
  }
  host_under_test(const host_under_test&) = delete;
  host_under_test& operator=(const host_under_test&) = delete;
  ~host_under_test() { munmap(memory_, bytes_); }

  void write_memory(std::uint64_t offset, std::span<const std::byte> from) {
    std::memcpy(static_cast<std::byte*>(memory_) + offset, from.data(), from.size());
  }
  void read_memory(std::uint64_t offset, std::span<std::byte> to) {
    std::memcpy(to.data(), static_cast<std::byte*>(memory_) + offset, to.size());
  }
  void open_batch(logits_type type, std::int32_t rows, std::int64_t stride) {
    batch_.resize(static_cast<std::size_t>(rows * stride));
    view_ = {.data = batch_.data(), .row_stride_bytes = stride, .rows = rows, .type = type};
  }
  void write_batch(std::span<const std::byte> from) {
    std::memcpy(batch_.data(), from.data(), from.size());
  }
  void read_batch(std::span<std::byte> to) { std::memcpy(to.data(), batch_.data(), to.size()); }
  status run(const step_plan& plan) { return executor_->run(plan, view_); }
  status run_without_batch(const step_plan& plan) { return executor_->run(plan); }

 private:
  std::uint64_t bytes_;
  void* memory_;
  std::optional<host_executor> executor_;
  std::vector<std::byte> batch_;
  logits_rows_view view_;
};

INSTANTIATE_TYPED_TEST_SUITE_P(host, executor_suite, host_under_test);

memory_layout small_layout() {
  memory_layout l =
      layout_nhd({.blocks = 8, .block_tokens = 4, .layers = 2, .heads = 1, .head_bytes = 4});
  l.logits_rows = 4;
  l.vocabulary = 5;
  return l;
}

TEST(host_executor, owned_memory_is_zeroed_and_addressed_by_token) {
  host_executor executor = host_executor::create(small_layout()).value();
  for (std::size_t p = 0; p < executor.layout().planes.size(); ++p) {
    for (block_id b = 0; b < 8; ++b) {
      for (std::uint32_t t = 0; t < 4; ++t) {
        for (std::byte& byte : executor.token_bytes(p, b, 0, t)) {
          ASSERT_EQ(byte, std::byte{0});
          byte = static_cast<std::byte>(p * 64 + static_cast<std::size_t>(b) * 4 + t);
        }
      }
    }
  }
  step_plan plan;
  plan.copies = {{7, 2, 3}};
  ASSERT_TRUE(executor.run(plan).ok());
  EXPECT_EQ(executor.operations_run(), 1);
  for (std::uint32_t t = 0; t < 4; ++t) {
    const int block = t < 3 ? 7 : 2;
    EXPECT_EQ(executor.token_bytes(1, 2, 0, t)[3], static_cast<std::byte>(64 + block * 4 + t));
  }
}

TEST(host_executor, borrowed_planes_may_lie_anywhere) {
  memory_layout l = small_layout();
  for (plane_layout& p : l.planes) p.offset = 3;
  std::vector<std::vector<std::byte>> tensors(4, std::vector<std::byte>(3 + 8 * 16));
  std::vector<void*> bases;
  for (auto& t : tensors) bases.push_back(t.data());
  host_executor executor = host_executor::borrow(l, bases).value();
  for (std::size_t p = 0; p < 4; ++p) tensors[p][3 + 5 * 16] = static_cast<std::byte>(p + 1);
  step_plan plan;
  plan.copies = {{5, 0, 1}};
  ASSERT_TRUE(executor.run(plan).ok());
  for (std::size_t p = 0; p < 4; ++p) EXPECT_EQ(tensors[p][3], static_cast<std::byte>(p + 1));

  EXPECT_FALSE(host_executor::borrow(l, {bases.data(), 3}).ok());
  EXPECT_FALSE(host_executor::borrow(l, {}).ok());
  bases[2] = bases[1];  // two planes in one place
  const auto same = host_executor::borrow(l, bases);
  ASSERT_FALSE(same.ok());
  EXPECT_NE(same.error().message.find("planes 1 and 2"), std::string::npos);
  bases[2] = nullptr;
  EXPECT_FALSE(host_executor::borrow(l, bases).ok());
}

TEST(host_executor, refuses_layouts_and_sizes_that_cannot_be) {
  memory_layout l = small_layout();
  l.planes[1].offset = l.planes[0].offset + 4;
  EXPECT_EQ(host_executor::create(l).error().code, errc::invalid_argument);
  l = small_layout();
  l.planes[3].offset = std::uint64_t{1} << 60;
  EXPECT_EQ(host_executor::create(l).error().code, errc::out_of_memory);
  l = small_layout();
  l.logits_rows = 0x7fffffff;
  l.vocabulary = 0x7fffffff;
  EXPECT_EQ(host_executor::create(l).error().code, errc::out_of_memory);
  l.blocks = 0;
  EXPECT_EQ(host_executor::create(l).error().code, errc::invalid_argument);
}

TEST(host_executor, batch_rows_are_checked) {
  host_executor executor = host_executor::create(small_layout()).value();
  float rows[10] = {};
  step_plan plan;
  plan.logits = {{logits_direction::store, 0, 1}};
  EXPECT_TRUE(executor.run(plan, {rows, 20, 2, logits_type::fp32}).ok());
  EXPECT_FALSE(executor.run(plan, {rows, 19, 2, logits_type::fp32}).ok());
  EXPECT_FALSE(executor.run(plan, {rows, -20, 2, logits_type::fp32}).ok());
  EXPECT_FALSE(executor.run(plan, {rows, std::int64_t{1} << 62, 2, logits_type::fp32}).ok());
  EXPECT_FALSE(executor.run(plan, {rows, 20, 1, logits_type::fp32}).ok());
  EXPECT_FALSE(executor.run(plan, {rows, 20, 2, static_cast<logits_type>(9)}).ok());
  EXPECT_FALSE(executor.run(plan, {nullptr, 20, 2, logits_type::fp32}).ok());
  plan.logits[0].row = 0;  // of one row the stride is not used
  EXPECT_TRUE(executor.run(plan, {rows, 0, 1, logits_type::fp32}).ok());
}

TEST(host_executor, a_failure_stops_the_plan_and_names_the_operation) {
  for (std::int64_t nth = 0; nth < 5; ++nth) {
    host_executor executor = host_executor::create(small_layout()).value();
    for (block_id b = 0; b < 8; ++b)
      executor.token_bytes(0, b, 0, 0)[0] = static_cast<std::byte>(b);
    float row[5] = {1, 2, 3, 4, 5};
    const logits_rows_view view{row, 20, 1, logits_type::fp32};
    step_plan plan;
    plan.copies = {{1, 4, 1}, {2, 5, 1}, {3, 6, 1}};
    plan.logits = {{logits_direction::store, 0, 0}, {logits_direction::store, 3, 0}};
    executor.fail_operation(nth);
    const status ran = executor.run(plan, view);
    ASSERT_FALSE(ran.ok());
    EXPECT_EQ(ran.error().code, errc::device);
    const char* const names[] = {"copy 0 of 3", "copy 1 of 3", "copy 2 of 3", "logits move 0 of 2",
                                 "logits move 1 of 2"};
    EXPECT_NE(ran.error().message.find(names[nth]), std::string::npos) << ran.error().message;
    EXPECT_EQ(executor.operations_run(), nth);
    for (int b = 4; b < 7; ++b) {
      EXPECT_EQ(executor.token_bytes(0, b, 0, 0)[0],
                static_cast<std::byte>(b - 4 < nth ? b - 3 : b));
    }
    float stored;
    std::memcpy(&stored, executor.logits_row(0).data(), 4);
    EXPECT_EQ(stored, nth > 3 ? 1.0f : 0.0f);
    ASSERT_TRUE(executor.run(plan, view).ok());  // it fails once
    EXPECT_EQ(executor.operations_run(), 5);
  }
}

}  // namespace
}  // namespace radixkv::conformance
