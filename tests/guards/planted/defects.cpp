// Planted defects, one per sanitizer: `planted_defects NAME`. Each must make its sanitizer fire; a
// sanitizer build that lets one pass did not sanitise.
#include <climits>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>

namespace {

// Hides a value from the optimiser, which would otherwise remove the defect.
template <typename T>
T opaque(T value) {
  asm volatile("" : "+r"(value));
  return value;
}

int overflow() {
  const std::unique_ptr<int[]> values(new int[4]{});
  return opaque(values.get())[opaque(4)];
}

int use_after_free() {
  int* value = opaque(new int(1));
  delete value;
  return *opaque(value);
}

int leak() {
  opaque(new int[100]);
  return 0;
}

int undefined() { return opaque(INT_MAX) + opaque(1); }

int race() {
  int shared = 0;
  int* p = opaque(&shared);
  std::thread other([p] { *p = 1; });
  *p = 2;
  other.join();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const char* name = argc > 1 ? argv[1] : "";
  int value = 0;
  if (std::strcmp(name, "overflow") == 0) {
    value = overflow();
  } else if (std::strcmp(name, "use_after_free") == 0) {
    value = use_after_free();
  } else if (std::strcmp(name, "leak") == 0) {
    value = leak();
  } else if (std::strcmp(name, "undefined") == 0) {
    value = undefined();
  } else if (std::strcmp(name, "race") == 0) {
    value = race();
  } else {
    std::fprintf(stderr, "no defect called '%s'\n", name);
    return 2;
  }
  std::printf("%s went unnoticed (%d)\n", name, value);
  return 0;
}
