// Every public operation of the device side opens a range in the NVTX domain `radixkv`.
#include <cstdlib>
#include <string>

#include <dlfcn.h>

#include "radixkv/cuda_executor.h"
#include "radixkv/cuda_index.h"
#include "radixkv/cuda_page_tables.h"
#include "radixkv/cuda_topk_cache.h"
#include "tests/cuda/executor_test.h"

namespace radixkv::testing {
namespace {

class recorder {
 public:
  recorder() {
    void* library = dlopen(RADIXKV_NVTX_RECORDER, RTLD_NOW);
    if (library == nullptr) return;
    log_ = reinterpret_cast<const char* (*)()>(dlsym(library, "nvtx_recorder_log"));
    depth_ = reinterpret_cast<int (*)()>(dlsym(library, "nvtx_recorder_depth"));
  }
  bool loaded() const { return log_ != nullptr && depth_ != nullptr; }
  std::string log() const { return log_(); }
  int depth() const { return depth_(); }

 private:
  const char* (*log_)() = nullptr;
  int (*depth_)() = nullptr;
};

TEST(nvtx, ranges_fire) {
  const recorder tool;
  ASSERT_TRUE(tool.loaded()) << dlerror();
  std::size_t seen = tool.log().size();
  const auto expect_ranges = [&](const std::string& ranges) {
    EXPECT_EQ(tool.log().substr(seen), ranges);
    EXPECT_EQ(tool.depth(), 0);
    seen = tool.log().size();
  };
  const memory_layout l = small_layout();
  test_stream stream;
  {
    cuda_executor e = cuda_executor::create(l).value();
    expect_ranges("radixkv:cuda_executor::create\n");
    RADIXKV_ASSERT_OK(e.run(stream, {.copies = {{0, 1, 4}}, .logits = {}}));
    expect_ranges("radixkv:cuda_executor::run\n");
    EXPECT_FALSE(e.run(stream, {.copies = {{0, 0, 4}}, .logits = {}}).ok());
    expect_ranges("radixkv:cuda_executor::run\n");  // failed ones too, and they are closed
    RADIXKV_ASSERT_OK(e.synchronize());
    expect_ranges("radixkv:cuda_executor::synchronize\n");
    EXPECT_FALSE(e.launch(stream, nullptr).ok());
    expect_ranges("radixkv:cuda_executor::launch\n");
    {
      graph_plan plan = e.make_graph_plan().value();
      expect_ranges("radixkv:cuda_executor::make_graph_plan\n");
      EXPECT_FALSE(plan.capture(stream).ok());
      expect_ranges("radixkv:graph_plan::capture\n");
      EXPECT_FALSE(plan.prepare({}).ok());
      expect_ranges("radixkv:graph_plan::prepare\n");
      EXPECT_FALSE(plan.launch(stream, nullptr).ok());
      expect_ranges("radixkv:graph_plan::launch\n");
      plan.skip();
      expect_ranges("radixkv:graph_plan::skip\n");
      plan.realign();
      expect_ranges("radixkv:graph_plan::realign\n");
    }
    expect_ranges("radixkv:graph_plan::destroy\n");
    void* base = memory_of(e);
    { cuda_executor b = cuda_executor::borrow(l, {&base, 1}).value(); }
    expect_ranges("radixkv:cuda_executor::borrow\nradixkv:cuda_executor::destroy\n");
  }
  expect_ranges("radixkv:cuda_executor::destroy\n");
  {
    cuda_index index =
        cuda_index::create(
            {.blocks = 8, .block_tokens = 4, .max_prompt_tokens = 64, .find_shared = true})
            .value();
    expect_ranges("radixkv:cuda_index::create\n");
    const std::vector<token_id> tokens(4, 1);
    RADIXKV_ASSERT_OK(index.add(0, no_block, 0, tokens));
    RADIXKV_ASSERT_OK(index.update(stream));
    expect_ranges("radixkv:cuda_index::update\n");
    const auto ticket = index.match(stream, {});
    ASSERT_TRUE(ticket.ok());
    expect_ranges("radixkv:cuda_index::match\n");
    RADIXKV_ASSERT_OK(index.find_shared(stream, {}, {}));
    expect_ranges("radixkv:cuda_index::find_shared\n");
    RADIXKV_ASSERT_OK(index.finish(stream, *ticket));
    expect_ranges("radixkv:cuda_index::finish\n");
    ASSERT_TRUE(index.retired().ok());
    expect_ranges("radixkv:cuda_index::retired\n");
    RADIXKV_ASSERT_OK(index.synchronize());
    expect_ranges("radixkv:cuda_index::synchronize\n");
  }
  expect_ranges("radixkv:cuda_index::destroy\n");
  {
    cuda_topk_cache topk =
        cuda_topk_cache::create({.slots = 1, .k = 1, .vocabulary = 4, .max_rows = 1}).value();
    expect_ranges("radixkv:cuda_topk_cache::create\n");
    RADIXKV_ASSERT_OK(topk.store(stream, {}, {}));
    expect_ranges("radixkv:cuda_topk_cache::store\n");
    RADIXKV_ASSERT_OK(topk.synchronize());
    expect_ranges("radixkv:cuda_topk_cache::synchronize\n");
  }
  expect_ranges("radixkv:cuda_topk_cache::destroy\n");
  {
    cuda_page_tables tables = cuda_page_tables::create({.rows = 2, .row_blocks = 2}).value();
    expect_ranges("radixkv:cuda_page_tables::create\n");
    RADIXKV_ASSERT_OK(tables.update(stream));
    expect_ranges("radixkv:cuda_page_tables::update\n");
    device_array<std::int32_t> out(4);
    RADIXKV_ASSERT_OK(tables.dense(stream, {}, out.data(), 1, 1, -1));
    expect_ranges("radixkv:cuda_page_tables::dense\n");
    RADIXKV_ASSERT_OK(tables.csr(stream, {}, out.data(), out.data() + 1, 1, out.data() + 2));
    expect_ranges("radixkv:cuda_page_tables::csr\n");
    RADIXKV_ASSERT_OK(tables.synchronize());
    expect_ranges("radixkv:cuda_page_tables::synchronize\n");
  }
  expect_ranges("radixkv:cuda_page_tables::destroy\n");
}

}  // namespace
}  // namespace radixkv::testing

int main(int argc, char** argv) {
  // Before the first NVTX call, which looks for the tool.
  setenv("NVTX_INJECTION64_PATH", RADIXKV_NVTX_RECORDER, 1);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
