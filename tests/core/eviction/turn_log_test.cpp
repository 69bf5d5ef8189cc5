// Entries are found wherever the log has moved them to.
#include "csrc/core/eviction/turn_log.h"

#include <array>
#include <cstdint>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace radixkv::detail {
namespace {

struct logged {
  turn_log log;
  std::vector<std::uint32_t> place;  // by run, low bits; what the owner keeps
  std::vector<bool> present;

  run_id add() {
    EXPECT_TRUE(log.reserve(1));
    const auto r = static_cast<run_id>(place.size());
    log_entry e;
    e.run = r;
    e.turn = r;
    place.push_back(static_cast<std::uint32_t>(log.push(e)));
    present.push_back(true);
    return r;
  }
  void clear(run_id r) {
    log.clear(log.position(place[r]));
    present[r] = false;
  }
  // The position of the first run from r on, or the end.
  [[nodiscard]] std::uint64_t first_from(run_id r) const {
    while (r < place.size() && !present[r]) ++r;
    return r < place.size() ? log.position(place[r]) : log.end();
  }
};

TEST(turn_log, closes_its_gaps_and_keeps_what_is_left_in_order) {
  for (const std::uint32_t keep_one_in : {1u, 2u, 7u, 1000u}) {
    std::mt19937 random(keep_one_in);
    logged l;
    for (int round = 0; round < 6; ++round) {
      for (int i = 0; i < 300; ++i) l.add();
      for (run_id r = 0; r < l.place.size(); ++r)
        if (l.present[r] && random() % keep_one_in != 0) l.clear(r);
      ASSERT_EQ(l.log.check(), "");
      // At the beginning, at the end, and at a run that is there or not, in order.
      const run_id middle = 300 * round + 150;
      const bool known = l.log.position(l.place[middle]) >= l.log.begin();
      std::array<std::uint64_t, 4> at{l.log.begin(),
                                      known ? l.log.position(l.place[middle]) : l.log.begin(),
                                      l.log.end() - 1, l.log.end()};
      const run_id last = static_cast<run_id>(l.place.size()) - 1;
      std::array<std::uint64_t*, 4> places{&at[0], &at[1], &at[2], &at[3]};
      std::size_t left = 0, told = 0;
      for (const bool p : l.present) left += p;
      const std::uint64_t end = l.log.end();
      l.log.close_gaps(places, [&](run_id r, std::uint64_t position) {
        ASSERT_TRUE(l.present[r]);
        l.place[r] = static_cast<std::uint32_t>(position);
        ++told;
      });
      ASSERT_EQ(l.log.check(), "");
      EXPECT_EQ(told, left);
      EXPECT_EQ(l.log.size(), left) << "entries that are cleared are left";
      EXPECT_EQ(l.log.end(), end);
      EXPECT_EQ(at[0], l.log.begin());
      EXPECT_EQ(at[1], known ? l.first_from(middle) : l.log.begin());
      EXPECT_EQ(at[2], l.first_from(last));
      EXPECT_EQ(at[3], end);
      std::uint64_t before = 0;
      for (run_id r = 0; r < l.place.size(); ++r) {
        if (!l.present[r]) continue;
        ASSERT_NE(l.log.find(r, l.place[r]), nullptr) << "run " << r;
        EXPECT_EQ(l.log.find(r, l.place[r])->turn, r);
        EXPECT_GE(l.log.position(l.place[r]), before);
        before = l.log.position(l.place[r]) + 1;
      }
    }
  }
}

}  // namespace
}  // namespace radixkv::detail
