// The plan decoder: any bytes are refused or give a plan that encodes to the same bytes, and the
// waves of its copies are independent.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "csrc/core/crc32.h"
#include "radixkv/step_plan.h"
#include "tests/fuzz/fuzz_check.h"

namespace {

using radixkv::block_copy;
using radixkv::step_plan;

void put(std::vector<std::byte>& bytes, std::uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) {
    bytes.push_back(static_cast<std::byte>(value >> shift));
  }
}

// A well-formed envelope around arbitrary operations: mutation alone does not find a checksum.
std::vector<std::byte> enveloped(std::span<const std::byte> data) {
  constexpr std::size_t item_bytes = 12;
  const std::size_t copies_byte = data.empty() ? 0 : std::to_integer<std::size_t>(data[0]);
  const std::span<const std::byte> body = data.empty() ? data : data.subspan(1);
  const std::size_t items = body.size() / item_bytes;
  const std::size_t copies = std::min(copies_byte, items);
  std::vector<std::byte> bytes;
  put(bytes, 0x70766b72u);
  put(bytes, 1);
  put(bytes, static_cast<std::uint32_t>(copies));
  put(bytes, static_cast<std::uint32_t>(items - copies));
  bytes.insert(bytes.end(), body.begin(),
               body.begin() + static_cast<std::ptrdiff_t>(items * item_bytes));
  put(bytes, radixkv::detail::crc32(bytes));
  return bytes;
}

bool independent(const block_copy& a, const block_copy& b) {
  return a.destination != b.destination && a.destination != b.source && a.source != b.destination;
}

void check_waves(std::span<const block_copy> copies) {
  radixkv::copy_waves waves;
  std::size_t begin = 0;
  for (const std::uint32_t end : waves.split(copies)) {
    FUZZ_CHECK(end > begin && end <= copies.size());
    for (std::size_t i = begin; i < end; ++i) {
      for (std::size_t j = i + 1; j < end; ++j) FUZZ_CHECK(independent(copies[i], copies[j]));
    }
    // Longest: the next copy depends on one of this wave.
    if (end < copies.size()) {
      FUZZ_CHECK(std::any_of(copies.begin() + static_cast<std::ptrdiff_t>(begin),
                             copies.begin() + static_cast<std::ptrdiff_t>(end),
                             [&](const block_copy& c) { return !independent(c, copies[end]); }));
    }
    begin = end;
  }
  FUZZ_CHECK(begin == copies.size());
}

void check_bytes(std::span<const std::byte> bytes) {
  const auto plan = step_plan::deserialize(bytes);
  if (!plan) {
    FUZZ_CHECK(!plan.error().message.empty());
    return;
  }
  const std::vector<std::byte> again = plan->serialize();
  FUZZ_CHECK(std::equal(again.begin(), again.end(), bytes.begin(), bytes.end()));
  if (plan->copies.size() <= 128) check_waves(plan->copies);
  const radixkv::memory_layout small = radixkv::layout_nhd(
      {.blocks = 8, .block_tokens = 16, .layers = 1, .heads = 1, .head_bytes = 16});
  if (plan->validate(small).ok()) {
    for (const block_copy& c : plan->copies) {
      FUZZ_CHECK(c.source >= 0 && c.source < 8 && c.destination >= 0 && c.destination < 8);
      FUZZ_CHECK(c.tokens >= 1 && c.tokens <= 16);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size));
  check_bytes(bytes);
  check_bytes(enveloped(bytes));
  return 0;
}
