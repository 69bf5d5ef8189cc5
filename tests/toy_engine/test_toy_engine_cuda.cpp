// The toy engine over the CUDA executor: the same tokens and logits, bit for bit, as without a
// cache.
#include <cuda_runtime_api.h>

#include "radixkv/cuda_executor.h"
#include "tests/cuda/cuda_test.h"
#include "tests/cuda/fault_injection.h"
#include "tests/toy_engine/conversations.h"

namespace radixkv::toy {
namespace {

using testing::require_cuda;

class cuda_memory {
 public:
  explicit cuda_memory(const memory_layout& layout)
      : executor_(cuda_executor::create(layout).value()) {}

  status run(const step_plan& plan, std::span<logits_row> rows) {
    const std::size_t bytes = rows.size_bytes();
    if (rows.size() > max_rows) return {errc::invalid_argument, "too many rows"};
    if (bytes != 0) {
      require_cuda(cudaMemcpy(rows_.data(), rows.data(), bytes, cudaMemcpyHostToDevice));
      require_cuda(cudaDeviceSynchronize());
    }
    // Another call of the runtime fails each time, before, between and after launches.
    if (fail_next_) testing::fail_cuda_call(static_cast<std::int64_t>(failures_++ % 9));
    status ran = executor_.run(stream_, plan,
                               {.data = rows_.data(),
                                .row_stride_bytes = sizeof(logits_row),
                                .rows = static_cast<std::int32_t>(rows.size()),
                                .type = logits_type::fp32});
    testing::fail_cuda_call(-1);
    fail_next_ = false;
    if (status done = executor_.synchronize(); !done) return done;
    if (bytes != 0) {
      require_cuda(cudaMemcpy(rows.data(), rows_.data(), bytes, cudaMemcpyDeviceToHost));
    }
    return ran;
  }
  void read(std::size_t plane, block_id block, std::uint32_t head, std::uint32_t /*tokens*/,
            std::span<float> out) {
    require_cuda(cudaMemcpy(out.data(), at(plane, block, head, 0), out.size_bytes(),
                            cudaMemcpyDeviceToHost));
  }
  void write(std::size_t plane, block_id block, std::uint32_t head, std::uint32_t token,
             std::span<const float> in) {
    require_cuda(cudaMemcpy(at(plane, block, head, token), in.data(), in.size_bytes(),
                            cudaMemcpyHostToDevice));
  }
  void fail_next() { fail_next_ = true; }

 private:
  static constexpr std::size_t max_rows = 64;

  [[nodiscard]] std::byte* at(std::size_t plane, block_id block, std::uint32_t head,
                              std::uint32_t token) const {
    const plane_layout& p = executor_.layout().planes[plane];
    return executor_.plane(plane) + block * p.block_stride + head * p.inner_stride +
           static_cast<std::int64_t>(token) * p.bytes_per_token;
  }

  cuda_executor executor_;
  testing::test_stream stream_;
  testing::device_array<logits_row> rows_{max_rows};
  bool fail_next_ = false;
  std::size_t failures_ = 0;
};

TEST(toy_engine_cuda, the_cache_changes_no_bit) {
  const engine_options o{.running = 8, .requests = 300, .seed = 3};
  run_conversations<cuda_memory>({"NHD, 48 blocks of 4", false, false, 48, 4, o});
  run_conversations<cuda_memory>({"HND, 26 blocks of 8", true, false, 26, 8, o});
  run_conversations<cuda_memory>({"slab, 16 blocks of 16", false, true, 16, 16, o});
}

TEST(toy_engine_cuda, failed_plans_are_never_served) {
  const engine_options o{.running = 8, .requests = 300, .seed = 4, .failures = true};
  run_conversations<cuda_memory>({"HND, 48 blocks of 4", true, false, 48, 4, o});
}

}  // namespace
}  // namespace radixkv::toy
