// Bad input to the CUDA executor: refused before anything is enqueued, naming value and limit.
#include "radixkv/cuda_executor.h"
#include "tests/cuda/executor_test.h"
#include "tests/cuda/plan_graph.h"

namespace radixkv::testing {
namespace {

class cuda_executor_input : public ::testing::Test {
 protected:
  const memory_layout layout_ = small_layout();
  cuda_executor executor_ = cuda_executor::create(layout_).value();
  test_stream stream_;
  device_array<float> batch_{std::vector<float>(4 * 40)};
  const logits_rows_view rows_{batch_.data(), 160, 4, logits_type::fp32};

  void TearDown() override {  // nothing was written, no error is left behind
    RADIXKV_ASSERT_OK(executor_.synchronize());
    EXPECT_EQ(download(memory_of(executor_), layout_.bytes()), bytes(layout_.bytes()));
    EXPECT_EQ(batch_.download(), std::vector<float>(4 * 40));
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  }
  status store(const logits_rows_view& rows, std::int32_t row = 0, logits_slot slot = 0) {
    return executor_.run(stream_, {.copies = {{0, 1, 1}}, .logits = {{{}, slot, row}}}, rows);
  }
};

TEST_F(cuda_executor_input, plans_out_of_range) {
  const auto run = [&](const block_copy& c) {
    return executor_.run(stream_, {.copies = {{0, 1, 1}, c}, .logits = {}});
  };
  expect_refused(run({-1, 1, 1}), errc::invalid_argument, "-1");
  expect_refused(run({24, 1, 1}), errc::invalid_argument, "24");
  expect_refused(run({1, 24, 1}), errc::invalid_argument, "24");
  expect_refused(run({1, 1, 1}), errc::invalid_argument, "its source");
  expect_refused(run({1, 2, 0}), errc::invalid_argument, "tokens 0");
  expect_refused(run({1, 2, 5}), errc::invalid_argument, "tokens 5");
  expect_refused(store(rows_, 0, 6), errc::invalid_argument, "slot 6");
  expect_refused(store(rows_, -1), errc::invalid_argument, "row -1");
}

TEST_F(cuda_executor_input, an_empty_plan_does_nothing) {
  RADIXKV_EXPECT_CUDA(executor_.run(stream_, {}).ok() ? cudaSuccess : cudaErrorUnknown);
}

TEST_F(cuda_executor_input, rows_that_do_not_fit) {
  const auto with = [&](auto change) {
    logits_rows_view rows = rows_;
    change(rows);
    return store(rows);
  };
  expect_refused(store({}), errc::invalid_argument, "null buffer");
  expect_refused(store(rows_, 4), errc::invalid_argument, "row 4 is not in [0, 3]");
  expect_refused(with([](auto& r) { r.rows = 0; }), errc::invalid_argument, "0 rows");
  expect_refused(with([](auto& r) { r.rows = -3; }), errc::invalid_argument, "-3 rows");
  expect_refused(with([](auto& r) { r.row_stride_bytes = 144; }), errc::invalid_argument,
                 "at least 148 for a vocabulary of 37");
  expect_refused(with([](auto& r) { r.row_stride_bytes = 150; }), errc::invalid_argument,
                 "multiple of 4");
  expect_refused(with([](auto& r) { r.row_stride_bytes = -160; }), errc::invalid_argument, "-160");
  expect_refused(with([](auto& r) { r.type = static_cast<logits_type>(7); }),
                 errc::invalid_argument, "type 7");
  expect_refused(with([](auto& r) { r.data = static_cast<std::byte*>(r.data) + 2; }),
                 errc::invalid_argument, "element");
  expect_refused(with([](auto& r) {
                   r.rows = 8;
                   r.row_stride_bytes = std::int64_t{1} << 62;
                 }),
                 errc::invalid_argument, "wrap");
}

TEST_F(cuda_executor_input, rows_in_the_wrong_memory) {
  logits_rows_view rows = rows_;
  rows.data = executor_.logits_row(1);
  expect_refused(store(rows), errc::invalid_argument, "overlap the logits store");
  rows.data = executor_.plane(1);
  expect_refused(store(rows), errc::invalid_argument, "overlap the KV pool");
  rows = rows_;
  rows.rows = 1 << 20;  // ends behind the allocation
  expect_refused(store(rows), errc::invalid_argument, "last byte");
  std::vector<float> host(4 * 40);
  rows = rows_;
  rows.data = host.data();
  int pageable = 0;
  RADIXKV_ASSERT_CUDA(cudaDeviceGetAttribute(&pageable, cudaDevAttrPageableMemoryAccess, 0));
  if (pageable == 0) expect_refused(store(rows), errc::invalid_argument, "not memory of device");
}

// Whether in the engine's memory or the executor's: a load would overwrite what is cached.
TEST_F(cuda_executor_input, rows_among_borrowed_planes) {
  const memory_layout half = [&] {  // the planes lie apart
    memory_layout l = layout_;
    for (std::size_t i = 0; i < l.planes.size(); ++i) l.planes[i].offset += i * 4096;
    return l;
  }();
  device_array<std::byte> memory(half.bytes() + 4096);
  memory.fill(7);
  void* base = memory.data();
  cuda_executor e = cuda_executor::borrow(half, {&base, 1}).value();
  const step_plan load{.copies = {{0, 1, 4}}, .logits = {{logits_direction::load, 0, 0}}};
  const std::int64_t row = 37 * 4;
  const auto run_at = [&](std::byte* data) {
    return e.run(stream_, load, {data, row, 1, logits_type::fp32});
  };
  for (std::size_t i = 0; i < half.planes.size(); ++i) {
    SCOPED_TRACE(i);
    const plane_layout& p = half.planes[i];
    std::byte* const first = e.plane(i);
    std::byte* const end = first + 23 * p.block_stride + 2 * p.inner_stride + 4 * 24;
    for (std::byte* data : {first - row + 4, first, first + 4, end - row, end - 4}) {
      expect_refused(run_at(data), errc::invalid_argument, "overlap the KV pool");
    }
    if (i > 0) RADIXKV_EXPECT_CUDA(run_at(first - row).ok() ? cudaSuccess : cudaErrorUnknown);
    RADIXKV_EXPECT_CUDA(run_at(end).ok() ? cudaSuccess : cudaErrorUnknown);
  }
  RADIXKV_ASSERT_OK(e.synchronize());
  for (std::size_t i = 0; i < half.planes.size(); ++i) {
    EXPECT_EQ(download(e.plane(i), 4096), bytes(4096, std::byte{7})) << i;
  }
}

// A plane that ends before the one that began before it.
TEST_F(cuda_executor_input, rows_behind_a_plane_inside_another) {
  memory_layout l = layout_;
  l.blocks = 2;
  l.planes = {{.offset = 0,
               .block_stride = 4096,
               .inner_stride = 1024,
               .inner_count = 4,
               .bytes_per_token = 24},
              {.offset = 96,
               .block_stride = 4096,
               .inner_stride = 1024,
               .inner_count = 2,
               .bytes_per_token = 24}};
  device_array<std::byte> memory(3 * 4096);
  memory.fill(7);
  void* base = memory.data();
  cuda_executor e = cuda_executor::borrow(l, {&base, 1}).value();
  const step_plan load{.copies = {}, .logits = {{logits_direction::load, 0, 0}}};
  const auto run_at = [&](std::size_t offset) {
    return e.run(stream_, load, {memory.data() + offset, 37 * 4, 1, logits_type::fp32});
  };
  const std::size_t end = 4096 + 3 * 1024 + 96;
  expect_refused(run_at(end - 4), errc::invalid_argument, "overlap the KV pool");
  RADIXKV_ASSERT_OK(run_at(end));
  RADIXKV_ASSERT_OK(e.synchronize());
}

TEST_F(cuda_executor_input, rows_that_end_a_byte_behind_where_a_plane_begins) {
  memory_layout l = layout_;
  l.blocks = 2;
  l.planes = {{.offset = 0, .block_stride = 12, .bytes_per_token = 3}};
  const std::size_t row = 37 * 4;
  device_array<std::byte> memory(row + 24);
  memory.fill(7);
  const step_plan load{.copies = {}, .logits = {{logits_direction::load, 0, 0}}};
  const logits_rows_view rows{memory.data(), 37 * 4, 1, logits_type::fp32};
  void* base = memory.data() + row - 1;
  cuda_executor into = cuda_executor::borrow(l, {&base, 1}).value();
  expect_refused(into.run(stream_, load, rows), errc::invalid_argument, "overlap the KV pool");
  base = memory.data() + row;
  cuda_executor behind = cuda_executor::borrow(l, {&base, 1}).value();
  RADIXKV_ASSERT_OK(behind.run(stream_, load, rows));
  RADIXKV_ASSERT_OK(behind.synchronize());
}

TEST_F(cuda_executor_input, another_devices_stream) {
  int devices = 0;
  RADIXKV_ASSERT_CUDA(cudaGetDeviceCount(&devices));
  if (devices < 2) GTEST_SKIP() << "one device";
  graph_plan plan = executor_.make_graph_plan().value();
  graph_plan other = executor_.make_graph_plan().value();
  const plan_graph graph(plan);
  RADIXKV_ASSERT_CUDA(cudaSetDevice(1));
  {
    const test_stream foreign;
    const step_plan step{.copies = {{0, 1, 1}}, .logits = {}};
    const std::string text = "a stream of device 1, not 0";
    expect_refused(executor_.run(foreign, step), errc::invalid_argument, text);
    expect_refused(executor_.launch(foreign, graph), errc::invalid_argument, text);
    expect_refused(plan.launch(foreign, graph, step), errc::invalid_argument, text);
    RADIXKV_ASSERT_CUDA(cudaStreamBeginCapture(foreign, cudaStreamCaptureModeThreadLocal));
    expect_refused(other.capture(foreign), errc::device, "capturing the fetch of a plan");
    cudaGraph_t captured = nullptr;
    (void)cudaStreamEndCapture(foreign, &captured);  // the capture may have been invalidated
    if (captured != nullptr) RADIXKV_ASSERT_CUDA(cudaGraphDestroy(captured));
    (void)cudaGetLastError();
    // Nothing was enqueued, so nothing is lost; and a default stream is the executor's device's.
    EXPECT_EQ(plan.numbered(), 0u);
    RADIXKV_ASSERT_OK(executor_.run(stream_, step));
    RADIXKV_ASSERT_OK(executor_.run(cudaStreamPerThread, step));
    RADIXKV_ASSERT_OK(plan.launch(stream_, graph, step));
  }
  RADIXKV_ASSERT_CUDA(cudaSetDevice(0));
  const plan_graph captures_still(other);
}

TEST_F(cuda_executor_input, an_executor_without_logits) {
  memory_layout l = small_layout();
  l.logits_rows = 0;
  cuda_executor e = cuda_executor::create(l).value();
  expect_refused(e.run(stream_, {.copies = {}, .logits = {{{}, 0, 0}}}, rows_),
                 errc::invalid_argument, "slot 0");
}

TEST_F(cuda_executor_input, a_capturing_stream) {
  RADIXKV_ASSERT_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
  expect_refused(executor_.run(stream_, {.copies = {{0, 1, 1}}, .logits = {}}),
                 errc::invalid_argument, "being captured");
  cudaGraph_t graph = nullptr;
  RADIXKV_ASSERT_CUDA(cudaStreamEndCapture(stream_, &graph));
  std::size_t nodes = 1;
  RADIXKV_ASSERT_CUDA(cudaGraphGetNodes(graph, nullptr, &nodes));
  EXPECT_EQ(nodes, 0u);
  RADIXKV_ASSERT_CUDA(cudaGraphDestroy(graph));
}

TEST_F(cuda_executor_input, options) {
  const auto create = [&](const cuda_executor_options& o) {
    return cuda_executor::create(layout_, o);
  };
  expect_refused(create({.staging_slots = 0}), errc::invalid_argument, "staging_slots 0");
  expect_refused(create({.staging_slots = 4097}), errc::invalid_argument, "[1, 4096]");
  expect_refused(create({.slot_operations = 0}), errc::invalid_argument, "slot_operations 0");
  expect_refused(create({.slot_operations = 1u << 30}), errc::invalid_argument, "[1, 1048576]");
  expect_refused(executor_.make_graph_plan({.copies = 0}), errc::invalid_argument, "copies 0");
  expect_refused(executor_.make_graph_plan({.depth = 0}), errc::invalid_argument, "depth 0");
  expect_refused(executor_.make_graph_plan({.copy_waves = 65}), errc::invalid_argument, "[1, 64]");
  expect_refused(executor_.launch(stream_, nullptr), errc::invalid_argument, "null graph");
}

// What the runtime refuses is the caller's error and nobody's last one (TearDown looks).
TEST_F(cuda_executor_input, a_pool_that_no_device_has_memory_for) {
  expect_refused(cuda_executor::create(small_layout(max_blocks)), errc::out_of_memory,
                 "device memory for the KV pool");
}

TEST_F(cuda_executor_input, layouts) {
  const auto create = [&](auto change) {
    memory_layout l = small_layout();
    change(l);
    return cuda_executor::create(l);
  };
  expect_refused(create([](auto& l) { l.blocks = 0; }), errc::invalid_argument, "blocks 0");
  expect_refused(create([](auto& l) { l.planes.clear(); }), errc::invalid_argument, "planes");
  expect_refused(create([](auto& l) { l.planes[1].offset = l.planes[0].offset; }),
                 errc::invalid_argument, "plane");
  expect_refused(create([](auto& l) {
                   l.planes = {{.offset = 0,
                                .block_stride = 1 << 30,
                                .inner_stride = 0,
                                .inner_count = 1,
                                .bytes_per_token = 1 << 28}};
                 }),
                 errc::invalid_argument, "1073741824");
  expect_refused(create([](auto& l) {
                   l.logits_rows = 1;
                   l.vocabulary = 0x7fffffff;
                 }),
                 errc::invalid_argument, "vocabulary 2147483647 is not in [1, 134217728]");
  expect_refused(create([](auto& l) {
                   l.logits_rows = 0x7fffffff;
                   l.vocabulary = 1 << 27;
                 }),
                 errc::out_of_memory, "the logits store of");
  // More than the device has: the error names the bytes, and nothing is kept.
  expect_refused(create([](auto& l) {
                   l.planes[0].block_stride = std::int64_t{1} << 50;
                   l.planes.resize(1);
                 }),
                 errc::out_of_memory, "the KV pool of");
}

TEST_F(cuda_executor_input, borrowed_memory) {
  device_array<std::byte> memory(layout_.bytes());
  void* base = memory.data();
  const auto borrow = [&](std::span<void* const> bases) {
    return cuda_executor::borrow(layout_, bases);
  };
  EXPECT_TRUE(borrow({&base, 1}).ok());
  expect_refused(borrow({}), errc::invalid_argument, "0 base addresses for a layout of 4 planes");
  std::vector<void*> bases(4, base);
  bases[2] = nullptr;
  expect_refused(borrow(bases), errc::invalid_argument, "plane 2: null");
  bases.assign(3, base);
  expect_refused(borrow(bases), errc::invalid_argument, "3 base addresses");
  void* high = reinterpret_cast<void*>(~std::uintptr_t{0} - 100);
  expect_refused(borrow({&high, 1}), errc::invalid_argument, "wraps around");
  void* beyond = memory.data() + (std::ptrdiff_t{1} << 42);
  expect_refused(borrow({&beyond, 1}), errc::invalid_argument, "plane 0: its first byte is not");
  memory_layout reaching = layout_;
  reaching.planes.back().block_stride = std::int64_t{1} << 36;
  expect_refused(cuda_executor::borrow(reaching, {&base, 1}), errc::invalid_argument,
                 "plane 3: its last byte is not memory of device");
  // Planes that share bytes.
  bases.assign(4, base);
  bases[1] = memory.data() - layout_.planes[1].offset;
  expect_refused(borrow(bases), errc::invalid_argument, "plane");
  bytes host(layout_.bytes());
  void* pageable = host.data();
  int access = 0;
  RADIXKV_ASSERT_CUDA(cudaDeviceGetAttribute(&access, cudaDevAttrPageableMemoryAccess, 0));
  if (access == 0) expect_refused(borrow({&pageable, 1}), errc::invalid_argument, "not memory of");
  // Pinned host memory is a legal tier.
  void* pinned = nullptr;
  RADIXKV_ASSERT_CUDA(cudaHostAlloc(&pinned, layout_.bytes(), cudaHostAllocMapped));
  EXPECT_TRUE(borrow({&pinned, 1}).ok());
  RADIXKV_ASSERT_CUDA(cudaFreeHost(pinned));
}

}  // namespace
}  // namespace radixkv::testing
