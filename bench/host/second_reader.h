// Two threads that do the same at once, and how fast they are together.
#pragma once

#include <barrier>
#include <cstdint>
#include <exception>
#include <functional>
#include <thread>

#include "bench/host/core_share.h"
#include "bench/host/stopwatch.h"
#include "bench/host/time_series.h"

namespace radixkv::bench {

// What a thread does with the seed of its random choices.
using reading = std::function<void(std::uint64_t)>;

// A second thread that does whenever told what the first one does.
//
// Thread-safety: one thread owns it and calls it.
class second_reader {
 public:
  second_reader() : thread_([this] { run(); }) {}
  second_reader(const second_reader&) = delete;
  second_reader& operator=(const second_reader&) = delete;
  ~second_reader() {
    work_ = nullptr;
    together_.arrive_and_wait();
    thread_.join();
  }

  // Both work, from about the same moment on: adds the time that each would have taken had both
  // been as fast, so that their throughput is the sum of the two. Throws what the work throws in
  // either thread, once both have ended.
  void add_to(time_series& times, const reading& work, std::uint64_t my_seed,
              std::uint64_t other_seed) {
    work_ = &work;
    seed_ = other_seed;
    together_.arrive_and_wait();
    const turn mine = take_turn(work, my_seed);
    together_.arrive_and_wait();
    if (mine.failure) std::rethrow_exception(mine.failure);
    if (theirs_.failure) std::rethrow_exception(theirs_.failure);
    times.put(2 / (1 / mine.time + 1 / theirs_.time), mine.whole && theirs_.whole);
  }

 private:
  struct turn {
    double time = 0;  // nanoseconds
    bool whole = false;
    std::exception_ptr failure;
  };

  void run() {
    (void)core_share::of_thread();
    for (;;) {
      together_.arrive_and_wait();
      if (work_ == nullptr) return;
      theirs_ = take_turn(*work_, seed_);
      together_.arrive_and_wait();
    }
  }
  // Keeps what the work throws: the other thread waits for this one.
  turn take_turn(const reading& work, std::uint64_t seed) {
    turn t;
    {
      const on_whole_core alone;
      together_.arrive_and_wait();
      try {
        t.time = time_of([&] { work(seed); });
      } catch (...) {
        t.failure = std::current_exception();
      }
    }
    t.whole = core_share::of_thread().was_whole();
    return t;
  }

  std::barrier<> together_{2};
  // Written and read on different sides of the barrier.
  const reading* work_ = nullptr;
  std::uint64_t seed_ = 0;
  turn theirs_;
  std::thread thread_;
};

}  // namespace radixkv::bench
