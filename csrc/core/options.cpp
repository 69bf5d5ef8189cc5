#include "radixkv/options.h"

#include <limits>
#include <new>
#include <string>

#include "csrc/core/no_memory.h"
#include "csrc/core/range_check.h"
#include "radixkv/export.h"

namespace radixkv {

using detail::check_range;

RADIXKV_EXPORT status cache_options::validate() const try {
  if (status s = check_range("blocks", blocks, 1, max_blocks); !s) return s;
  if (status s = check_range("block_tokens", block_tokens, 1, max_block_tokens); !s) return s;
  if ((block_tokens & (block_tokens - 1)) != 0) {
    return {errc::invalid_argument, "block_tokens " + std::to_string(block_tokens) +
                                        " is not a power of two in [1, " +
                                        std::to_string(max_block_tokens) + "]"};
  }
  if (status s = check_range("min_prefix_tokens", min_prefix_tokens, 0, max_sequence_tokens); !s) {
    return s;
  }
  constexpr std::int64_t max_count = std::numeric_limits<std::int32_t>::max();
  if (status s = check_range("max_prefixes", max_prefixes, 0, max_count); !s) return s;
  if (status s = check_range("logits_rows", logits_rows, 0, max_count); !s) return s;
  if (status s = check_range("max_sequences", max_sequences, 1, max_count); !s) return s;
  constexpr std::int64_t most_hints = 1 << 24;
  if (status s = check_range("max_announcements", max_announcements, 0, most_hints); !s) return s;
  if (status s = check_range("max_pinned_prefixes", max_pinned_prefixes, 0, most_hints); !s) {
    return s;
  }
  if (status s = check_range("max_quotas", max_quotas, 0, most_hints); !s) return s;
  if (status s = check_range("max_sequence_hints", max_sequence_hints, 0, most_hints); !s) return s;
  // Written so that a NaN is refused as well.
  if (!(low_watermark >= 0 && low_watermark <= 1)) {
    return {errc::invalid_argument,
            "low_watermark " + std::to_string(low_watermark) + " is not in [0, 1]"};
  }
  if (!(high_watermark >= low_watermark && high_watermark <= 1)) {
    return {errc::invalid_argument, "high_watermark " + std::to_string(high_watermark) +
                                        " is not in [low_watermark " +
                                        std::to_string(low_watermark) + ", 1]"};
  }
  if (policy.empty()) return {errc::invalid_argument, "policy is an empty name"};
  return check_range("hash_bits", hash_bits, 1, 64);
} catch (const std::bad_alloc&) {  // only a message allocates
  return detail::no_memory("to say what is wrong");
}

}  // namespace radixkv
