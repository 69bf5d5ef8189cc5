// Which times a benchmark's medians are of: those with the core whole, if they are enough.
#include <gtest/gtest.h>

#include "bench/host/core_share.h"
#include "bench/host/time_series.h"

namespace radixkv::bench {
namespace {

constexpr double with_whole_core = 1;
constexpr double with_shared_core = 9;

time_series make(int whole, int shared) {
  time_series t;
  for (int i = 0; i < shared; ++i) t.put(with_shared_core, false);
  for (int i = 0; i < whole; ++i) t.put(with_whole_core, true);
  return t;
}

TEST(time_series, only_times_with_the_core_whole_count) {
  for (const auto& [whole, shared] : {std::pair{3, 0}, {3, 3}, {3, 11}, {4, 14}, {100, 302}}) {
    time_series t = make(whole, shared);
    EXPECT_EQ(t.median(), with_whole_core) << whole << " " << shared;
    EXPECT_EQ(t.quantile(1), with_whole_core) << whole << " " << shared;
  }
}

TEST(time_series, all_times_count_where_few_had_the_core_whole) {
  for (const auto& [whole, shared] : {std::pair{0, 1}, {0, 100}, {2, 1}, {3, 12}, {100, 303}}) {
    time_series t = make(whole, shared);
    EXPECT_EQ(t.quantile(1), with_shared_core) << whole << " " << shared;
    if (whole > 0) {
      EXPECT_EQ(t.quantile(0), with_whole_core) << whole << " " << shared;
    }
  }
}

// However often they are asked for.
TEST(time_series, every_time_counts_once) {
  time_series t;
  t.put(1, true);
  t.put(2, true);
  for (const double shared : {3, 4, 5}) t.put(shared, false);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(t.median(), 3);
    for (int k = 0; k < 5; ++k) EXPECT_EQ(t.quantile(k / 4.0), k + 1);
  }
  // Nor when they go on to another: 23 in all, of which the first 18 are the least.
  time_series all;
  for (int i = 0; i < 18; ++i) all.put(0, false);
  all.add_all(t);
  EXPECT_EQ(all.quantile(18 / 22.0), 1);
}

TEST(time_series, takes_what_another_has_found) {
  time_series few = make(2, 6);
  EXPECT_EQ(make(2, 6).median(), with_shared_core);
  few.add_all(make(2, 1));
  EXPECT_EQ(few.quantile(1), with_whole_core);
  few.add_all(make(0, 8));
  EXPECT_EQ(few.quantile(1), with_shared_core);
}

// Whatever the core did meanwhile, which this cannot choose: each is there once, and its thread
// counts a scope for each group.
TEST(time_series, groups_are_timed) {
  (void)core_share::of_thread().take();
  core_share::wait_at_most(0);
  time_series t;
  int done = 0;
  for (int g = 0; g < 20; ++g) {
    t.group([&] {
      t.add([&] { ++done; });
      t.add([&] { ++done; });
    });
  }
  t.add_alone([&] { ++done; });
  EXPECT_EQ(done, 41);
  t.groups_of(3, 10, [&] { t.add([&] { ++done; }); });  // 3, 3, 3 and 1
  EXPECT_EQ(done, 51);
  EXPECT_GE(t.quantile(0), 0);
  const core_times core = core_share::of_thread().take();
  EXPECT_EQ(core.whole + core.shared, 25u);
  EXPECT_EQ(core.waited, 0);
  const core_times since = core_share::of_thread().take();
  EXPECT_EQ(since.whole + since.shared, 0u);
}

}  // namespace
}  // namespace radixkv::bench
