#include "tests/core/alloc_failure_world.h"

#include "tests/support/alloc_failure.h"

namespace radixkv::testing {

namespace {

// One world, one operation, its nth allocation refused. Returns whether one was.
bool fail_nth(const scenario& sc, const std::string& policy, std::int64_t n, bool from_then_on,
              std::int64_t& failures) {
  const std::string where = policy + ", " + sc.name + ", allocation " + std::to_string(n);
  world w(policy);
  if (sc.prepare) sc.prepare(w);
  EXPECT_EQ(w.cache[0].check_invariants(), "") << where;
  const std::string before = w.state();
  alloc_failure failing(n, from_then_on);
  const status done = sc.run(w);
  failing.stop();
  const bool fired = failing.fired();
  EXPECT_EQ(w.cache[0].check_invariants(), "") << where;
  if (!done) {
    ++failures;
    EXPECT_TRUE(fired) << where << ": " << done.error().message;
    EXPECT_EQ(done.error().code, errc::out_of_memory) << where;
    EXPECT_FALSE(done.error().message.empty()) << where;
    if (sc.all_or_nothing) {
      EXPECT_EQ(w.state(), before) << where;
      // Of every other failure what goes next is looked at, of the rest the operation tried again.
      if (n % 2 == 1) {
        world untouched(policy);
        if (sc.prepare) sc.prepare(untouched);
        EXPECT_EQ(w.drain(), untouched.drain()) << where;
        w.close(where);
        return fired;
      }
    }
    const status again = sc.run(w);
    EXPECT_TRUE(again.ok()) << where << ": " << again.error().message;
    EXPECT_EQ(w.cache[0].check_invariants(), "") << where;
  }
  if (sc.then) sc.then(w);
  w.close(where);
  return fired;
}

}  // namespace

void fail_each_allocation(std::span<const scenario> scenarios, const std::string& policy,
                          bool from_then_on) {
  std::int64_t failures = 0;
  for (const scenario& sc : scenarios) {
    bool fired = true;
    for (std::int64_t n = 0; fired; ++n) {
      ASSERT_LT(n, 1000) << sc.name << " never passes";
      const std::int64_t live = live_allocations();
      fired = fail_nth(sc, policy, n, from_then_on, failures);
      ASSERT_FALSE(::testing::Test::HasFailure()) << policy << ", " << sc.name;
      ASSERT_EQ(live_allocations(), live) << sc.name << ", allocation " << n << " leaks";
    }
  }
  EXPECT_GT(failures, 20);
}

void refuse_with_each_allocation_failing(std::span<const scenario> refusals,
                                         const std::string& policy, bool from_then_on) {
  for (const scenario& sc : refusals) {
    bool fired = true;
    for (std::int64_t n = 0; fired; ++n) {
      ASSERT_LT(n, 1000) << sc.name << " never passes";
      world w(policy);
      if (sc.prepare) sc.prepare(w);
      const std::string before = w.state();
      alloc_failure failing(n, from_then_on);
      const status done = sc.run(w);
      failing.stop();
      fired = failing.fired();
      ASSERT_FALSE(done.ok()) << sc.name;
      ASSERT_FALSE(done.error().message.empty()) << sc.name;
      ASSERT_EQ(w.state(), before) << sc.name << ", allocation " << n;
    }
  }
}

std::int64_t fail_each(bool from_then_on, const std::function<status(alloc_failure&)>& what) {
  std::int64_t failures = 0;
  for (std::int64_t n = 0; n < 10'000; ++n) {
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

}  // namespace radixkv::testing
