// The radixkv program with requests that are lost or leave memory behind when they end:
//   planted_soak_defects lost_sequences|growth|none soak …
// Linked with --wrap, so that everything but the end of a sequence is the program's own.
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "csrc/cli/program.h"
#include "radixkv/sequence.h"

namespace {

std::string_view defect;
std::atomic<unsigned> ended{0};
std::mutex mutex;
// Reachable, so that no leak checker but the soak's own has something to say.
std::vector<radixkv::sequence>* lost = nullptr;
std::vector<std::vector<std::byte>>* left_behind = nullptr;

constexpr unsigned one_in = 500;                      // requests that are lost
constexpr unsigned one_in_leaves = 20;                // requests that leave memory behind
constexpr std::size_t left_behind_bytes = 256 << 10;  // each

}  // namespace

// radixkv::sequence::~sequence(), as the linker knows it: NOLINTBEGIN
extern "C++" void real_end(radixkv::sequence*) asm("__real__ZN7radixkv8sequenceD1Ev");
extern "C++" void wrapped_end(radixkv::sequence*) asm("__wrap__ZN7radixkv8sequenceD1Ev");
// NOLINTEND

void wrapped_end(radixkv::sequence* s) {
  if (!s->released() && lost != nullptr) {
    const unsigned n = ++ended;
    const std::lock_guard lock(mutex);
    if (defect == "lost_sequences" && n % one_in == 0) lost->push_back(std::move(*s));
    if (defect == "growth" && n % one_in_leaves == 0) {
      left_behind->emplace_back(left_behind_bytes, std::byte{1});
    }
  }
  real_end(s);
}

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: planted_soak_defects lost_sequences|growth|none soak …\n");
    return 2;
  }
  defect = argv[1];
  lost = new std::vector<radixkv::sequence>;
  left_behind = new std::vector<std::vector<std::byte>>;
  return radixkv::cli::run_program(argc - 1, argv + 1);
}
