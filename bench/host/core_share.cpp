#include "bench/host/core_share.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "csrc/core/stage_timer.h"

namespace radixkv::bench {

namespace {

using clock = std::chrono::steady_clock;

constexpr double longest_wait = 0.3;  // seconds: whiles of sharing mostly take 0.1
double longest_waits = 5;             // seconds, of a thread between two calls of take()

// Ticks that some microsecond of additions takes, four of which a core can do at once.
std::uint64_t time_of_additions() {
  std::uint64_t a = 1;
  std::uint64_t b = 2;
  std::uint64_t c = 3;
  std::uint64_t d = 4;
  const std::uint64_t begin = detail::ticks_now();
  for (int i = 0; i < 2000; ++i) {
    a += 5, b += 5, c += 5, d += 5;
    asm volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d));  // not to be summed up
    a += 7, b += 7, c += 7, d += 7;
    asm volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d));
  }
  return detail::ticks_now() - begin;
}

double seconds_since(clock::time_point begin) {
  return std::chrono::duration<double>(clock::now() - begin).count();
}

}  // namespace

core_share& core_share::of_thread() {
  thread_local core_share one;
  return one;
}

core_share::core_share() : fastest_(time_of_additions()) {
  const clock::time_point begin = clock::now();
  while (seconds_since(begin) < longest_wait) fastest_ = std::min(fastest_, time_of_additions());
}

// A core whose clock varies a little is. Twice, since the loop itself may have to come from memory.
bool core_share::is_whole() {
  const std::uint64_t first = time_of_additions();
  const std::uint64_t time = std::min(first, time_of_additions());
  fastest_ = std::min(fastest_, time);
  return time * 5 < fastest_ * 6;
}

void core_share::begin() {
  was_whole_ = is_whole();
  if (was_whole_) return;
  const clock::time_point begin = clock::now();
  const double patience = std::min(longest_wait, longest_waits - times_.waited);
  double waited = 0;
  while (!was_whole_ && waited < patience) {
    was_whole_ = is_whole();
    waited = seconds_since(begin);
  }
  times_.waited += waited;
}

void core_share::end() {
  was_whole_ = was_whole_ && is_whole();
  ++(was_whole_ ? times_.whole : times_.shared);
}

void core_share::wait_at_most(double seconds) { longest_waits = seconds; }

core_times core_share::take() { return std::exchange(times_, {}); }

}  // namespace radixkv::bench
