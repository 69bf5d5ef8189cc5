// The façade: the input's bytes choose a cache's options and the operations on it, and the model
// checks each one.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>

#include "tests/fuzz/fuzz_check.h"
#include "tests/support/cache_model.h"

namespace {

// A number below n from as many bytes as it needs; zeros once they are used up.
class byte_source {
 public:
  explicit byte_source(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  [[nodiscard]] std::uint32_t below(std::uint32_t n) {
    std::uint32_t value = 0;
    for (std::uint32_t limit = n - 1; limit > 0; limit >>= 8) value = value << 8 | next();
    return value % n;
  }

 private:
  std::uint32_t next() {
    if (bytes_.empty()) return 0;
    const std::uint32_t byte = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return byte;
  }

  std::span<const std::uint8_t> bytes_;
};

void check(const std::string& wrong) {
  if (!wrong.empty()) std::fprintf(stderr, "%s\n", wrong.c_str());
  FUZZ_CHECK(wrong.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using radixkv::testing::cache_model;
  using radixkv::testing::model_size;
  byte_source bytes(std::span(data, size));
  constexpr model_size pools[] = {model_size::tiny, model_size::mixed, model_size::wide};
  const std::uint32_t kind = bytes.below(6);
  cache_model model([&](std::uint32_t n) { return bytes.below(n); }, pools[kind % 3], kind >= 3);
  for (int i = 0; !bytes.empty(); ++i) {
    check(model.step());
    if (i % 16 != 0) continue;
    check(model.check_contents());
    check(model.cache().check_invariants());
  }
  check(model.check_contents());
  check(model.cache().check_invariants());
  check(model.finish());
  return 0;
}
