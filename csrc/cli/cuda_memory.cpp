// The CUDA side of kv_memory, in a program that was built with it.
#include "csrc/cli/kv_memory.h"

#ifdef RADIXKV_HAVE_CUDA

#include <cstring>
#include <vector>

#include <cuda_runtime_api.h>

#include "radixkv/cuda_executor.h"

namespace radixkv::cli {
namespace {

status check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return {};
  return {errc::device, std::string(what) + ": " + cudaGetErrorString(error)};
}

// Plans run on a stream; the planes are small enough that a copy of them on the host stands in for
// the engine's kernels: each call moves the blocks it names with one copy per plane and block.
class cuda_memory final : public kv_memory {
 public:
  cuda_memory(cuda_executor executor, cudaStream_t stream, std::string name)
      : executor_(std::move(executor)), stream_(stream), name_(std::move(name)) {}
  ~cuda_memory() override { cudaStreamDestroy(stream_); }

  [[nodiscard]] std::string name() const override { return name_; }

  status run(const step_plan& plan) override {
    status s = executor_.run(stream_, plan);
    // More plans in flight than the executor has room for: an engine would let a pass go by.
    if (!s && s.error().code == errc::busy) {
      if (status waited = executor_.synchronize(); !waited) return waited;
      s = executor_.run(stream_, plan);
    }
    return s;
  }

  status write(std::span<const token_range> ranges, std::span<const std::byte> bytes) override {
    staging_.resize(bytes.size());
    std::size_t at = 0;
    for (const token_range& r : ranges) {
      // Gathered per plane and head, as they lie in the memory.
      std::byte* const block = staging_.data() + at;
      for (std::uint32_t t = 0; t < r.tokens; ++t) {
        const std::byte* token = bytes.data() + at + std::size_t{t} * replay_token_bytes;
        std::memcpy(block + 8 * std::size_t{t}, token, 8);
        std::memcpy(block + 8 * std::size_t{r.tokens} + 4 * std::size_t{t}, token + 8, 4);
        std::memcpy(block + 12 * std::size_t{r.tokens} + 4 * std::size_t{t}, token + 12, 4);
      }
      if (status s = move(r, block, cudaMemcpyHostToDevice); !s) return s;
      at += std::size_t{r.tokens} * replay_token_bytes;
    }
    return wait();
  }

  status read(std::span<const token_range> ranges, std::span<std::byte> bytes) override {
    staging_.resize(bytes.size());
    std::size_t at = 0;
    for (const token_range& r : ranges) {
      if (status s = move(r, staging_.data() + at, cudaMemcpyDeviceToHost); !s) return s;
      at += std::size_t{r.tokens} * replay_token_bytes;
    }
    if (status s = wait(); !s) return s;
    at = 0;
    for (const token_range& r : ranges) {
      const std::byte* const block = staging_.data() + at;
      for (std::uint32_t t = 0; t < r.tokens; ++t) {
        std::byte* token = bytes.data() + at + std::size_t{t} * replay_token_bytes;
        std::memcpy(token, block + 8 * std::size_t{t}, 8);
        std::memcpy(token + 8, block + 8 * std::size_t{r.tokens} + 4 * std::size_t{t}, 4);
        std::memcpy(token + 12, block + 12 * std::size_t{r.tokens} + 4 * std::size_t{t}, 4);
      }
      at += std::size_t{r.tokens} * replay_token_bytes;
    }
    return {};
  }

 private:
  // One range between the device and `host`, where plane 0 and the heads of plane 1 follow each
  // other.
  status move(const token_range& r, std::byte* host, cudaMemcpyKind kind) {
    const memory_layout& layout = executor_.layout();
    for (std::size_t p = 0; p < layout.planes.size(); ++p) {
      const plane_layout& plane = layout.planes[p];
      for (std::uint32_t i = 0; i < plane.inner_count; ++i) {
        std::byte* device = executor_.plane(p) + r.block * plane.block_stride +
                            i * plane.inner_stride +
                            static_cast<std::int64_t>(r.first) * plane.bytes_per_token;
        const std::size_t count = std::size_t{r.tokens} * plane.bytes_per_token;
        const bool up = kind == cudaMemcpyHostToDevice;
        if (status s =
                check(cudaMemcpyAsync(up ? device : host, up ? host : device, count, kind, stream_),
                      "copying the tokens of a block");
            !s) {
          return s;
        }
        host += count;
      }
    }
    return {};
  }
  status wait() { return check(cudaStreamSynchronize(stream_), "waiting for the device"); }

  cuda_executor executor_;
  cudaStream_t stream_;
  std::string name_;
  std::vector<std::byte> staging_;
};

}  // namespace

result<std::unique_ptr<kv_memory>> make_cuda_memory(std::int64_t blocks,
                                                    std::uint32_t block_tokens) {
  int devices = 0;
  const cudaError_t found = cudaGetDeviceCount(&devices);
  if (found != cudaSuccess || devices == 0) {
    return error{errc::device,
                 std::string("--executor cuda found no CUDA device (") +
                     (found == cudaSuccess ? "none is there" : cudaGetErrorString(found)) + ")"};
  }
  cudaDeviceProp properties;
  if (status s = check(cudaGetDeviceProperties(&properties, 0), "asking for the device"); !s) {
    return s.error();
  }
  result<cuda_executor> executor = cuda_executor::create(replay_layout(blocks, block_tokens));
  if (!executor) return executor.error();
  cudaStream_t stream = nullptr;
  if (status s =
          check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
      !s) {
    return s.error();
  }
  return std::unique_ptr<kv_memory>(std::make_unique<cuda_memory>(
      std::move(*executor), stream, std::string("CUDA device ") + properties.name));
}

}  // namespace radixkv::cli

#else

namespace radixkv::cli {

result<std::unique_ptr<kv_memory>> make_cuda_memory(std::int64_t, std::uint32_t) {
  return error{errc::device, "--executor cuda: this program was built without CUDA"};
}

}  // namespace radixkv::cli

#endif
