// Whether this thread has a processor core to itself.
//
// A core that runs two threads gives each about half of its execution units and first-level caches
// while both compute. On a machine that is shared the other one may be anybody's, which no counter
// here tells; a loop of independent additions does, since it takes twice as long then. So what is
// timed waits for such a while to pass, and is counted if it met one all the same. Some pass never
// (the other one is a thread of this program, or the clock has become slower), so waiting has a
// limit.
//
// Thread-safety: each thread has its own.
#pragma once

#include <cstdint>

namespace radixkv::bench {

struct core_times {
  std::uint64_t whole = 0;   // scopes before and after which the core was whole
  std::uint64_t shared = 0;  // others
  double waited = 0;         // for it to be whole, seconds
};

class core_share {
 public:
  // Takes a third of a second at first.
  static core_share& of_thread();
  // Seconds that each thread waits at most between two calls of take(). Call before any is used.
  static void wait_at_most(double seconds);
  // What there was since the last call of this.
  core_times take();
  // Whether the core was whole before and after what was timed last.
  [[nodiscard]] bool was_whole() const noexcept { return was_whole_; }

 private:
  friend class on_whole_core;
  core_share();
  [[nodiscard]] bool is_whole();
  void begin();
  void end();

  std::uint64_t fastest_;  // loop, in ticks
  bool was_whole_ = false;
  core_times times_;
};

// Around something that is timed: waits until the core is whole, but not for long. Takes two or
// three microseconds before and after.
class on_whole_core {
 public:
  on_whole_core() { core_share::of_thread().begin(); }
  ~on_whole_core() { core_share::of_thread().end(); }
  on_whole_core(const on_whole_core&) = delete;
  on_whole_core& operator=(const on_whole_core&) = delete;
};

}  // namespace radixkv::bench
