// Logits moves of the CUDA executor against the host executor: types, order, slots, graphs.
#include "radixkv/cuda_executor.h"
#include "tests/cuda/executor_test.h"
#include "tests/cuda/plan_graph.h"

namespace radixkv::testing {
namespace {

constexpr std::int32_t rows = 9;

// A batch of logits on the device and its twin on the host.
class batch_pair {
 public:
  batch_pair(const memory_layout& l, logits_type type, std::mt19937& random)
      : stride_((l.vocabulary + 5) * static_cast<std::int64_t>(bytes_of(type))),
        type_(type),
        host_(static_cast<std::size_t>(rows * stride_)),
        device_(host_.size()) {
    // Small whole numbers: exact in every type.
    for (std::size_t i = 0; i < host_.size(); i += bytes_of(type)) {
      const float value = static_cast<float>(random() % 200) - 100;
      std::uint32_t bits;
      std::memcpy(&bits, &value, 4);
      if (type == logits_type::bf16) bits >>= 16;
      if (type == logits_type::fp16) {
        const auto magnitude = static_cast<std::uint32_t>(std::abs(value));
        bits = 0;
        for (std::uint32_t e = 0; magnitude >> e != 0; ++e) {
          bits = (e + 15) << 10 | ((magnitude << (10 - e)) & 0x3ff);
        }
        if (value < 0) bits |= 0x8000;
      }
      std::memcpy(host_.data() + i, &bits, bytes_of(type));
    }
    device_.upload(host_);
  }
  logits_rows_view host() { return {host_.data(), stride_, rows, type_}; }
  logits_rows_view device() { return {device_.data(), stride_, rows, type_}; }
  void expect_equal() const { ASSERT_EQ(device_.download(), host_); }

 private:
  std::int64_t stride_;
  logits_type type_;
  bytes host_;
  device_array<std::byte> device_;
};

void expect_equal_stores(const executor_pair& pair) {
  const memory_layout& l = pair.host.layout();
  for (logits_slot s = 0; s < l.logits_rows; ++s) {
    const std::span<const std::byte> host = pair.host.logits_row(s);
    ASSERT_EQ(download(pair.device.logits_row(s), l.logits_row_bytes()),
              bytes(host.begin(), host.end()))
        << "slot " << s;
  }
}

TEST(cuda_executor_logits, random_moves_equal_the_host) {
  std::mt19937 random(31);
  for (const logits_type stored : {logits_type::fp32, logits_type::fp16, logits_type::bf16}) {
    for (const logits_type batch : {logits_type::fp32, logits_type::fp16, logits_type::bf16}) {
      memory_layout l = small_layout();
      l.logits = stored;
      executor_pair pair = executor_pair::make(l, random);
      batch_pair batches(l, batch, random);
      test_stream streams[2];
      for (int i = 0; i < 10; ++i) {
        step_plan plan = random_copies(l, random() % 4, random);
        add_random_moves(plan, l, rows, random() % 24, random);
        RADIXKV_ASSERT_OK(pair.host.run(plan, batches.host()));
        RADIXKV_ASSERT_OK(pair.device.run(streams[i % 2], plan, batches.device()));
      }
      pair.expect_equal_pools();
      expect_equal_stores(pair);
      batches.expect_equal();
    }
  }
}

TEST(cuda_executor_logits, rows_that_lie_far_apart_take_several_slots) {
  std::mt19937 random(32);
  const memory_layout l = small_layout();
  executor_pair pair = executor_pair::make(l, random, {.staging_slots = 16, .slot_operations = 2});
  batch_pair batches(l, logits_type::fp32, random);
  test_stream stream;
  step_plan plan;
  using enum logits_direction;
  plan.logits = {{store, 0, 8}, {store, 1, 0}, {store, 2, 4}, {load, 1, 7}, {store, 0, 7}};
  RADIXKV_ASSERT_OK(pair.host.run(plan, batches.host()));
  RADIXKV_ASSERT_OK(pair.device.run(stream, plan, batches.device()));
  pair.expect_equal_pools();
  expect_equal_stores(pair);
  batches.expect_equal();
}

// Batches that fit a slot one by one, but not together, wherever in the ring the plan begins: at
// its end what a slot does not hold would lie behind the staging memory.
TEST(cuda_executor_logits, a_slot_takes_no_more_batches_than_it_holds) {
  const memory_layout l = small_layout();
  test_stream stream;
  step_plan plan;
  for (std::int32_t i = 0; i < 16; ++i)
    plan.copies.push_back({i % 4, 4 + i, 4});  // a slot's copies
  using enum logits_direction;
  for (const logits_direction d : {store, load, store}) {  // 9 rows each, of the slot's 16
    plan.logits.push_back({d, 0, 0});
    plan.logits.push_back({d, 1, 8});
  }
  for (int first = 0; first < 4; ++first) {
    SCOPED_TRACE(first);
    std::mt19937 random(36);
    executor_pair pair =
        executor_pair::make(l, random, {.staging_slots = 4, .slot_operations = 16});
    batch_pair batches(l, logits_type::fp32, random);
    for (int i = 0; i < first; ++i) {
      const step_plan one{.copies = {{i, 23, 4}}, .logits = {}};
      RADIXKV_ASSERT_OK(pair.host.run(one));
      RADIXKV_ASSERT_OK(pair.device.run(stream, one));
    }
    RADIXKV_ASSERT_OK(pair.device.synchronize());
    RADIXKV_ASSERT_OK(pair.host.run(plan, batches.host()));
    RADIXKV_ASSERT_OK(pair.device.run(stream, plan, batches.device()));
    pair.expect_equal_pools();
    expect_equal_stores(pair);
    batches.expect_equal();
  }
}

TEST(cuda_executor_logits, batches_that_exceed_a_slot_by_a_row_need_two) {
  std::mt19937 random(37);
  const memory_layout l = small_layout();
  executor_pair pair = executor_pair::make(l, random, {.staging_slots = 1, .slot_operations = 16});
  batch_pair batches(l, logits_type::fp32, random);
  test_stream stream;
  using enum logits_direction;
  const auto plan_of = [](std::int32_t last) {  // batches of 9 rows and of last + 1
    return step_plan{.copies = {},
                     .logits = {{store, 0, 0}, {store, 1, 8}, {load, 0, 0}, {load, 1, last}}};
  };
  expect_refused(pair.device.run(stream, plan_of(7), batches.device()), errc::invalid_argument,
                 "needs 2 staging slots, the executor has 1");
  RADIXKV_ASSERT_OK(pair.device.run(stream, plan_of(6), batches.device()));
  RADIXKV_ASSERT_OK(pair.host.run(plan_of(6), batches.host()));
  pair.expect_equal_pools();
  expect_equal_stores(pair);
  batches.expect_equal();
}

TEST(cuda_executor_logits, of_one_row_the_stride_is_not_used) {
  std::mt19937 random(33);
  const memory_layout l = small_layout();
  executor_pair pair = executor_pair::make(l, random);
  test_stream stream;
  device_array<float> row(std::vector<float>(37, 2.5f));
  const step_plan plan{.copies = {}, .logits = {{logits_direction::store, 3, 0}}};
  RADIXKV_ASSERT_OK(pair.device.run(stream, plan, {row.data(), 0, 1, logits_type::fp32}));
  RADIXKV_ASSERT_OK(pair.device.synchronize());
  const bytes stored = download(pair.device.logits_row(3), 37 * 4);
  EXPECT_EQ(std::memcmp(stored.data(), row.download().data(), 37 * 4), 0);
}

TEST(cuda_executor_logits, moves_in_a_graph) {
  std::mt19937 random(34);
  const memory_layout l = small_layout();
  executor_pair pair = executor_pair::make(l, random);
  batch_pair batches(l, logits_type::fp16, random);
  test_stream stream;
  graph_plan plan = pair.device.make_graph_plan({.copies = 8, .logits_rows = 16}).value();
  const plan_graph graph(plan, batches.device());
  int run = 0;
  for (int i = 0; i < 40; ++i) {
    step_plan step;
    step.copies = {{static_cast<block_id>(i % 20), 21, 3}};
    add_random_moves(step, l, rows, random() % 5, random);
    const status prepared = plan.prepare(step);
    if (!prepared) {  // too long a chain for this graph
      expect_refused(prepared, errc::invalid_argument, "waves of independent logits moves");
      RADIXKV_ASSERT_OK(pair.device.run(stream, step, batches.device()));
    } else {
      ++run;
    }
    RADIXKV_ASSERT_OK(pair.host.run(step, batches.host()));
    RADIXKV_ASSERT_OK(pair.device.launch(stream, graph));
    RADIXKV_ASSERT_OK(pair.device.synchronize());
  }
  EXPECT_GT(run, 20);
  expect_refused(plan.prepare({.copies = {}, .logits = {{logits_direction::store, 0, 9}}}),
                 errc::invalid_argument, "logits row 9, the limit is 8");
  pair.expect_equal_pools();
  expect_equal_stores(pair);
  batches.expect_equal();
}

TEST(cuda_executor_logits, a_replay_without_a_plan_moves_no_rows) {
  std::mt19937 random(35);
  const memory_layout l = small_layout();
  executor_pair pair = executor_pair::make(l, random);
  batch_pair batches(l, logits_type::fp32, random);
  test_stream stream;
  // One slot: the device's copy of the plan is where the replay before left it.
  graph_plan plan = pair.device.make_graph_plan({.logits_rows = 16, .depth = 1}).value();
  const plan_graph graph(plan, batches.device());
  using enum logits_direction;
  const step_plan moves{.copies = {}, .logits = {{store, 0, 4}, {store, 3, 1}, {load, 5, 2}}};
  RADIXKV_ASSERT_OK(pair.host.run(moves, batches.host()));
  RADIXKV_ASSERT_OK(plan.launch(stream, graph, moves));
  // Other rows and slots, so that the same moves would show.
  const step_plan other{.copies = {}, .logits = {{load, 3, 4}, {store, 5, 0}}};
  RADIXKV_ASSERT_OK(pair.host.run(other, batches.host()));
  RADIXKV_ASSERT_OK(pair.device.run(stream, other, batches.device()));
  plan.skip();
  RADIXKV_ASSERT_OK(pair.device.launch(stream, graph));
  pair.expect_equal_pools();
  expect_equal_stores(pair);
  batches.expect_equal();
}

}  // namespace
}  // namespace radixkv::testing
