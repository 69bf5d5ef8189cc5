// Fail the nth allocation, n = 0, 1, …, until an operation passes: each failure is an error and
// nothing else. The index's own arrays are mapped and do not count here.
//
// Every scenario is a world (a cache with sequences, built without failures) and one operation on
// it. After a refused allocation either the operation reports out_of_memory and the world is as it
// was, or it succeeded without that memory; then it is tried again and must succeed.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "radixkv/host_executor.h"
#include "radixkv/kv_cache.h"
#include "tests/support/alloc_failure.h"

namespace radixkv::testing {
namespace {

std::vector<token_id> tokens_from(token_id first, std::size_t n) {
  std::vector<token_id> t(n);
  for (std::size_t i = 0; i < n; ++i) t[i] = first + static_cast<token_id>(i);
  return t;
}

struct world {
  explicit world(const std::string& policy) {
    cache_options o;
    o.blocks = 24;
    o.block_tokens = 4;
    o.min_prefix_tokens = 1;
    o.logits_rows = 4;
    o.policy = policy;
    o.clock = [] { return 1.0; };
    cache.push_back(kv_cache::create(o).value());
    // A branching prefix, published by requests that have ended.
    for (token_id i = 0; i < 3; ++i) {
      std::vector<token_id> t = tokens_from(0, 10);
      t.resize(10 + i);
      for (token_id k = 0; k < 4; ++k) t.push_back(100 * (i + 1) + k);
      finish(t, "a");
    }
    finish(tokens_from(500, 9), "b");
    // One that is still open, with a partial tail and room, and a fork of it.
    open.push_back(cache[0].open(tokens_from(0, 11), "a", plan).value());
    EXPECT_TRUE(open[0].mark_filled(11).ok());
    plan.clear();
    plan.copies.shrink_to_fit();
    open.reserve(4);
  }

  void finish(const std::vector<token_id>& t, const char* space) {
    step_plan scratch;
    sequence s = cache[0].open(t, space, scratch).value();
    EXPECT_TRUE(s.mark_filled(s.tokens()).ok());
    EXPECT_TRUE(s.commit_logits(s.tokens(), 0, scratch).ok());
  }
  // What must not change, as text.
  [[nodiscard]] std::string state() {
    cache_statistics s = cache[0].statistics();
    std::string text = cache[0].dump().value();
    for (const std::int64_t v :
         {s.requests, s.requests_hit, s.tokens_looked_up, s.tokens_hit, s.logits_hits,
          s.evicted_blocks, s.copied_blocks, s.duplicate_blocks, s.blocks_free, s.blocks_shared,
          s.blocks_cached, s.cached_tokens, s.namespaces, s.sequences, s.logits_used, s.nodes}) {
      text += std::to_string(v) + " ";
    }
    for (const sequence& q : open) {
      text += "\n" + std::to_string(q.id()) + ": ";
      for (const std::int64_t v :
           {q.tokens(), q.filled_tokens(), q.committed_tokens(), q.capacity_tokens()}) {
        text += std::to_string(v) + " ";
      }
      for (const block_id b : q.block_table()) text += std::to_string(b) + ",";
    }
    for (const block_copy& c : plan.copies) text += "\n" + std::to_string(c.destination);
    for (const logits_move& m : plan.logits) text += "\n" + std::to_string(m.slot);
    return text;
  }

  std::vector<kv_cache> cache;
  std::vector<sequence> open;
  step_plan plan;
};

// Returns the operation's error, if it has one.
using operation = std::function<status(world&)>;

struct scenario {
  const char* name;
  operation run;
  // Between failure and retry the state is compared. Not where a part of it may have happened.
  bool all_or_nothing = true;
};

template <typename T>
status status_of(result<T> r) {
  return r ? status() : status(std::move(r).error());
}

// Prompts are made outside of what fails.
const std::vector<token_id> known = tokens_from(0, 11);
const std::vector<token_id> fresh = tokens_from(900, 13);
const std::vector<token_id> large = tokens_from(2000, 60);
const std::vector<token_id> too_large = tokens_from(0, 97);
const std::vector<token_id> few = tokens_from(7, 3);

status keep(world& w, result<sequence> s) {
  if (!s) return std::move(s).error();
  w.open.push_back(std::move(*s));
  return {};
}

const scenario scenarios[] = {
    {"open_known", [](world& w) { return keep(w, w.cache[0].open(known, "a", w.plan)); }},
    {"open_fresh", [](world& w) { return keep(w, w.cache[0].open(fresh, "new", w.plan)); }},
    {"open_evicting", [](world& w) { return keep(w, w.cache[0].open(large, "a", w.plan)); }},
    {"append", [](world& w) { return w.open[0].append(few, w.plan); }},
    {"append_evicting",
     [](world& w) { return w.open[0].append(std::span(large).first(50), w.plan); }},
    {"reserve", [](world& w) { return w.open[0].reserve(9, w.plan); }},
    {"accept",
     [](world& w) {
       if (status s = w.open[0].reserve(3, w.plan); !s) return s;
       return w.open[0].accept(few);
     },
     false},
    {"fork", [](world& w) { return keep(w, w.open[0].fork()); }},
    {"truncate", [](world& w) { return w.open[0].truncate(9); }},
    {"commit", [](world& w) { return status_of(w.open[0].commit()); }},
    {"commit_part", [](world& w) { return status_of(w.open[0].commit(9)); }},
    {"commit_logits", [](world& w) { return status_of(w.open[0].commit_logits(11, 0, w.plan)); }},
    {"mark_filled", [](world& w) { return w.open[0].mark_filled(11); }},
    {"release",
     [](world& w) {
       w.open[0].release();
       return status();
     }},
    {"evict",
     [](world& w) {
       w.cache[0].evict(5);
       return status();
     },
     false},
    {"clear",
     [](world& w) {
       w.cache[0].clear();
       return status();
     },
     false},
    {"match",
     [](world& w) {
       EXPECT_EQ(w.cache[0].match(known, "a").tokens, 10);
       return status();
     }},
    {"match_batch",
     [](world& w) {
       const open_request requests[] = {{known, "a"}, {fresh, "new"}, {few, "b"}};
       prefix_match out[3];
       w.cache[0].match_batch(requests, out);
       EXPECT_EQ(out[0].tokens, 10);
       return status();
     }},
    {"statistics",
     [](world& w) {
       EXPECT_EQ(w.cache[0].statistics().sequences, 1);
       return status();
     }},
    {"sequences", [](world& w) { return status_of(w.cache[0].sequences()); }},
    {"dump", [](world& w) { return status_of(w.cache[0].dump()); }},
    {"for_each_prefix",
     [](world& w) {
       return w.cache[0].for_each_prefix(
           [](std::string_view, std::span<const token_id>) { return true; });
     }},
    {"report_failure",
     [](world& w) {
       step_plan other;
       w.cache[0].report_failure(other);
       return status();
     }},
};

// Errors that are no lack of memory stay what they are, or become one.
const scenario refusals[] = {
    {"empty prompt", [](world& w) { return keep(w, w.cache[0].open({}, "", w.plan)); }},
    {"too large", [](world& w) { return keep(w, w.cache[0].open(too_large, "", w.plan)); }},
    {"no room",
     [](world& w) { return w.open[0].reserve(24 * 4 - w.open[0].tokens() + 1, w.plan); }},
    {"accept without room", [](world& w) { return w.open[0].accept(large); }},
    {"mark beyond", [](world& w) { return w.open[0].mark_filled(50); }},
    {"truncate beyond", [](world& w) { return w.open[0].truncate(50); }},
    {"commit beyond", [](world& w) { return status_of(w.open[0].commit(50)); }},
    {"negative row", [](world& w) { return status_of(w.open[0].commit_logits(11, -1, w.plan)); }},
    {"no logits", [](world& w) { return w.open[0].load_logits(0, w.plan); }},
    {"released",
     [](world& w) {
       sequence gone;
       return gone.reserve(1, w.plan);
     }},
};

class alloc_failures : public ::testing::TestWithParam<std::tuple<const char*, bool>> {
 protected:
  [[nodiscard]] std::string policy() const { return std::get<0>(GetParam()); }
  [[nodiscard]] bool from_then_on() const { return std::get<1>(GetParam()); }
};

TEST_P(alloc_failures, every_operation_reports_them_and_changes_nothing) {
  std::int64_t failures = 0;
  for (const scenario& sc : scenarios) {
    for (std::int64_t n = 0;; ++n) {
      ASSERT_LT(n, 1000) << sc.name << " never passes";
      const std::int64_t live = live_allocations();
      bool fired = false;
      {
        world w(policy());
        ASSERT_EQ(w.cache[0].check_invariants(), "") << sc.name;
        const std::string before = w.state();
        status done;
        {
          alloc_failure failing(n, from_then_on());
          done = sc.run(w);
          failing.stop();
          fired = failing.fired();
        }
        const std::string where = std::string(sc.name) + ", allocation " + std::to_string(n);
        ASSERT_EQ(w.cache[0].check_invariants(), "") << where;
        if (!done) {
          ASSERT_TRUE(fired) << where << ": " << done.error().message;
          ASSERT_EQ(done.error().code, errc::out_of_memory) << where;
          ASSERT_FALSE(done.error().message.empty()) << where;
          if (sc.all_or_nothing) {
            ASSERT_EQ(w.state(), before) << where;
          }
          const status again = sc.run(w);
          ASSERT_TRUE(again.ok()) << where << ": " << again.error().message;
          ASSERT_EQ(w.cache[0].check_invariants(), "") << where;
          ++failures;
        }
        w.open.clear();
        ASSERT_EQ(w.cache[0].statistics().blocks_used, w.cache[0].statistics().blocks_cached);
        w.cache[0].clear();
        ASSERT_EQ(w.cache[0].statistics().blocks_free, 24) << where;
        ASSERT_EQ(w.cache[0].check_invariants(), "") << where;
      }
      ASSERT_EQ(live_allocations(), live) << sc.name << ", allocation " << n << " leaks";
      if (!fired) break;
    }
  }
  EXPECT_GT(failures, 20);
}

TEST_P(alloc_failures, refusals_need_no_memory_to_be_told) {
  for (const scenario& sc : refusals) {
    for (std::int64_t n = 0;; ++n) {
      world w(policy());
      const std::string before = w.state();
      alloc_failure failing(n, from_then_on());
      const status done = sc.run(w);
      failing.stop();
      ASSERT_FALSE(done.ok()) << sc.name;
      ASSERT_FALSE(done.error().message.empty()) << sc.name;
      ASSERT_EQ(w.state(), before) << sc.name << ", allocation " << n;
      if (!failing.fired()) break;
    }
  }
}

// A batch stops at the request whose allocation was refused; those before it stay open.
TEST_P(alloc_failures, a_batch_stops_where_memory_is_refused) {
  const open_request requests[] = {{known, "a"}, {fresh, "new"}, {few, "b"}};
  for (std::int64_t n = 0;; ++n) {
    ASSERT_LT(n, 1000);
    const std::int64_t live = live_allocations();
    bool fired = false;
    {
      world w(policy());
      alloc_failure failing(n, from_then_on());
      open_batch_result opened = w.cache[0].open_batch(requests, w.plan);
      failing.stop();
      fired = failing.fired();
      ASSERT_EQ(w.cache[0].check_invariants(), "") << n;
      ASSERT_EQ(w.cache[0].statistics().sequences,
                static_cast<std::int64_t>(opened.sequences.size()) + 1);
      if (opened.sequences.size() < 3) {
        ASSERT_TRUE(fired);
        ASSERT_EQ(opened.stopped.code, errc::out_of_memory);
        ASSERT_FALSE(opened.stopped.message.empty());
      }
      for (std::size_t i = 0; i < opened.sequences.size(); ++i) {
        std::vector<token_id> back(requests[i].tokens.size());
        opened.sequences[i].read_tokens(0, back);
        ASSERT_TRUE(std::ranges::equal(back, requests[i].tokens));
      }
      const auto rest = std::span(requests).subspan(opened.sequences.size());
      const open_batch_result again = w.cache[0].open_batch(rest, w.plan);
      ASSERT_EQ(again.sequences.size(), rest.size()) << again.stopped.message;
      ASSERT_EQ(w.cache[0].check_invariants(), "") << n;
    }
    ASSERT_EQ(live_allocations(), live) << "allocation " << n << " leaks";
    if (!fired) break;
  }
}

TEST_P(alloc_failures, creation_reports_them) {
  std::int64_t failures = 0;
  for (std::int64_t n = 0;; ++n) {
    const std::int64_t live = live_allocations();
    bool fired = false;
    {
      cache_options o;
      o.blocks = 24;
      o.logits_rows = 4;
      o.policy = policy();
      alloc_failure failing(n, from_then_on());
      result<kv_cache> made = kv_cache::create(std::move(o));
      failing.stop();
      fired = failing.fired();
      if (!made) {
        ASSERT_EQ(made.error().code, errc::out_of_memory) << made.error().message;
        ++failures;
      }
      ASSERT_TRUE(fired || made.ok());
    }
    ASSERT_EQ(live_allocations(), live) << "allocation " << n << " leaks";
    if (!fired) break;
  }
  EXPECT_GT(failures, 0);
}

INSTANTIATE_TEST_SUITE_P(policies, alloc_failures,
                         ::testing::Combine(::testing::Values("fifo"), ::testing::Bool()),
                         [](const auto& p) {
                           return std::string(std::get<0>(p.param)) +
                                  (std::get<1>(p.param) ? "_all" : "_one");
                         });

// Runs `what` with the nth allocation failing until it passes without; `what` returns its error.
template <typename What>
std::int64_t fail_each(bool from_then_on, What what) {
  std::int64_t failures = 0;
  for (std::int64_t n = 0; n < 10000; ++n) {
    const std::int64_t live = live_allocations();
    bool fired = false;
    {
      alloc_failure failing(n, from_then_on);
      const status done = what(failing);
      failing.stop();
      fired = failing.fired();
      EXPECT_TRUE(fired || done.ok());
      if (!done) {
        EXPECT_EQ(done.error().code, errc::out_of_memory);
        ++failures;
      }
    }
    EXPECT_EQ(live_allocations(), live) << "allocation " << n << " leaks";
    if (!fired) return failures;
  }
  ADD_FAILURE() << "never passes";
  return failures;
}

class alloc_failures_of_parts : public ::testing::TestWithParam<bool> {};

TEST_P(alloc_failures_of_parts, plans_and_executors_report_them) {
  step_plan plan;
  plan.copies = {{0, 1, 4}, {2, 3, 2}};
  const std::vector<std::byte> bytes = plan.serialize();
  EXPECT_GT(fail_each(GetParam(),
                      [&](alloc_failure& failing) {
                        result<step_plan> read = step_plan::deserialize(bytes);
                        failing.stop();
                        EXPECT_TRUE(!read || *read == plan);
                        return status_of(std::move(read));
                      }),
            0);
  EXPECT_GT(fail_each(GetParam(),
                      [&](alloc_failure& failing) {
                        const std::vector<std::byte> written = plan.serialize();
                        failing.stop();
                        if (written.empty()) return status(errc::out_of_memory, "empty");
                        EXPECT_EQ(written, bytes);
                        return status();
                      }),
            0);
  const layout_shape shape{.blocks = 8, .block_tokens = 4, .layers = 2, .head_bytes = 8};
  EXPECT_GT(fail_each(GetParam(),
                      [&](alloc_failure&) {
                        memory_layout layout = layout_nhd(shape);
                        if (layout.planes.empty()) return status(errc::out_of_memory, "no planes");
                        result<host_executor> made = host_executor::create(std::move(layout));
                        if (!made) return status(std::move(made).error());
                        return made->run(plan);
                      }),
            0);
  // A refused plan and a failed operation are reported with or without memory for the message.
  host_executor executor = host_executor::create(layout_nhd(shape)).value();
  for (std::int64_t n = 0;; ++n) {
    step_plan wrong = plan;
    wrong.copies[1].source = 99;
    alloc_failure failing(n, GetParam());
    EXPECT_FALSE(executor.run(wrong).ok());
    EXPECT_EQ(executor.operations_run(), 0);
    executor.fail_operation(1);
    EXPECT_FALSE(executor.run(plan).ok());
    EXPECT_EQ(executor.operations_run(), 1);
    executor.fail_operation(-1);
    failing.stop();
    if (!failing.fired()) break;
  }
}

INSTANTIATE_TEST_SUITE_P(one_or_all, alloc_failures_of_parts, ::testing::Bool());

}  // namespace
}  // namespace radixkv::testing
