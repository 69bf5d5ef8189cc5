// Calls of the device fail and so does host memory: what has begun there is not denied, and objects
// go all the same.
#include <memory>
#include <optional>
#include <vector>

#include "tests/cuda/alloc_failure_worlds.h"
#include "tests/cuda/fault_injection.h"

namespace radixkv::testing {
namespace {

// Calls with a new world each while CUDA call n fails and all memory is refused from then on, until
// no call fails: what has written its results all the same reports the device's error.
template <class World, class Call>
void fail_each_cuda_call_of(Call call) {
  static std::optional<alloc_failure> none;
  int began = 0;
  for (std::int64_t n = 0;; ++n) {
    SCOPED_TRACE(::testing::Message() << "CUDA call " << n);
    ASSERT_LT(n, 100) << "never passes";
    World world;
    at_cuda_failure([] {
      if (!none) none.emplace(0, true);
    });
    fail_cuda_call(n);
    const status s = call(world);
    const bool failed = cuda_call_failed();
    fail_cuda_call(-1);
    at_cuda_failure(nullptr);
    none.reset();
    (void)cudaGetLastError();
    if (!failed) break;
    require_cuda(cudaDeviceSynchronize());
    if (s.ok() || !world.has_results()) continue;
    ++began;
    EXPECT_EQ(s.error().code, errc::device);
  }
  EXPECT_GT(began, 0);
}

struct idle_index_world : index_world {
  idle_index_world() {
    EXPECT_TRUE(index.finish(stream, ticket).ok() && index.synchronize().ok());
    matched.upload(std::vector<std::int32_t>{-1});
  }
  bool has_results() const { return matched.download()[0] != -1; }
};

struct idle_topk_world : topk_world {
  bool has_results() const {
    std::vector<float> values(8);
    require_cuda(cudaMemcpy(values.data(), cache.view().values, 32, cudaMemcpyDeviceToHost));
    return values != std::vector<float>(8);
  }
};

TEST(cuda_failure_without_memory, what_has_begun_is_not_denied) {
  fail_each_cuda_call_of<idle_index_world>(
      [](index_world& w) { return status_of(w.index.match(w.stream, w.batch())); });
  const step_plan plan = topk_world().plan({3, 0, 2});
  fail_each_cuda_call_of<idle_topk_world>(
      [&](topk_world& w) { return w.cache.store(w.stream, plan, w.view()); });
}

// Whoever is destroyed waits; the wait fails, and so does the text of its error.
TEST(cuda_failure_without_memory, objects_go_all_the_same) {
  static std::optional<alloc_failure> none;
  auto index = std::make_unique<index_world>();
  auto tables = std::make_unique<table_world>();
  auto topk = std::make_unique<topk_world>();
  RADIXKV_ASSERT_OK(topk->cache.store(topk->stream, topk->plan({0}), topk->view()));
  const auto destroy = [](auto& world) {
    at_cuda_failure([] {
      if (!none) none.emplace(0, true);
    });
    fail_cuda_calls(0, 1000);
    world.reset();
    const bool failed = cuda_call_failed();
    fail_cuda_call(-1);
    at_cuda_failure(nullptr);
    none.reset();
    EXPECT_TRUE(failed);
    (void)cudaGetLastError();
  };
  destroy(index);
  destroy(tables);
  destroy(topk);
}

}  // namespace
}  // namespace radixkv::testing
