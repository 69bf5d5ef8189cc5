#include "csrc/cli/floor_meter.h"

#include <chrono>
#include <cstring>

namespace radixkv::cli {

status floor_meter::prepare(std::uint64_t capacity_tokens) {
  if (status s = equal_.allocate(capacity_tokens, "tokens to compare with"); !s) return s;
  if (status s = ring_.allocate(capacity_tokens, "tokens to copy to"); !s) return s;
  equal_.commit();
  ring_.commit();
  return {};
}

status floor_meter::measure(const prompt_buffer& prompts, std::size_t first,
                            std::span<const std::uint32_t> matched) {
  using clock = std::chrono::steady_clock;
  const std::uint64_t capacity = equal_.tokens();
  std::size_t done = 0;
  while (done < matched.size()) {
    // Not timed: equal tokens for as many requests as fit. The first of them are compared long
    // after they were written, the last ones sooner: about as cold as a cache's own tokens are.
    std::size_t end = done;
    for (std::uint64_t used = 0; end < matched.size(); ++end) {
      const std::uint64_t tokens = matched[end];
      if (tokens > capacity || used + tokens > capacity) break;
      std::memcpy(equal_.data() + used, prompts.prompt(first + end).data(),
                  tokens * sizeof(token_id));
      used += tokens;
    }
    if (end == done) {
      ++done;  // larger than the capacity: the cache refused it, too
      continue;
    }
    bool equal = true;
    const token_id* compared = equal_.data();
    const auto start = clock::now();
    for (std::size_t i = done; i < end; ++i) {
      const std::span<const token_id> prompt = prompts.prompt(first + i);
      const std::uint64_t fresh = prompt.size() - matched[i];
      if (prompt.size() > capacity) continue;
      equal &= std::memcmp(prompt.data(), compared, matched[i] * sizeof(token_id)) == 0;
      compared += matched[i];
      if (ring_at_ + fresh > capacity) ring_at_ = 0;
      std::memcpy(ring_.data() + ring_at_, prompt.data() + matched[i], fresh * sizeof(token_id));
      ring_at_ += fresh;
      ++requests_;
    }
    nanoseconds_ += std::chrono::duration<double, std::nano>(clock::now() - start).count();
    if (!equal) return {errc::corrupt, "equal tokens compared as different"};
    done = end;
  }
  return {};
}

}  // namespace radixkv::cli
