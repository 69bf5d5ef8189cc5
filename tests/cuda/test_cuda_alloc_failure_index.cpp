// Fail the nth host allocation of each call of the device index, its feed, the page tables and the
// top-k store: an error value, nothing half done, and the object works afterwards.
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "radixkv/cuda_index_feed.h"
#include "radixkv/cuda_page_tables.h"
#include "radixkv/cuda_topk_cache.h"
#include "tests/cuda/executor_test.h"
#include "tests/cuda/fault_injection.h"
#include "tests/support/alloc_failure.h"

namespace radixkv::testing {
namespace {

// Moved: a copy would allocate.
template <class T>
status status_of(result<T> r) {
  return r.ok() ? status() : status(std::move(r).error());
}

// Calls with a new world each, for n = 0, 1, … until no allocation is refused: what comes back is
// out_of_memory or what comes back otherwise (null: success), and the world passes its check then.
template <class World, class Call>
void fail_each_allocation_of(const char* what, bool from_then_on, std::optional<errc> otherwise,
                             Call call) {
  for (std::int64_t n = 0;; ++n) {
    SCOPED_TRACE(::testing::Message() << what << ", allocation " << n);
    ASSERT_LT(n, 400) << "never passes";
    const std::int64_t live = live_allocations();
    bool fired = false;
    {
      World world;
      std::optional<errc> code;
      {
        alloc_failure failing(n, from_then_on);
        const status s = call(world);
        if (!s.ok()) code = s.error().code;
        failing.stop();
        fired = failing.fired();
      }
      if (!fired || code != errc::out_of_memory) {
        EXPECT_EQ(code, otherwise);
      }
      world.check(!code);
      if (::testing::Test::HasFailure()) return;
    }
    ASSERT_EQ(live_allocations(), live) << "leaks";
    if (!fired) return;
  }
}

class cuda_alloc_failure : public ::testing::TestWithParam<bool> {
 protected:
  // CUB and the runtime keep what they learn at their first use.
  void SetUp() override {
    ASSERT_TRUE(cuda_index::create(index_options()).ok());
    ASSERT_TRUE(cuda_page_tables::create(table_options()).ok());
    ASSERT_TRUE(cuda_topk_cache::create(topk_options()).ok());
  }

 public:
  static cuda_index_options index_options() {
    return {.blocks = 64,
            .block_tokens = 4,
            .max_prompts = 4,
            .max_prompt_tokens = 256,
            .staging_bytes = 128 << 10,
            .matches_in_flight = 2,
            .find_shared = true};
  }
  static cuda_page_tables_options table_options() {
    return {.rows = 4, .row_blocks = 8, .block_tokens = 4, .max_batch = 4, .slot_changes = 8};
  }
  static cuda_topk_options topk_options() {
    return {.slots = 4, .k = 2, .vocabulary = 9, .max_rows = 2};
  }
};

// Blocks 7 and 8 are published, 9 below them is added, and a match is in flight.
struct index_world {
  index_world() : index(cuda_index::create(cuda_alloc_failure::index_options()).value()) {
    for (const block_id b : {7, 8, 9}) {
      if (b == 9) EXPECT_TRUE(index.update(stream).ok());
      EXPECT_TRUE(index.add(b, b == 7 ? no_block : b - 1, 0, tokens_of(b)).ok());
    }
    std::vector<token_id> prompt;
    for (block_id b = 7; b < 11; ++b) {
      prompt.insert(prompt.end(), 4, static_cast<token_id>(b));
    }
    tokens.upload(prompt);
    ticket = index.match(stream, batch()).value();
  }
  static std::vector<token_id> tokens_of(block_id b) {
    return std::vector<token_id>(4, static_cast<token_id>(b));
  }
  cuda_match_batch batch() const {
    return {.tokens = tokens.data(),
            .offsets = offsets.data(),
            .prompts = 1,
            .token_count = 16,
            .matched_blocks = matched.data(),
            .block_table = table.data()};
  }
  // 10 is added unless it was, and a match finds the whole path.
  void check(bool) {
    EXPECT_EQ(index.check_invariants(), "");
    if (!index.remove(9).ok() && index.size() == 4) {
      EXPECT_TRUE(index.remove(10).ok());
      EXPECT_TRUE(index.remove(9).ok());
    }
    EXPECT_EQ(index.size(), 2);
    for (const block_id b : {9, 10}) EXPECT_TRUE(index.add(b, b - 1, 0, tokens_of(b)).ok());
    RADIXKV_ASSERT_OK(index.update(stream));
    (void)index.finish(stream, ticket);
    RADIXKV_ASSERT_OK(index.synchronize());
    const auto again = index.match(stream, batch());
    ASSERT_TRUE(again.ok()) << again.error().message;
    RADIXKV_ASSERT_OK(index.finish(stream, *again));
    RADIXKV_ASSERT_OK(index.synchronize());
    EXPECT_EQ(matched.download()[0], 4);
    EXPECT_EQ(table.download(), (std::vector<block_id>{7, 8, 9, 10}));
  }

  test_stream stream;
  device_array<token_id> tokens{16};
  device_array<std::int64_t> offsets{std::vector<std::int64_t>{0, 16}};
  device_array<std::int32_t> matched{1}, results{2};
  device_array<block_id> table{4};
  cuda_index index;
  std::uint64_t ticket = 0;
};

struct nothing {
  void check(bool) {}
};

TEST_P(cuda_alloc_failure, the_index_reports_it) {
  const auto of = [&](const char* what, std::optional<errc> otherwise, auto call) {
    fail_each_allocation_of<index_world>(what, GetParam(), otherwise, call);
  };
  fail_each_allocation_of<nothing>("create", GetParam(), std::nullopt, [](nothing&) {
    return status_of(cuda_index::create(cuda_alloc_failure::index_options()));
  });
  fail_each_allocation_of<nothing>("options", GetParam(), errc::invalid_argument, [](nothing&) {
    return cuda_index_options{.blocks = -1}.validate();
  });
  const std::vector<token_id> ten = index_world::tokens_of(10);
  of("add", {}, [&](index_world& w) { return w.index.add(10, 9, 0, ten); });
  of("add of a known block", errc::invalid_argument,
     [&](index_world& w) { return w.index.add(9, 8, 0, ten); });
  of("add to a namespace below 0", errc::invalid_argument,
     [&](index_world& w) { return w.index.add(10, no_block, -1, ten); });
  of("remove", {}, [](index_world& w) { return status_of(w.index.remove(9)); });
  of("remove of nothing", errc::not_found,
     [](index_world& w) { return status_of(w.index.remove(11)); });
  of("remove of a parent", errc::invalid_argument,
     [](index_world& w) { return status_of(w.index.remove(8)); });
  of("update", {}, [](index_world& w) { return w.index.update(w.stream); });
  of("match", {}, [](index_world& w) {
    auto t = w.index.match(w.stream, w.batch());
    if (!t.ok()) return status_of(std::move(t));
    return w.index.finish(w.stream, *t);
  });
  of("match of nothing", errc::invalid_argument,
     [](index_world& w) { return status_of(w.index.match(w.stream, {.prompts = 1})); });
  of("match of misaligned memory", errc::invalid_argument, [](index_world& w) {
    cuda_match_batch b = w.batch();
    b.matched_blocks =
        reinterpret_cast<std::int32_t*>(reinterpret_cast<char*>(b.matched_blocks) + 1);
    return status_of(w.index.match(w.stream, b));
  });
  of("find_shared", {}, [](index_world& w) {
    return w.index.find_shared(w.stream, w.batch(), {w.results.data(), w.results.data() + 1});
  });
  of("find_shared of nothing", errc::invalid_argument,
     [](index_world& w) { return w.index.find_shared(w.stream, w.batch(), {}); });
  of("finish", {}, [](index_world& w) { return w.index.finish(w.stream, w.ticket); });
  of("finish of nothing", errc::not_found,
     [](index_world& w) { return w.index.finish(w.stream, 77); });
  of("retired", {}, [](index_world& w) { return status_of(w.index.retired()); });
  of("synchronize", {}, [](index_world& w) { return w.index.synchronize(); });
}

struct feed_world {
  feed_world()
      : feed(std::make_shared<cuda_index>(
                 cuda_index::create(cuda_alloc_failure::index_options()).value()),
             2) {
    EXPECT_TRUE(feed.on_publish(0, no_block, "a", index_world::tokens_of(0)));
  }
  void check(bool) {
    EXPECT_EQ(feed.namespace_id("a"), 0);
    EXPECT_TRUE(feed.on_publish(1, no_block, "b", index_world::tokens_of(0)));
    EXPECT_FALSE(feed.on_publish(2, no_block, "c", index_world::tokens_of(0)));
    EXPECT_EQ(feed.index().size(), 2);
    EXPECT_EQ(feed.on_drop(0), 1u);
    EXPECT_TRUE(feed.on_publish(2, no_block, "c", index_world::tokens_of(0)));
    EXPECT_EQ(feed.index().size(), 2);
  }
  cuda_index_feed feed;
};

TEST_P(cuda_alloc_failure, the_feed_reports_it) {
  const auto of = [&](const char* what, std::optional<errc> otherwise, auto call) {
    fail_each_allocation_of<feed_world>(what, GetParam(), otherwise, call);
  };
  // Names too long to lie in their strings.
  const std::string name(40, 'n');
  of("namespace_id", {}, [&](feed_world& w) {
    EXPECT_EQ(w.feed.namespace_id(name), cuda_index_feed::unpublished);
    return status();
  });
  const std::vector<token_id> t = index_world::tokens_of(0);
  std::int64_t lost = 0;
  of("on_publish", {}, [&](feed_world& w) {
    const bool taken = w.feed.on_publish(40, no_block, name, t);
    EXPECT_EQ(w.feed.refused(), taken ? 0 : 1);
    lost += !taken;
    if (taken) {
      EXPECT_EQ(w.feed.on_drop(40), 1u);
      return status();
    }
    return status(errc::out_of_memory, "");
  });
  EXPECT_GT(lost, 1);
  of("a refused on_publish", {}, [&](feed_world& w) {
    EXPECT_FALSE(w.feed.on_publish(0, no_block, "a", t));
    return status();
  });
  of("retired", {}, [](feed_world& w) {
    (void)w.feed.retired();
    return status();
  });
}

struct table_world {
  table_world() : tables(cuda_page_tables::create(cuda_alloc_failure::table_options()).value()) {
    EXPECT_TRUE(tables.set(1, blocks, 9).ok());
    EXPECT_TRUE(tables.update(stream).ok());
  }
  // Row 1 is what it was, row 2 becomes what it may be already.
  void check(bool) {
    RADIXKV_ASSERT_OK(tables.set(2, blocks, 12));
    RADIXKV_ASSERT_OK(tables.update(stream));
    RADIXKV_ASSERT_OK(tables.dense(stream, std::vector<std::int32_t>{1, 2}, out.data(), 4, 4, -1));
    RADIXKV_ASSERT_OK(tables.synchronize());
    EXPECT_EQ(out.download(), (std::vector<std::int32_t>{5, 6, 7, -1, 5, 6, 7, -1}));
  }
  std::vector<block_id> blocks{5, 6, 7};
  std::vector<std::int32_t> rows{1};
  test_stream stream;
  device_array<std::int32_t> out{8};
  cuda_page_tables tables;
};

TEST_P(cuda_alloc_failure, page_tables_report_it) {
  const auto of = [&](const char* what, std::optional<errc> otherwise, auto call) {
    fail_each_allocation_of<table_world>(what, GetParam(), otherwise, call);
  };
  fail_each_allocation_of<nothing>("create", GetParam(), std::nullopt, [](nothing&) {
    return status_of(cuda_page_tables::create(cuda_alloc_failure::table_options()));
  });
  fail_each_allocation_of<nothing>("options", GetParam(), errc::invalid_argument,
                                   [](nothing&) { return cuda_page_tables_options{}.validate(); });
  of("set", {}, [](table_world& w) { return w.tables.set(2, w.blocks, 12); });
  of("set of row 9", errc::invalid_argument,
     [](table_world& w) { return w.tables.set(9, w.blocks, 12); });
  of("set of too few blocks", errc::invalid_argument,
     [](table_world& w) { return w.tables.set(2, w.blocks, 20); });
  of("update", {}, [](table_world& w) {
    EXPECT_TRUE(w.tables.set(2, w.blocks, 12).ok());
    return w.tables.update(w.stream);
  });
  of("dense", {},
     [](table_world& w) { return w.tables.dense(w.stream, w.rows, w.out.data(), 4, 4, -1); });
  of("dense before update", errc::invalid_argument, [](table_world& w) {
    EXPECT_TRUE(w.tables.set(2, w.blocks, 12).ok());
    return w.tables.dense(w.stream, w.rows, w.out.data(), 4, 4, -1);
  });
  of("dense to nowhere", errc::invalid_argument,
     [](table_world& w) { return w.tables.dense(w.stream, w.rows, nullptr, 4, 4, -1); });
  of("csr", {}, [](table_world& w) {
    return w.tables.csr(w.stream, w.rows, w.out.data(), w.out.data() + 2, 4, w.out.data() + 6);
  });
  of("csr to nowhere", errc::invalid_argument,
     [](table_world& w) { return w.tables.csr(w.stream, w.rows, nullptr, nullptr, 4, nullptr); });
  of("synchronize", {}, [](table_world& w) { return w.tables.synchronize(); });
}

struct topk_world {
  topk_world() : cache(cuda_topk_cache::create(cuda_alloc_failure::topk_options()).value()) {
    std::vector<float> host(4 * 9);
    std::iota(host.begin(), host.end(), 0.0f);
    rows.upload(host);
  }
  step_plan plan(std::initializer_list<logits_slot> slots) const {
    step_plan p;
    for (const logits_slot s : slots) p.logits.push_back({logits_direction::store, s, s});
    return p;
  }
  logits_rows_view view() const { return {rows.data(), 36, 4, logits_type::fp32}; }
  void check(bool) {
    RADIXKV_ASSERT_OK(cache.store(stream, plan({0, 1, 2, 3}), view()));
    RADIXKV_ASSERT_OK(cache.synchronize());
    std::vector<float> values(8);
    require_cuda(cudaMemcpy(values.data(), cache.view().values, 32, cudaMemcpyDeviceToHost));
    EXPECT_EQ(values, (std::vector<float>{8, 7, 17, 16, 26, 25, 35, 34}));
  }
  test_stream stream;
  device_array<float> rows{4 * 9};
  cuda_topk_cache cache;
};

TEST_P(cuda_alloc_failure, the_topk_store_reports_it) {
  const auto of = [&](const char* what, std::optional<errc> otherwise, auto call) {
    fail_each_allocation_of<topk_world>(what, GetParam(), otherwise, call);
  };
  fail_each_allocation_of<nothing>("create", GetParam(), std::nullopt, [](nothing&) {
    return status_of(cuda_topk_cache::create(cuda_alloc_failure::topk_options()));
  });
  fail_each_allocation_of<nothing>("options", GetParam(), errc::invalid_argument,
                                   [](nothing&) { return cuda_topk_options{}.validate(); });
  const topk_world some;
  const step_plan good = some.plan({3, 0, 2}), bad = some.plan({0, 9});
  of("store", {}, [&](topk_world& w) { return w.cache.store(w.stream, good, w.view()); });
  of("store to slot 9", errc::invalid_argument,
     [&](topk_world& w) { return w.cache.store(w.stream, bad, w.view()); });
  of("store of no rows", errc::invalid_argument,
     [&](topk_world& w) { return w.cache.store(w.stream, good, {}); });
  of("store of rows of the host", errc::invalid_argument, [&](topk_world& w) {
    float row[9] = {};
    return w.cache.store(w.stream, good, {row, 36, 4, logits_type::fp32});
  });
  of("synchronize", {}, [](topk_world& w) { return w.cache.synchronize(); });
}

INSTANTIATE_TEST_SUITE_P(one_or_all, cuda_alloc_failure, ::testing::Bool());

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

TEST(cuda_alloc_failure_beside_the_device, what_has_begun_is_not_denied) {
  fail_each_cuda_call_of<idle_index_world>(
      [](index_world& w) { return status_of(w.index.match(w.stream, w.batch())); });
  const step_plan plan = topk_world().plan({3, 0, 2});
  fail_each_cuda_call_of<idle_topk_world>(
      [&](topk_world& w) { return w.cache.store(w.stream, plan, w.view()); });
}

// Whoever is destroyed waits; the wait fails, and so does the text of its error.
TEST(cuda_alloc_failure_at_the_end, objects_go_all_the_same) {
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
