// Saved weights of a policy: any bytes are refused and change nothing, or give weights that are
// saved again as the same bytes and with which the cache goes on.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "radixkv/kv_cache.h"
#include "tests/fuzz/fuzz_check.h"

namespace {

using namespace radixkv;
using bytes = std::vector<std::byte>;

constexpr std::size_t header_bytes = 16;
constexpr std::size_t checksum_bytes = 8;

kv_cache make_cache() {
  cache_options o;
  o.blocks = 24;
  o.block_tokens = 4;
  o.clock = [now = 0.0]() mutable { return now += 1; };
  return kv_cache::create(std::move(o)).value();
}

// FNV-1a over all before it: mutation alone does not find it.
void seal(bytes& weights) {
  std::uint64_t h = 0xcbf29ce484222325u;
  const std::size_t end = weights.size() - checksum_bytes;
  for (std::size_t i = 0; i < end; ++i) {
    h = (h ^ std::to_integer<std::uint64_t>(weights[i])) * 0x100000001b3u;
  }
  for (std::size_t i = 0; i < checksum_bytes; ++i) {
    weights[end + i] = static_cast<std::byte>(h >> (8 * i));
  }
}

// Prompts that return and prompts that do not, so that keys are computed and learnt from.
void serve(kv_cache& cache) {
  for (std::uint32_t i = 0; i < 24; ++i) {
    std::vector<token_id> prompt(i % 3 == 0 ? 20 : 9, static_cast<token_id>(i % 3 == 0 ? 7 : i));
    step_plan plan;
    auto opened = cache.open(prompt, "", plan);
    FUZZ_CHECK(opened.ok());
    FUZZ_CHECK(opened->mark_filled(opened->tokens()).ok() && opened->commit().ok());
  }
  FUZZ_CHECK(cache.check_invariants().empty());
}

void check(std::span<const std::byte> weights) {
  kv_cache cache = make_cache();
  const bytes before = cache.save_policy().value();
  if (const status loaded = cache.load_policy(weights); !loaded.ok()) {
    FUZZ_CHECK(loaded.error().code == errc::corrupt && !loaded.error().message.empty());
    FUZZ_CHECK(cache.save_policy().value() == before);
    return;
  }
  for (std::size_t i = header_bytes; i + checksum_bytes < weights.size(); i += sizeof(float)) {
    float weight;
    std::memcpy(&weight, weights.data() + i, sizeof weight);
    FUZZ_CHECK(std::isfinite(weight));
  }
  const bytes after = cache.save_policy().value();
  FUZZ_CHECK(std::equal(after.begin(), after.end(), weights.begin(), weights.end()));
  serve(cache);
}

}  // namespace

// The bytes themselves; and as changes of sound weights, four bytes each at a place of two bytes,
// sealed again.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bytes sound = make_cache().save_policy().value();
  check(std::as_bytes(std::span(data, size)));
  bytes weights = sound;
  constexpr std::size_t change = 6;
  for (std::size_t i = 0; i + change <= size; i += change) {
    const std::size_t place = (data[i] | std::size_t{data[i + 1]} << 8) % (weights.size() - 4);
    std::memcpy(weights.data() + place, data + i + 2, 4);
  }
  seal(weights);
  check(weights);
  return 0;
}
