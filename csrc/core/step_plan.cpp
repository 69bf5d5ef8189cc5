// Validation and the binary form of a plan.
//
// Binary form, all integers little-endian 32 bits:
//     magic "rkvp", version 1, number of copies, number of logits moves,
//     per copy: source, destination, tokens;  per logits move: direction, slot, row,
//     CRC-32 of everything before it.
#include "radixkv/step_plan.h"

#include <bit>
#include <cstring>
#include <limits>
#include <new>
#include <string>

#include "csrc/core/crc32.h"
#include "csrc/core/no_memory.h"
#include "radixkv/export.h"

namespace radixkv {

namespace {

constexpr std::uint32_t magic = 0x70766b72u;  // "rkvp"
constexpr std::uint32_t version = 1;
constexpr std::size_t header_bytes = 16;
constexpr std::size_t item_bytes = 12;
constexpr std::size_t checksum_bytes = 4;

// What operations are checked against: a layout's sizes, or the widest possible ones.
struct limits {
  std::int64_t blocks = max_blocks;
  std::uint32_t block_tokens = max_block_tokens;
  std::int64_t logits_rows = std::numeric_limits<std::int32_t>::max();
};

status refuse(errc code, const char* list, std::size_t index, const char* what, std::int64_t value,
              const std::string& limit) {
  return {code, std::string("plan: ") + list + " " + std::to_string(index) + ": " + what + " " +
                    std::to_string(value) + " " + limit};
}

std::string range(std::int64_t low, std::int64_t end) {
  return "is not in [" + std::to_string(low) + ", " + std::to_string(end) + ")";
}

status check(const step_plan& plan, const limits& l, errc code) {
  for (std::size_t i = 0; i < plan.copies.size(); ++i) {
    const block_copy& c = plan.copies[i];
    if (c.source < 0 || c.source >= l.blocks) {
      return refuse(code, "copy", i, "source", c.source, range(0, l.blocks));
    }
    if (c.destination < 0 || c.destination >= l.blocks) {
      return refuse(code, "copy", i, "destination", c.destination, range(0, l.blocks));
    }
    if (c.source == c.destination) {
      return refuse(code, "copy", i, "destination", c.destination, "is its source");
    }
    if (c.tokens < 1 || c.tokens > l.block_tokens) {
      return refuse(code, "copy", i, "tokens", c.tokens,
                    range(1, l.block_tokens + std::int64_t{1}));
    }
  }
  for (std::size_t i = 0; i < plan.logits.size(); ++i) {
    const logits_move& m = plan.logits[i];
    if (m.direction > logits_direction::load) {
      return refuse(code, "logits move", i, "direction", static_cast<int>(m.direction),
                    range(0, 2));
    }
    if (m.slot < 0 || m.slot >= l.logits_rows) {
      return refuse(code, "logits move", i, "slot", m.slot, range(0, l.logits_rows));
    }
    if (m.row < 0) return refuse(code, "logits move", i, "row", m.row, "is negative");
  }
  return {};
}

class writer {
 public:
  explicit writer(std::size_t bytes) { out_.reserve(bytes); }
  void put(std::uint32_t v) {
    for (int shift = 0; shift < 32; shift += 8) out_.push_back(static_cast<std::byte>(v >> shift));
  }
  std::vector<std::byte> finish() {
    put(detail::crc32(out_));
    return std::move(out_);
  }

 private:
  std::vector<std::byte> out_;
};

// REQUIRES: at + 4 ≤ bytes.size().
std::uint32_t get(std::span<const std::byte> bytes, std::size_t at) {
  std::uint32_t v = 0;
  for (std::size_t i = 0; i < 4; ++i) v |= std::to_integer<std::uint32_t>(bytes[at + i]) << (8 * i);
  return v;
}

error corrupt(std::string what) { return {errc::corrupt, "plan: " + std::move(what)}; }

// The envelope: everything that can be wrong before an operation is looked at.
status check_envelope(std::span<const std::byte> bytes) {
  if (bytes.size() < header_bytes + checksum_bytes) {
    return corrupt(std::to_string(bytes.size()) + " bytes are less than the " +
                   std::to_string(header_bytes + checksum_bytes) + " of an empty plan");
  }
  if (const std::uint32_t m = get(bytes, 0); m != magic) {
    return corrupt("magic " + std::to_string(m) + " is not " + std::to_string(magic));
  }
  if (const std::uint32_t v = get(bytes, 4); v != version) {
    return corrupt("version " + std::to_string(v) + " is not " + std::to_string(version));
  }
  // Two 32-bit counts times 12 cannot overflow 64 bits.
  const std::uint64_t items = std::uint64_t{get(bytes, 8)} + get(bytes, 12);
  const std::uint64_t expected = header_bytes + items * item_bytes + checksum_bytes;
  if (bytes.size() != expected) {
    return corrupt(std::to_string(bytes.size()) + " bytes, but " + std::to_string(items) +
                   " operations take " + std::to_string(expected));
  }
  const std::size_t body = bytes.size() - checksum_bytes;
  const std::uint32_t stored = get(bytes, body);
  const std::uint32_t computed = detail::crc32(bytes.first(body));
  if (stored != computed) {
    return corrupt("checksum " + std::to_string(stored) + " is not " + std::to_string(computed));
  }
  return {};
}

}  // namespace

RADIXKV_EXPORT status step_plan::validate(const memory_layout& layout) const try {
  return check(*this, {layout.blocks, layout.block_tokens, layout.logits_rows},
               errc::invalid_argument);
} catch (const std::bad_alloc&) {  // only a message allocates
  return detail::no_memory("to say what is wrong");
}

RADIXKV_EXPORT std::vector<std::byte> step_plan::serialize() const try {
  writer out(header_bytes + (copies.size() + logits.size()) * item_bytes + checksum_bytes);
  out.put(magic);
  out.put(version);
  out.put(static_cast<std::uint32_t>(copies.size()));
  out.put(static_cast<std::uint32_t>(logits.size()));
  for (const block_copy& c : copies) {
    out.put(static_cast<std::uint32_t>(c.source));
    out.put(static_cast<std::uint32_t>(c.destination));
    out.put(c.tokens);
  }
  for (const logits_move& m : logits) {
    out.put(static_cast<std::uint32_t>(m.direction));
    out.put(static_cast<std::uint32_t>(m.slot));
    out.put(static_cast<std::uint32_t>(m.row));
  }
  return out.finish();
} catch (const std::bad_alloc&) {
  return {};
}

RADIXKV_EXPORT result<step_plan> step_plan::deserialize(std::span<const std::byte> bytes) try {
  if (status s = check_envelope(bytes); !s) return s.error();
  step_plan plan;
  plan.copies.resize(get(bytes, 8));
  plan.logits.resize(get(bytes, 12));
  std::size_t at = header_bytes;
  for (block_copy& c : plan.copies) {
    c.source = static_cast<block_id>(get(bytes, at));
    c.destination = static_cast<block_id>(get(bytes, at + 4));
    c.tokens = get(bytes, at + 8);
    at += item_bytes;
  }
  for (std::size_t i = 0; i < plan.logits.size(); ++i, at += item_bytes) {
    logits_move& m = plan.logits[i];
    const std::uint32_t direction = get(bytes, at);
    if (direction > 1) {  // before it is narrowed to the enumeration
      return refuse(errc::corrupt, "logits move", i, "direction", direction, range(0, 2)).error();
    }
    m.direction = static_cast<logits_direction>(direction);
    m.slot = static_cast<logits_slot>(get(bytes, at + 4));
    m.row = static_cast<std::int32_t>(get(bytes, at + 8));
  }
  if (status s = check(plan, {}, errc::corrupt); !s) return s.error();
  return plan;
} catch (const std::bad_alloc&) {
  return detail::no_memory("for a plan of", static_cast<std::int64_t>(bytes.size()), "bytes");
}

}  // namespace radixkv
