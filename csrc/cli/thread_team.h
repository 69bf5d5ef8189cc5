// Threads that work side by side until all of them are done.
#pragma once

#include <atomic>
#include <functional>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "radixkv/result.h"

namespace radixkv::cli {

// Thread-safety: of one thread.
class thread_team {
 public:
  // What is started ends by itself, or soon after `stop` is set, which the destructor does.
  explicit thread_team(std::atomic<bool>& stop) noexcept : stop_(stop) {}
  thread_team(const thread_team&) = delete;
  thread_team& operator=(const thread_team&) = delete;
  ~thread_team() {
    stop_ = true;
    join();
  }

  // One more thread, of `wanted` in all, which must not throw. Errors: out_of_memory (the system
  // refuses another thread); those that run go on.
  status start(std::function<void()> work, unsigned wanted) try {
    threads_.reserve(wanted);
    threads_.emplace_back(std::move(work));
    return {};
  } catch (const std::system_error& e) {
    return refused(wanted, e.code().message());
  } catch (const std::bad_alloc&) {
    return refused(wanted, "no memory");
  }

  // Waits for all of them.
  void join() {
    for (std::thread& t : threads_) t.join();
    threads_.clear();
  }

 private:
  status refused(unsigned wanted, const std::string& why) const {
    return {errc::out_of_memory, "cannot start thread " + std::to_string(threads_.size() + 1) +
                                     " of " + std::to_string(wanted) + ": " + why};
  }

  std::atomic<bool>& stop_;
  std::vector<std::thread> threads_;
};

}  // namespace radixkv::cli
