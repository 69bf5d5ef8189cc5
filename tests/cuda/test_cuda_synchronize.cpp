// A thread that waits in synchronize() holds up no other: a cache publishes to the index under its
// own lock, and an engine goes on with its step. Nor does a call wait for the device because its
// kernels are launched for the first time.
#include <atomic>
#include <chrono>
#include <thread>

#include "radixkv/cuda_index_feed.h"
#include "radixkv/cuda_page_tables.h"
#include "radixkv/cuda_topk_cache.h"
#include "tests/cuda/executor_test.h"

namespace radixkv::testing {
namespace {

using namespace std::chrono_literals;

// Work of a stream that ends when the test says so. The simulator may run it within a call of the
// thread that enqueues, where it must not wait: the test then sees no wait, but other modes do.
class gate {
 public:
  explicit gate(cudaStream_t stream) {
    require_cuda(cudaLaunchHostFunc(
        stream, [](void* self) { static_cast<gate*>(self)->wait(); }, this));
  }
  // Until the work waits, or `over`.
  void until_closed(const std::atomic<bool>& over) const {
    while (!closed_ && !over) std::this_thread::sleep_for(1ms);
  }
  // Where the device works by itself: soon. Elsewhere nothing runs before somebody waits for it.
  void until_closed_by_device() const {
    for (int i = 0; i < 50 && !closed_; ++i) std::this_thread::sleep_for(1ms);
  }
  void open() { open_ = true; }
  [[nodiscard]] bool gave_up() const { return gave_up_; }

 private:
  void wait() {
    if (std::this_thread::get_id() == owner_) return;
    closed_ = true;
    const auto limit = std::chrono::steady_clock::now() + 20s;
    while (!open_) {
      if (std::chrono::steady_clock::now() > limit) {
        gave_up_ = true;
        return;
      }
      std::this_thread::sleep_for(1ms);
    }
  }

  const std::thread::id owner_ = std::this_thread::get_id();
  std::atomic<bool> closed_ = false, open_ = false, gave_up_ = false;
};

// `enqueue` puts work of `object` on the gate's stream; `call` must return while another thread
// waits for it.
template <class Object, class Enqueue, class Call>
void call_beside_synchronize(Object& object, cudaStream_t stream, Enqueue enqueue, Call call) {
  gate closed(stream);
  closed.until_closed_by_device();
  enqueue();
  std::atomic<bool> over = false;
  std::thread waiting([&] {
    const status s = object.synchronize();
    EXPECT_TRUE(s.ok()) << s.error().message;
    over = true;
  });
  closed.until_closed(over);
  call();
  closed.open();
  waiting.join();
  EXPECT_FALSE(closed.gave_up()) << "the call waited for the device";
}

TEST(cuda_synchronize, of_the_index_lets_a_cache_publish) {
  auto index = std::make_shared<cuda_index>(cuda_index::create({.blocks = 8,
                                                                .block_tokens = 4,
                                                                .max_prompts = 1,
                                                                .max_prompt_tokens = 4,
                                                                .staging_bytes = 128 << 10,
                                                                .find_shared = true})
                                                .value());
  cuda_index_feed feed(index);
  test_stream stream;
  const std::vector<token_id> tokens(4, 1);
  device_array<token_id> prompt(tokens);
  device_array<std::int64_t> offsets(std::vector<std::int64_t>{0, 4});
  device_array<std::int32_t> results(4);
  call_beside_synchronize(
      *index, stream,
      [&] {
        const cuda_match_batch batch{.tokens = prompt.data(),
                                     .offsets = offsets.data(),
                                     .prompts = 1,
                                     .token_count = 4,
                                     .matched_blocks = results.data(),
                                     .block_table = results.data() + 1};
        const auto ticket = index->match(stream, batch);
        ASSERT_TRUE(ticket.ok()) << ticket.error().message;
        RADIXKV_ASSERT_OK(
            index->find_shared(stream, batch, {results.data() + 2, results.data() + 3}));
        RADIXKV_ASSERT_OK(index->finish(stream, *ticket));
      },
      [&] {
        EXPECT_TRUE(feed.on_publish(3, no_block, "a", tokens));
        EXPECT_EQ(feed.on_drop(3), 1u);
      });
  // The wait for a match's last use, alone.
  const auto ticket = index->match(
      stream, {.offsets = offsets.data(), .prompts = 0, .matched_blocks = results.data()});
  ASSERT_TRUE(ticket.ok()) << ticket.error().message;
  RADIXKV_ASSERT_OK(index->synchronize());
  call_beside_synchronize(
      *index, stream, [&] { RADIXKV_ASSERT_OK(index->finish(stream, *ticket)); },
      [&] { EXPECT_TRUE(feed.on_publish(4, no_block, "a", tokens)); });
}

TEST(cuda_synchronize, of_the_topk_store_lets_others_store) {
  cuda_topk_cache cache = cuda_topk_cache::create({.slots = 2, .k = 1, .vocabulary = 4}).value();
  test_stream stream;
  device_array<float> rows(std::vector<float>{1, 2, 3, 4});
  step_plan plan;
  plan.logits.push_back({logits_direction::store, 1, 0});
  call_beside_synchronize(
      cache, stream,
      [&] {
        RADIXKV_ASSERT_OK(cache.store(stream, plan, {rows.data(), 16, 1, logits_type::fp32}));
      },
      [&] { RADIXKV_ASSERT_OK(cache.store(stream, {}, {})); });
}

TEST(cuda_synchronize, of_the_page_tables_lets_others_set) {
  cuda_page_tables tables = cuda_page_tables::create({.rows = 2, .row_blocks = 2}).value();
  test_stream stream;
  const std::vector<block_id> table{5};
  RADIXKV_ASSERT_OK(tables.set(0, table, 3));
  const std::vector<std::int32_t> batch{0};
  device_array<std::int32_t> out(8);
  call_beside_synchronize(
      tables, stream,
      [&] {
        RADIXKV_ASSERT_OK(tables.update(stream));
        RADIXKV_ASSERT_OK(tables.dense(stream, batch, out.data(), 2, 2, -1));
        RADIXKV_ASSERT_OK(
            tables.csr(stream, batch, out.data() + 2, out.data() + 4, 2, out.data() + 6));
      },
      [&] { RADIXKV_ASSERT_OK(tables.set(1, table, 4)); });
}

TEST(cuda_synchronize, of_an_executor_lets_others_run_plans) {
  cuda_executor executor = cuda_executor::create(small_layout()).value();
  test_stream stream;
  device_array<float> rows(2 * 37);
  const logits_rows_view view{rows.data(), 37 * sizeof(float), 2, logits_type::fp32};
  step_plan plan{.copies = {{0, 1, 4}}, .logits = {}};
  plan.logits.push_back({logits_direction::load, 0, 1});
  call_beside_synchronize(
      executor, stream, [&] { RADIXKV_ASSERT_OK(executor.run(stream, plan, view)); },
      [&] { RADIXKV_ASSERT_OK(executor.run(stream, plan, view)); });
}

}  // namespace
}  // namespace radixkv::testing
