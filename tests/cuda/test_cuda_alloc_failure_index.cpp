// Fail the nth host allocation of each call of the device index, its feed, the page tables and the
// top-k store: an error value, nothing half done, and the object works afterwards.
#include <optional>
#include <string>
#include <vector>

#include "csrc/cuda/index_mirror.h"
#include "radixkv/cuda_index_feed.h"
#include "tests/cuda/alloc_failure_worlds.h"

namespace radixkv::testing {
namespace {

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
    ASSERT_TRUE(cuda_index::create(small_index_options()).ok());
    ASSERT_TRUE(cuda_page_tables::create(small_table_options()).ok());
    ASSERT_TRUE(cuda_topk_cache::create(small_topk_options()).ok());
  }
};

struct nothing {
  void check(bool) {}
};

TEST_P(cuda_alloc_failure, the_index_reports_it) {
  const auto of = [&](const char* what, std::optional<errc> otherwise, auto call) {
    fail_each_allocation_of<index_world>(what, GetParam(), otherwise, call);
  };
  fail_each_allocation_of<nothing>("create", GetParam(), std::nullopt, [](nothing&) {
    return status_of(cuda_index::create(small_index_options()));
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
      : feed(std::make_shared<cuda_index>(cuda_index::create(small_index_options()).value()), 2) {
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

TEST_P(cuda_alloc_failure, page_tables_report_it) {
  const auto of = [&](const char* what, std::optional<errc> otherwise, auto call) {
    fail_each_allocation_of<table_world>(what, GetParam(), otherwise, call);
  };
  fail_each_allocation_of<nothing>("create", GetParam(), std::nullopt, [](nothing&) {
    return status_of(cuda_page_tables::create(small_table_options()));
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

TEST_P(cuda_alloc_failure, the_topk_store_reports_it) {
  const auto of = [&](const char* what, std::optional<errc> otherwise, auto call) {
    fail_each_allocation_of<topk_world>(what, GetParam(), otherwise, call);
  };
  fail_each_allocation_of<nothing>("create", GetParam(), std::nullopt, [](nothing&) {
    return status_of(cuda_topk_cache::create(small_topk_options()));
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

TEST(cuda_alloc_failure_mirror, tokens_stay_with_their_blocks) {
  constexpr block_id blocks = 20;
  const auto own = [](block_id b) {
    return std::vector<token_id>(2, static_cast<token_id>(b + 7));
  };
  for (std::int64_t n = 0, fired = 1; fired != 0; ++n) {
    SCOPED_TRACE(n);
    ASSERT_LT(n, 100);
    detail::index_mirror mirror = std::move(detail::index_mirror::create({blocks, 2, 1}).value());
    std::vector<std::vector<token_id>> tokens;
    for (block_id b = 0; b < blocks; ++b) tokens.push_back(own(b));
    {
      alloc_failure failing(n);
      for (block_id b = 0; b < blocks; ++b) {
        const auto& t = tokens[static_cast<std::size_t>(b)];
        const status s = mirror.add(b, kernels::root_parent(0), t);
        if (s.ok()) continue;
        EXPECT_EQ(s.error().code, errc::out_of_memory);
        RADIXKV_ASSERT_OK(mirror.add(b, kernels::root_parent(0), t));
      }
      fired = failing.fired();
    }
    detail::index_delta delta;
    mirror.take_delta(delta);
    ASSERT_EQ(delta.token_blocks.size(), tokens.size());
    ASSERT_EQ(delta.tokens.size(), 2 * tokens.size());
    for (std::size_t row = 0; row < tokens.size(); ++row) {
      const auto at = delta.tokens.begin() + static_cast<std::ptrdiff_t>(2 * row);
      EXPECT_EQ(std::vector<token_id>(at, at + 2), own(delta.token_blocks[row])) << row;
    }
  }
}

}  // namespace
}  // namespace radixkv::testing
