// Two threads that work at once: each as often as told, and neither waits for one that failed.
#include <algorithm>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "bench/host/second_reader.h"

namespace radixkv::bench {
namespace {

TEST(second_reader, both_threads_work_with_their_seeds) {
  core_share::wait_at_most(0);
  std::mutex lock;
  std::vector<std::uint64_t> mine;
  std::vector<std::uint64_t> others;
  const std::thread::id me = std::this_thread::get_id();
  const reading note = [&](std::uint64_t seed) {
    const std::lock_guard held(lock);
    (std::this_thread::get_id() == me ? mine : others).push_back(seed);
  };
  time_series times;
  {
    second_reader other;
    for (std::uint64_t turn = 0; turn < 5; ++turn) other.add_to(times, note, turn, 10 + turn);
  }
  EXPECT_EQ(mine, (std::vector<std::uint64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(others, (std::vector<std::uint64_t>{10, 11, 12, 13, 14}));
}

// And what failed once works again.
TEST(second_reader, what_a_thread_throws_arrives_and_nobody_waits) {
  core_share::wait_at_most(0);
  const reading fail_on_one = [](std::uint64_t seed) {
    if (seed == 1) throw std::runtime_error("seed 1");
  };
  time_series times;
  for (const auto& [mine, others] : {std::pair{1, 0}, {0, 1}, {1, 1}}) {
    second_reader other;
    for (int i = 0; i < 2; ++i) {
      try {
        other.add_to(times, fail_on_one, static_cast<std::uint64_t>(mine),
                     static_cast<std::uint64_t>(others));
        ADD_FAILURE() << "nothing was thrown";
      } catch (const std::runtime_error& e) {
        EXPECT_EQ(e.what(), std::string("seed 1"));
      }
    }
    other.add_to(times, fail_on_one, 0, 0);
  }
}

}  // namespace
}  // namespace radixkv::bench
