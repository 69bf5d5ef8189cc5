// A progress bar on standard error, shown only when that is a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace radixkv::cli {

// Thread-safety: used by one thread.
class progress_bar {
 public:
  // Counts up to `total`.
  progress_bar(std::string label, std::uint64_t total);
  progress_bar(const progress_bar&) = delete;
  progress_bar& operator=(const progress_bar&) = delete;
  ~progress_bar();  // erases the bar

  // Draws at most ten times a second. `note` stands behind the bar; it is only called to draw.
  template <typename Note>
  void update(std::uint64_t done, Note&& note) {
    if (shown_ && due()) draw(done, note());
  }

 private:
  [[nodiscard]] bool due();
  void draw(std::uint64_t done, const std::string& note);

  std::string label_;
  std::uint64_t total_;
  bool shown_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point next_{};
};

}  // namespace radixkv::cli
