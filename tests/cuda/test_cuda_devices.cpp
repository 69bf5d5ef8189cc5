// Streams and memory of another device: refused before anything is enqueued, and the objects go on.
// Whichever device is current, it stays so.
#include <cstdlib>
#include <optional>

#include "kernels/plan_fetch.h"
#include "radixkv/cuda_page_tables.h"
#include "radixkv/cuda_topk_cache.h"
#include "tests/cuda/index_pair.h"
#include "tests/cuda/plan_graph.h"

namespace radixkv::testing {
namespace {

// A stream and memory of device 1; device 0 is current.
class other_device {
 public:
  other_device() {
    require_cuda(cudaSetDevice(1));
    require_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    require_cuda(cudaMalloc(reinterpret_cast<void**>(&memory_), 4096));
    require_cuda(cudaMemset(memory_, 0, 4096));
    require_cuda(cudaDeviceSynchronize());
    require_cuda(cudaSetDevice(0));
  }
  ~other_device() {
    (void)cudaStreamDestroy(stream_);
    (void)cudaFree(memory_);
  }
  other_device(const other_device&) = delete;
  other_device& operator=(const other_device&) = delete;

  [[nodiscard]] cudaStream_t stream() const { return stream_; }
  [[nodiscard]] void* memory() const { return memory_; }

 private:
  cudaStream_t stream_ = nullptr;
  std::byte* memory_ = nullptr;
};

class cuda_devices : public ::testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    require_cuda(cudaGetDeviceCount(&devices));
    const bool simulated = std::getenv("CUDASIM_ASYNC") != nullptr;  // with two
    if (devices < 2 && !simulated) GTEST_SKIP() << "one device";
    ASSERT_GE(devices, 2);
  }
  void TearDown() override { require_cuda(cudaSetDevice(0)); }  // also after a failure
};

constexpr const char* foreign = "a stream of device 1, not 0";

TEST_F(cuda_devices, the_index_refuses_another_ones_stream) {
  const other_device other;
  cuda_index_options options = small_options();
  options.find_shared = true;
  index_pair pair(options.blocks, options, 5);
  test_stream stream;
  match_memory memory;
  for (int i = 0; i < 20; ++i) pair.add();
  expect_refused(pair.index.update(other.stream()), errc::invalid_argument, foreign);
  pair.update(stream);
  pending_match match(pair, 4, stream, memory);
  expect_refused(pair.index.match(other.stream(), match.batch()), errc::invalid_argument, foreign);
  expect_refused(pair.index.find_shared(other.stream(), match.batch(),
                                        {memory.representatives.data(), memory.shared.data()}),
                 errc::invalid_argument, foreign);
  expect_refused(pair.index.finish(other.stream(), match.ticket()), errc::invalid_argument,
                 foreign);
  // Whichever device is current.
  require_cuda(cudaSetDevice(1));
  match.finish(pair);
  RADIXKV_ASSERT_OK(pair.index.synchronize());
  require_cuda(cudaSetDevice(0));
  std::int64_t hits = 0;
  match.check(hits);
  EXPECT_EQ(pair.index.retired().value(), 1u);
}

TEST_F(cuda_devices, the_topk_store_refuses_another_ones_stream_and_rows) {
  const other_device other;
  cuda_topk_cache cache = cuda_topk_cache::create({.slots = 2, .k = 1, .vocabulary = 4}).value();
  test_stream stream;
  const device_array<float> rows(std::vector<float>{1, 2, 3, 4});
  step_plan plan;
  plan.logits.push_back({logits_direction::store, 1, 0});
  const logits_rows_view good{rows.data(), 16, 1, logits_type::fp32};
  logits_rows_view bad = good;
  bad.data = other.memory();
  expect_refused(cache.store(other.stream(), plan, good), errc::invalid_argument, foreign);
  expect_refused(cache.store(stream, plan, bad), errc::invalid_argument,
                 "memory of device 1, not 0");
  RADIXKV_ASSERT_OK(cache.store(stream, plan, good));
  RADIXKV_ASSERT_OK(cache.synchronize());
}

TEST_F(cuda_devices, page_tables_refuse_another_ones_stream) {
  const other_device other;
  cuda_page_tables tables = cuda_page_tables::create({.rows = 2, .row_blocks = 2}).value();
  test_stream stream;
  device_array<std::int32_t> out(2);
  RADIXKV_ASSERT_OK(tables.set(1, std::vector<block_id>{5}, 3));
  expect_refused(tables.update(other.stream()), errc::invalid_argument, foreign);
  RADIXKV_ASSERT_OK(tables.update(stream));
  const std::vector<std::int32_t> row{1};
  expect_refused(tables.dense(other.stream(), row, out.data(), 2, 2, -1), errc::invalid_argument,
                 foreign);
  RADIXKV_ASSERT_OK(tables.dense(stream, row, out.data(), 2, 2, -1));
  RADIXKV_ASSERT_OK(tables.synchronize());
  EXPECT_EQ(out.download(), (std::vector<std::int32_t>{5, -1}));
}

// A launch that the runtime refuses is this call's error, and nobody's last one.
TEST_F(cuda_devices, a_refused_launch_leaves_no_error_behind) {
  const other_device other;
  device_array<std::uint64_t> memory(64);
  memory.fill(0);
  kernels::plan_fetch_arguments a;
  a.ring = a.plan = reinterpret_cast<std::byte*>(memory.data());
  a.depth = 1;
  a.replays = a.replays_pinned = memory.data() + 32;
  EXPECT_NE(kernels::plan_fetch(other.stream(), a), cudaSuccess);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

// Objects of device 0, used and destroyed while device 1 is current, by a thread whose next launch
// would go to device 0 if one of their calls left it there. Nor do they leave the thread in another
// mode of capture.
TEST_F(cuda_devices, every_call_leaves_the_callers_device_current) {
  const auto stays = [](const char* call) {
    int now = -1;
    require_cuda(cudaGetDevice(&now));
    EXPECT_EQ(now, 1) << call;
    cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
    require_cuda(cudaThreadExchangeStreamCaptureMode(&mode));
    EXPECT_EQ(mode, cudaStreamCaptureModeGlobal) << call;
    require_cuda(cudaSetDevice(1));
  };
  test_stream stream;
  const device_array<float> rows(std::vector<float>{1, 2, 3, 4});
  device_array<std::int32_t> out(8), indptr(8), last(8);
  match_memory memory;
  memory.offsets.fill(0);
  memory.spaces.fill(0);
  std::mt19937 random(3);
  const step_plan copies = random_copies(small_layout(), 3, random);
  step_plan store;
  store.logits.push_back({logits_direction::store, 1, 0});
  std::optional<cuda_executor> executor = cuda_executor::create(small_layout()).value();
  std::optional<graph_plan> plan = executor->make_graph_plan({}).value();
  std::optional<plan_graph> graph(std::in_place, *plan);
  cuda_index_options options = small_options();
  options.find_shared = true;
  std::optional<index_pair> pair(std::in_place, options.blocks, options, 5);
  std::optional<cuda_topk_cache> topk =
      cuda_topk_cache::create({.slots = 2, .k = 1, .vocabulary = 4}).value();
  std::optional<cuda_page_tables> tables =
      cuda_page_tables::create({.rows = 2, .row_blocks = 2}).value();
  cuda_match_batch batch{.tokens = memory.prompts.data(),
                         .offsets = memory.offsets.data(),
                         .namespace_ids = memory.spaces.data(),
                         .prompts = 4,
                         .token_count = 64,
                         .matched_blocks = memory.matched.data(),
                         .block_table = memory.table.data()};
  require_cuda(cudaSetDevice(1));

  RADIXKV_ASSERT_OK(executor->run(stream, copies));
  stays("cuda_executor::run");
  RADIXKV_ASSERT_OK(plan->launch(stream, *graph, copies));
  stays("graph_plan::launch");
  RADIXKV_ASSERT_OK(plan->prepare(copies));
  stays("graph_plan::prepare");
  RADIXKV_ASSERT_OK(executor->launch(stream, *graph));
  stays("cuda_executor::launch");
  RADIXKV_ASSERT_OK(executor->synchronize());
  stays("cuda_executor::synchronize");
  {
    const result<graph_plan> another = executor->make_graph_plan({});
    ASSERT_TRUE(another.ok()) << another.error().message;
    stays("cuda_executor::make_graph_plan");
  }
  stays("graph_plan::~graph_plan");

  pair->add();
  RADIXKV_ASSERT_OK(pair->index.update(stream));
  stays("cuda_index::update");
  const result<std::uint64_t> ticket = pair->index.match(stream, batch);
  ASSERT_TRUE(ticket.ok()) << ticket.error().message;
  stays("cuda_index::match");
  RADIXKV_ASSERT_OK(pair->index.find_shared(stream, batch,
                                            {memory.representatives.data(), memory.shared.data()}));
  stays("cuda_index::find_shared");
  RADIXKV_ASSERT_OK(pair->index.finish(stream, *ticket));
  stays("cuda_index::finish");
  ASSERT_TRUE(pair->index.retired().ok());
  stays("cuda_index::retired");
  RADIXKV_ASSERT_OK(pair->index.synchronize());
  stays("cuda_index::synchronize");

  RADIXKV_ASSERT_OK(topk->store(stream, store, {rows.data(), 16, 1, logits_type::fp32}));
  stays("cuda_topk_cache::store");
  RADIXKV_ASSERT_OK(topk->synchronize());
  stays("cuda_topk_cache::synchronize");

  const std::vector<std::int32_t> row{1};
  RADIXKV_ASSERT_OK(tables->set(1, std::vector<block_id>{5}, 3));
  RADIXKV_ASSERT_OK(tables->update(stream));
  stays("cuda_page_tables::update");
  RADIXKV_ASSERT_OK(tables->dense(stream, row, out.data(), 2, 2, -1));
  stays("cuda_page_tables::dense");
  RADIXKV_ASSERT_OK(tables->csr(stream, row, indptr.data(), out.data(), 8, last.data()));
  stays("cuda_page_tables::csr");
  RADIXKV_ASSERT_OK(tables->synchronize());
  stays("cuda_page_tables::synchronize");

  // A refused call, too.
  RADIXKV_ASSERT_OK(executor->run(stream, copies));
  expect_refused(executor->run(stream, store, {}), errc::invalid_argument, "null buffer");
  stays("a refused call");
  graph.reset();
  plan.reset();
  stays("graph_plan::~graph_plan of a captured one");
  executor.reset();
  stays("cuda_executor::~cuda_executor");
  pair.reset();
  stays("cuda_index::~cuda_index");
  topk.reset();
  stays("cuda_topk_cache::~cuda_topk_cache");
  tables.reset();
  stays("cuda_page_tables::~cuda_page_tables");
  require_cuda(cudaSetDevice(0));
}

}  // namespace
}  // namespace radixkv::testing
