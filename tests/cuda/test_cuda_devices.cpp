// Streams and memory of another device: refused before anything is enqueued, and the objects go on.
#include <cstdlib>

#include "radixkv/cuda_page_tables.h"
#include "radixkv/cuda_topk_cache.h"
#include "tests/cuda/index_pair.h"

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

}  // namespace
}  // namespace radixkv::testing
