#include "csrc/cli/progress_bar.h"

#include <algorithm>
#include <cstdio>

#include <unistd.h>

namespace radixkv::cli {

progress_bar::progress_bar(std::string label, std::uint64_t total)
    : label_(std::move(label)),
      total_(std::max<std::uint64_t>(total, 1)),
      shown_(::isatty(STDERR_FILENO) == 1) {}

progress_bar::~progress_bar() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
}

bool progress_bar::due() {
  const auto now = std::chrono::steady_clock::now();
  if (now < next_) return false;
  next_ = now + std::chrono::milliseconds(100);
  return true;
}

void progress_bar::draw(std::uint64_t done, const std::string& note) {
  constexpr std::uint64_t width = 30;
  const std::uint64_t filled = std::min(width, width * done / total_);
  std::string bar;
  for (std::uint64_t i = 0; i < width; ++i) bar += i < filled ? '#' : '.';
  std::fprintf(stderr, "\r%s [%s] %3.0f %%  %s\x1b[K", label_.c_str(), bar.c_str(),
               100.0 * static_cast<double>(std::min(done, total_)) / static_cast<double>(total_),
               note.c_str());
  drawn_ = true;
}

}  // namespace radixkv::cli
