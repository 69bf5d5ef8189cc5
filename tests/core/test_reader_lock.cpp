// The lock for data that is read all the time: readers of all its parts against a writer.
#include <atomic>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "csrc/core/reader_lock.h"

namespace radixkv::detail {
namespace {

// More threads than the lock has parts, so that some share one. ThreadSanitizer sees the plain
// values.
TEST(reader_lock, readers_never_see_half_a_change) {
  constexpr int readers = 10;
  constexpr int changes = 200;
  reader_lock lock;
  std::int64_t first = 0;
  std::int64_t second = 0;
  std::atomic<bool> stop{false};
  std::atomic<int> torn{0};
  std::atomic<std::int64_t> reads{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < readers; ++i) {
    threads.emplace_back([&] {
      do {
        std::shared_lock held(lock);
        torn += first != second;
        ++reads;
      } while (!stop);
    });
  }
  for (int i = 0; i < changes; ++i) {
    std::unique_lock held(lock);
    ++first;
    std::this_thread::yield();
    ++second;
  }
  stop = true;
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(torn, 0);
  EXPECT_GE(reads, readers);
  EXPECT_EQ(first, changes);
}

// Readers do not wait for one another, whichever parts they use.
TEST(reader_lock, readers_share) {
  reader_lock lock;
  std::shared_lock held(lock);
  std::thread([&] { std::shared_lock other(lock); }).join();
}

}  // namespace
}  // namespace radixkv::detail
