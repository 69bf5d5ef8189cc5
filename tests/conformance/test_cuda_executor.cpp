// The conformance suite on the CUDA executor: the same plans, the same bytes as on the host.
#include <memory>
#include <optional>

#include <cuda_runtime_api.h>

#include "radixkv/cuda_executor.h"
#include "tests/conformance/executor_suite.h"
#include "tests/cuda/cuda_test.h"

namespace radixkv::conformance {
namespace {

using testing::device_array;
using testing::require_cuda;

// Lends device memory of its own, cleared where the layout's runs lie: the rest, of a layout that
// reaches beyond 4 GiB, is never touched.
class cuda_under_test {
 public:
  static constexpr int plans = 3;
  static constexpr std::int64_t large_stride = (std::int64_t{1} << 30) + 48;

  explicit cuda_under_test(const memory_layout& layout) : layout_(layout), memory_(layout.bytes()) {
    for (const plane_layout& p : layout.planes) {
      for (std::int64_t b = 0; b < layout.blocks; ++b) {
        for (std::int64_t i = 0; i < p.inner_count; ++i) {
          require_cuda(
              cudaMemsetAsync(memory_.data() + p.offset + b * p.block_stride + i * p.inner_stride,
                              0, std::size_t{layout.block_tokens} * p.bytes_per_token, stream_));
        }
      }
    }
    stream_.synchronize();
    void* base = memory_.data();
    auto made = cuda_executor::borrow(layout, {&base, 1});
    if (!made) throw std::runtime_error(made.error().message);
    executor_.emplace(std::move(made).value());
  }

  void write_memory(std::uint64_t offset, std::span<const std::byte> from) {
    memory_.upload(from, offset);
  }
  void read_memory(std::uint64_t offset, std::span<std::byte> to) {
    require_cuda(cudaMemcpy(to.data(), memory_.data() + offset, to.size(), cudaMemcpyDeviceToHost));
  }
  void open_batch(logits_type type, std::int32_t rows, std::int64_t stride) {
    batch_ = std::make_unique<device_array<std::byte>>(static_cast<std::size_t>(rows * stride));
    view_ = {.data = batch_->data(), .row_stride_bytes = stride, .rows = rows, .type = type};
  }
  void write_batch(std::span<const std::byte> from) { batch_->upload(from); }
  void read_batch(std::span<std::byte> to) {
    require_cuda(cudaMemcpy(to.data(), batch_->data(), to.size(), cudaMemcpyDeviceToHost));
  }
  status run(const step_plan& plan) { return finish(executor_->run(stream_, plan, view_)); }
  status run_without_batch(const step_plan& plan) { return finish(executor_->run(stream_, plan)); }

 private:
  status finish(status ran) {
    if (!ran) return ran;
    return executor_->synchronize();
  }

  testing::test_stream stream_;
  memory_layout layout_;
  device_array<std::byte> memory_;
  std::unique_ptr<device_array<std::byte>> batch_;
  std::optional<cuda_executor> executor_;
  logits_rows_view view_;
};

INSTANTIATE_TYPED_TEST_SUITE_P(cuda, executor_suite, cuda_under_test);

}  // namespace
}  // namespace radixkv::conformance
