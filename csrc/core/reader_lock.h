// A lock for data that is read all the time and changed rarely.
//
// Readers of one std::shared_mutex write to the same cache line, which then wanders between their
// cores: two readers are slower together than one alone. Here every thread reads under one of
// several mutexes, and who changes something takes them all. Nobody begins to read while someone
// waits to change: readers that follow one another without a gap would keep him out for ever.
//
// Thread-safety: that is what it is for. Meets the standard's SharedMutex as far as
// std::shared_lock and std::unique_lock need it; a thread must not lock it twice.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <shared_mutex>
#include <thread>

namespace radixkv::detail {

class reader_lock {
 public:
  void lock_shared() {
    while (changing_.load(std::memory_order_relaxed)) std::this_thread::yield();
    mine().lock_shared();
  }
  void unlock_shared() { mine().unlock_shared(); }
  void lock() {
    writers_.lock();
    changing_.store(true, std::memory_order_relaxed);
    for (shard& s : shards_) s.mutex.lock();
  }
  void unlock() {
    for (shard& s : shards_) s.mutex.unlock();
    changing_.store(false, std::memory_order_relaxed);
    writers_.unlock();
  }

 private:
  // More than threads that match at the same moment have to meet in one of them, mostly; few enough
  // that taking them all stays far below a microsecond.
  static constexpr std::size_t count = 8;
  // Two lines each: processors fetch the neighbour of a line with it, and it would wander as well.
  struct alignas(128) shard {
    std::shared_mutex mutex;
  };

  [[nodiscard]] std::shared_mutex& mine() noexcept {
    static std::atomic<std::size_t> threads{0};
    thread_local const std::size_t number = threads.fetch_add(1, std::memory_order_relaxed);
    return shards_[number % count].mutex;
  }

  std::array<shard, count> shards_;
  std::mutex writers_;
  std::atomic<bool> changing_{false};  // a writer waits or is at work
};

}  // namespace radixkv::detail
